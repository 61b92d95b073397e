package node

import (
	"fmt"
	"testing"
)

// Each message is delivered to all attached sessions, and to no detached one.
func TestFan(t *testing.T) {
	r := newRig(t, &Fan{}, nil)
	claims := r.login("bob")
	ada, bob, eve := r.attach(r.login("ada"), ""), r.attach(claims, ""), r.attach(r.login("eve"), "")
	expect := func(want string, recipients ...*client) {
		t.Helper()
		for _, c := range recipients {
			if m := c.message(); string(m.Data) != want {
				t.Errorf("got %q, want %q", m.Data, want)
			}
		}
	}
	r.awaitFanSize(3)
	ada.send(text("one"))
	expect("one", ada, bob, eve)
	stream := bob.welcome.Stream
	bob.ws.CloseNow()
	r.awaitFanSize(2)
	ada.send(text("two"))
	expect("two", ada, eve)
	bob = r.attach(claims, resumeQuery(stream, 1))
	r.awaitFanSize(3)
	ada.send(text("three"))
	expect("three", ada, bob, eve)
}

// awaitFanSize waits until the node's Fan has n sessions.
func (r *rig) awaitFanSize(n int) {
	r.t.Helper()
	eventually(r.t, func() error {
		f := r.node.cfg.App.(*Fan)
		f.mu.RLock()
		defer f.mu.RUnlock()
		if len(f.attached) != n {
			return fmt.Errorf("%d sessions are there, not %d", len(f.attached), n)
		}
		return nil
	})
}
