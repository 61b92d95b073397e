package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/broker/token/tokentest"
	usher "github.com/usher-broker/usher/client-sdk/go"
	"github.com/usher-broker/usher/proto"
)

// TestStolenToken uses the token of a connected player without the player's key, at
// auth and at the node. Every use must be refused, and the player must not be
// disturbed. With the key, another process can take the session over.
func TestStolenToken(t *testing.T) {
	c := startCluster(t, 2)
	ec := startEchoClient(t, usher.Config{Auth: c.url(""), Credentials: usher.Guest("ada")}, 20*time.Millisecond)
	at := ec.session.Assignment()
	for _, path := range []string{"/v1/reconnect", "/v1/logout"} {
		if a := post(t, c.url(path), at.Token, "{}"); a.status != 401 || a.problem.Code != proto.ProblemInvalidProof {
			t.Errorf("%s without a proof: %v", path, a)
		}
	}
	_, resp, err := websocket.Dial(t.Context(), at.Node.URL, &websocket.DialOptions{
		HTTPClient: web, HTTPHeader: http.Header{"Authorization": {"Bearer " + at.Token}}, Subprotocols: []string{proto.Subprotocol},
	})
	if err == nil || resp == nil || resp.StatusCode != 401 {
		t.Errorf("attaching without a proof: %v, %v", resp, err)
	}
	other, err := usher.Connect(t.Context(), usher.Config{Auth: c.url(""), Assignment: &at, Key: tokentest.NewHolder(0).Key})
	if err == nil {
		other.Close(t.Context())
		t.Error("a client without the player's key attached")
	}
	var end *usher.EndedError
	if !errors.As(err, &end) || end.Reason != proto.ProblemInvalidProof {
		t.Errorf("a client without the player's key: %v, want the reason invalid_proof", err)
	}
	awaitEchoes(t, []*echoClient{ec}, 10*time.Second)
	if states, resets, _ := ec.view(); len(states) != 1 || len(resets) != 0 {
		t.Errorf("the player was disturbed: %v, resets %q", states, resets)
	}

	// Another process that has the key can attach and log out.
	next, err := usher.Connect(t.Context(), usher.Config{Auth: c.url(""), Assignment: &at, Key: ec.session.Key()})
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Logout(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestReplays sends one proof many times in parallel, to two auths and then to a
// node. Exactly one use of each proof must succeed.
func TestReplays(t *testing.T) {
	c := startCluster(t, 1)
	other := c.startAuth("auth-2")
	owner := tokentest.NewHolder(0)
	login := post(t, c.url("/v1/login"), "", `{"method":"guest","credentials":{"name":"ada"},"cnf":{"jwk":`+owner.JWK()+`}}`)
	if login.status != 200 {
		t.Fatal(login)
	}
	at := login.at
	n := uint64(time.Now().UnixMilli())
	replays := pick(500, 10_000)

	// race calls use for 1 to replays in parallel. use returns 0 if its proof was
	// accepted, and 1 if it was refused as used.
	race := func(name string, use func(i int) int) {
		var mu sync.Mutex
		var wg sync.WaitGroup
		got := map[int]int{}
		var next atomic.Int64
		for range 32 {
			wg.Go(func() {
				for i := int(next.Add(1)); i <= replays; i = int(next.Add(1)) {
					result := use(i)
					mu.Lock()
					got[result]++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		t.Logf("%s: %v", name, got)
		if got[0] != 1 || got[1] != replays-1 {
			t.Errorf("%s: results %v, want one success of %d", name, got, replays)
		}
	}
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer client.CloseIdleConnections()
	proof := owner.Proof(proto.ProofReconnect, at.Token, n)
	race("/v1/reconnect", func(i int) int {
		url := c.url("/v1/reconnect")
		if i%2 == 0 {
			url = "http://" + other.listen + "/v1/reconnect"
		}
		for {
			req, err := http.NewRequest("POST", url, nil)
			if err != nil {
				t.Error(err)
				return -1
			}
			req.Header.Set("Authorization", "Bearer "+at.Token)
			req.Header.Set(proto.HeaderProof, proof)
			resp, err := client.Do(req)
			if err != nil {
				t.Error(err)
				return -1
			}
			drain(resp)
			switch resp.StatusCode {
			case 200:
				return 0
			case 409:
				return 1
			case 503: // auth is overloaded
				time.Sleep(50 * time.Millisecond)
			default:
				return resp.StatusCode
			}
		}
	})
	proof = owner.Proof(proto.ProofAttach, at.Token, n+1)
	var attached sync.Map
	race("attaching", func(i int) int {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		ws, _, err := websocket.Dial(ctx, at.Node.URL, &websocket.DialOptions{
			HTTPClient: web, HTTPHeader: http.Header{"Authorization": {"Bearer " + at.Token}, proto.HeaderProof: {proof}}, Subprotocols: []string{proto.Subprotocol},
		})
		if err != nil {
			t.Error(err)
			return -1
		}
		if _, _, err := ws.Read(ctx); err == nil {
			attached.Store(i, ws)
			return 0
		} else if websocket.CloseStatus(err) == websocket.StatusCode(proto.CloseStaleProof) {
			ws.CloseNow()
			return 1
		} else {
			t.Error(fmt.Errorf("closed with %d", websocket.CloseStatus(err)))
			return -2
		}
	})
	attached.Range(func(_, ws any) bool { return ws.(*websocket.Conn).CloseNow() == nil })
}
