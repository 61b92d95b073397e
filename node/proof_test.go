package node

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/broker/token/tokentest"
	"github.com/usher-broker/usher/proto"
)

// bound is login with tokens bound to the key.
func (r *rig) bound(user string, h tokentest.Holder) proto.Claims {
	c := r.login(user)
	c.Confirm = h.Confirmation()
	return c
}

// show attaches with a proof, and returns the close code, 0 with the connection if
// it was let in.
func (r *rig) show(c proto.Claims, proof string) (int, *client) {
	r.t.Helper()
	ws, _, err := websocket.Dial(r.t.Context(), r.url(""), &websocket.DialOptions{
		Subprotocols: []string{proto.Subprotocol, proto.ProofSubprotocolPrefix + proof},
		HTTPHeader:   http.Header{"Authorization": {"Bearer " + tokenOf(c)}},
	})
	if err != nil {
		r.t.Error(err)
		return -1, nil
	}
	cl := &client{t: r.t, ws: ws}
	if _, _, err := cl.read(); err != nil {
		ws.CloseNow()
		return int(websocket.CloseStatus(err)), nil
	}
	r.t.Cleanup(func() { ws.CloseNow() })
	return 0, cl
}

func TestStolenTokenIsOfNoUse(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	owner, thief := tokentest.NewHolder(1), tokentest.NewHolder(2)
	c := r.bound("ada", owner)
	raw := tokenOf(c)
	refused := func(name string, header http.Header) {
		t.Helper()
		h := upgradeHeader("Authorization", "Bearer "+raw)
		for k, v := range header {
			h[k] = v
		}
		resp := r.handshake(t, "GET", "", h)
		var p proto.Problem
		if err := json.NewDecoder(resp.Body).Decode(&p); err != nil || resp.StatusCode != 401 || p.Code != proto.ProblemInvalidProof {
			t.Errorf("%s: %d %+v, %v", name, resp.StatusCode, p, err)
		}
	}
	with := func(proofs ...string) http.Header { return http.Header{proto.HeaderProof: proofs} }
	refused("no proof", nil)
	refused("another's key", with(thief.Proof(proto.ProofAttach, raw, 1)))
	refused("made for /v1/reconnect", with(owner.Proof(proto.ProofReconnect, raw, 1)))
	refused("made for another token", with(owner.Proof(proto.ProofAttach, raw+"x", 1)))
	refused("twice", with(owner.Proof(proto.ProofAttach, raw, 1), owner.Proof(proto.ProofAttach, raw, 2)))
	refused("garbage", with("x.y.z"))
	if _, live, _ := r.node.Load(); live != 0 {
		t.Fatalf("%d sessions after refusals", live)
	}

	first := owner.Proof(proto.ProofAttach, raw, 10)
	code, cl := r.show(c, first)
	if code != 0 {
		t.Fatalf("the owner: %d", code)
	}
	for name, proof := range map[string]string{"the same": first, "one before": owner.Proof(proto.ProofAttach, raw, 9)} {
		if code, _ := r.show(c, proof); code != int(proto.CloseStaleProof) {
			t.Errorf("%s: %d", name, code)
		}
	}
	cl.send(text("still here")) // whoever comes with what was used disturbs nobody
	if m := cl.message(); string(m.Data) != "still here" {
		t.Errorf("got %q", m.Data)
	}
	if code, _ := r.show(c, owner.Proof(proto.ProofAttach, raw, 11)); code != 0 {
		t.Errorf("the owner again: %d", code)
	}
	plain := r.login("bob") // bound to nothing: what comes along is not looked at
	if code, _ := r.show(plain, "x.y.z"); code != 0 {
		t.Errorf("without a key: %d", code)
	}
}

// While the store is away the node itself remembers what was used.
func TestReplayWhileTheStoreIsAway(t *testing.T) {
	var away *awayStore
	r := newRig(t, Echo{}, func(c *Config) { away = &awayStore{Store: c.Store}; c.Store = away })
	owner := tokentest.NewHolder(1)
	c := r.bound("ada", owner)
	raw := tokenOf(c)
	proof := owner.Proof(proto.ProofAttach, raw, 10)
	if code, _ := r.show(c, proof); code != 0 {
		t.Fatal(code)
	}
	away.away.Store(true)
	if code, _ := r.show(c, proof); code != int(proto.CloseStaleProof) {
		t.Errorf("a replay: %d", code)
	}
	if code, _ := r.show(c, owner.Proof(proto.ProofAttach, raw, 11)); code != 0 {
		t.Errorf("a new one: %d", code)
	}
}

// Of many who show one proof at the same time, one is let in.
func TestReplayRace(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	owner := tokentest.NewHolder(1)
	c := r.bound("ada", owner)
	proof := owner.Proof(proto.ProofAttach, tokenOf(c), 10)
	var in, stale atomic.Int64
	done := make(chan struct{})
	const atOnce, each = 20, 15
	for range atOnce {
		go func() {
			defer func() { done <- struct{}{} }()
			for range each {
				switch code, _ := r.show(c, proof); code {
				case 0:
					in.Add(1)
				case int(proto.CloseStaleProof):
					stale.Add(1)
				default:
					t.Error(fmt.Errorf("closed with %d", code))
				}
			}
		}()
	}
	for range atOnce {
		<-done
	}
	if in.Load() != 1 || stale.Load() != atOnce*each-1 {
		t.Errorf("%d let in, %d stale", in.Load(), stale.Load())
	}
}
