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

// loginBound is login with tokens that are bound to the key.
func (r *rig) loginBound(user string, h tokentest.Holder) proto.Claims {
	c := r.login(user)
	c.Confirm = h.Confirmation()
	return c
}

// attachWithProof attaches with a proof. It returns the close code, or 0 and the
// connection if the client was accepted.
func (r *rig) attachWithProof(c proto.Claims, proof string) (int, *client) {
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

func TestStolenTokenIsRefused(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	owner, thief := tokentest.NewHolder(1), tokentest.NewHolder(2)
	c := r.loginBound("ada", owner)
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
	code, cl := r.attachWithProof(c, first)
	if code != 0 {
		t.Fatalf("the owner: %d", code)
	}
	for name, proof := range map[string]string{"the same": first, "one before": owner.Proof(proto.ProofAttach, raw, 9)} {
		if code, _ := r.attachWithProof(c, proof); code != int(proto.CloseStaleProof) {
			t.Errorf("%s: %d", name, code)
		}
	}
	cl.send(text("still here")) // a replayed proof does not disturb the session
	if m := cl.message(); string(m.Data) != "still here" {
		t.Errorf("got %q", m.Data)
	}
	if code, _ := r.attachWithProof(c, owner.Proof(proto.ProofAttach, raw, 11)); code != 0 {
		t.Errorf("the owner again: %d", code)
	}
	plain := r.login("bob") // not bound to a key: the proof is ignored
	if code, _ := r.attachWithProof(plain, "x.y.z"); code != 0 {
		t.Errorf("without a key: %d", code)
	}
}

// While the store is unavailable, the node itself remembers the last proof.
func TestReplayWhileStoreUnavailable(t *testing.T) {
	var store *unavailableStore
	r := newRig(t, Echo{}, func(c *Config) { store = &unavailableStore{Store: wholeStore(c)}; c.Store = store })
	owner := tokentest.NewHolder(1)
	c := r.loginBound("ada", owner)
	raw := tokenOf(c)
	proof := owner.Proof(proto.ProofAttach, raw, 10)
	if code, _ := r.attachWithProof(c, proof); code != 0 {
		t.Fatal(code)
	}
	store.down.Store(true)
	if code, _ := r.attachWithProof(c, proof); code != int(proto.CloseStaleProof) {
		t.Errorf("a replay: %d", code)
	}
	if code, _ := r.attachWithProof(c, owner.Proof(proto.ProofAttach, raw, 11)); code != 0 {
		t.Errorf("a new one: %d", code)
	}
}

// If many clients attach with the same proof at the same time, one is accepted.
func TestReplayRace(t *testing.T) {
	r := newRig(t, Echo{}, nil)
	owner := tokentest.NewHolder(1)
	c := r.loginBound("ada", owner)
	proof := owner.Proof(proto.ProofAttach, tokenOf(c), 10)
	var in, stale atomic.Int64
	done := make(chan struct{})
	const atOnce, each = 20, 15
	for range atOnce {
		go func() {
			defer func() { done <- struct{}{} }()
			for range each {
				switch code, _ := r.attachWithProof(c, proof); code {
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
		t.Errorf("%d accepted, %d stale", in.Load(), stale.Load())
	}
}
