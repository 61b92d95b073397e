package node

import (
	"fmt"
	"testing"
)

// Everybody who is attached hears what one says, and nobody who is not.
func TestFan(t *testing.T) {
	r := newRig(t, &Fan{}, nil)
	claims := r.login("bob")
	ada, bob, eve := r.attach(r.login("ada"), ""), r.attach(claims, ""), r.attach(r.login("eve"), "")
	hear := func(want string, all ...*client) {
		t.Helper()
		for _, c := range all {
			if m := c.message(); string(m.Data) != want {
				t.Errorf("heard %q, not %q", m.Data, want)
			}
		}
	}
	r.present(3)
	ada.send(text("one"))
	hear("one", ada, bob, eve)
	stream := bob.welcome.Stream
	bob.ws.CloseNow()
	r.present(2)
	ada.send(text("two"))
	hear("two", ada, eve)
	bob = r.attach(claims, resumeQuery(stream, 1))
	r.present(3)
	ada.send(text("three"))
	hear("three", ada, bob, eve)
}

// present waits until the node's Fan knows of so many sessions.
func (r *rig) present(n int) {
	r.t.Helper()
	eventually(r.t, func() error {
		f := r.node.cfg.App.(*Fan)
		f.mu.RLock()
		defer f.mu.RUnlock()
		if len(f.here) != n {
			return fmt.Errorf("%d sessions are there, not %d", len(f.here), n)
		}
		return nil
	})
}
