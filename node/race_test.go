package node

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// Two clients attach with one session at two nodes at the same moment, while the
// session moves from one node to the other, many times. One client gets the session,
// and the other is refused.
func TestAttachRaces(t *testing.T) {
	races := 400
	if os.Getenv("USHER_SLOW") != "" {
		races = 10_000
	}
	a := newRig(t, Echo{}, nil)
	b := newRig(t, Echo{}, func(c *Config) { c.ID, c.Store = "node-2", a.store })
	won := map[string]int{}
	for i := range races {
		claims := a.login(fmt.Sprint("racer-", i))
		if i%2 == 0 { // both nodes get the same token
			won[a.raceOneToken(b, claims)]++
		} else { // the session moves in the meantime
			won[a.raceMove(b, claims)]++
		}
	}
	t.Logf("%d races, won by %v", races, won)
}

// raceOneToken attaches with the same token at both nodes.
func (r *rig) raceOneToken(b *rig, claims proto.Claims) string {
	r.t.Helper()
	return oneWins(r.t, claims, func() (*websocket.Conn, bool) { return r.try(claims) }, func() (*websocket.Conn, bool) { return b.try(claims) }, r, b)
}

// raceMove attaches at the first node while the session is reassigned to the second.
func (r *rig) raceMove(b *rig, claims proto.Claims) string {
	r.t.Helper()
	return oneWins(r.t, claims,
		func() (*websocket.Conn, bool) { return r.try(claims) },
		func() (*websocket.Conn, bool) {
			rec, err := r.store.Reassign(context.Background(), session.NewRequest(), session.Record{ID: claims.Session, Epoch: 1}, "node-2", time.Minute)
			if err != nil {
				r.t.Error(err)
				return nil, false
			}
			r.node.Command(context.Background(), "auth-1", proto.Command{Op: proto.OpMoved, Session: claims.Session, Epoch: rec.Epoch})
			next := claims
			next.Node, next.Epoch = "node-2", rec.Epoch
			return b.try(next)
		}, r, b)
}

// try attaches and reports whether it got a welcome.
func (r *rig) try(claims proto.Claims) (*websocket.Conn, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, r.url(""), &websocket.DialOptions{
		Subprotocols: []string{proto.Subprotocol},
		HTTPHeader:   http.Header{"Authorization": {"Bearer " + tokenOf(claims)}},
	})
	if err != nil {
		r.t.Error(err)
		return nil, false
	}
	_, _, err = ws.Read(ctx)
	return ws, err == nil
}

// oneWins runs both functions at once and returns the node that has the session. In
// the end exactly one node serves it.
func oneWins(t testing.TB, claims proto.Claims, first, second func() (*websocket.Conn, bool), rigs ...*rig) string {
	t.Helper()
	var both sync.WaitGroup
	var conns [2]*websocket.Conn
	var welcome [2]bool
	for i, f := range []func() (*websocket.Conn, bool){first, second} {
		both.Go(func() { conns[i], welcome[i] = f() })
	}
	both.Wait()
	defer func() {
		for _, c := range conns {
			if c != nil {
				_ = c.CloseNow()
			}
		}
	}()
	winner := ""
	eventually(t, func() error {
		var owners []string
		for _, r := range rigs {
			if s := r.node.session(claims.Session); s != nil && !s.owns(nil) {
				owners = append(owners, r.node.cfg.ID)
			}
		}
		rec, err := rigs[0].store.Get(context.Background(), claims.Session)
		if err != nil || len(owners) != 1 || owners[0] != rec.Node {
			return fmt.Errorf("attached at %q, the record is %+v, %v", owners, rec, err)
		}
		winner = owners[0]
		return nil
	})
	if !welcome[0] && !welcome[1] {
		t.Error("neither client was accepted")
	}
	return winner
}
