package cluster

import (
	"bytes"
	"fmt"
	"net"
	"testing"
)

// Members change their key one by one, in three steps, and stay connected all the
// time.
func TestChangeKeys(t *testing.T) {
	one, two := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	var r recorder
	auth, node := authConfig("a"), nodeConfig("n")
	auth.Key, node.Key, auth.Events = one, one, r.events()
	a, n := pair(t, auth, node)
	live := uint32(0)
	checkConnected := func(when string) {
		t.Helper()
		live++
		p := node.Self
		p.Live = live
		if err := n.SetSelf(p); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a change, "+when, func() bool { return r.peer("n").Live == live })
	}
	for i, step := range []struct {
		key    []byte
		others [][]byte
	}{{one, [][]byte{two}}, {two, [][]byte{one}}, {two, nil}} {
		for j, c := range []*Cluster{n, a} {
			if err := c.SetKeys(step.key, step.others); err != nil {
				t.Fatal(err)
			}
			checkConnected(fmt.Sprintf("with step %d at %d of the two", i+1, j+1))
		}
	}
	if w := a.Health().Warnings + n.Health().Warnings; w != 0 {
		t.Errorf("%d warnings during the change", w)
	}
	// The old key is no longer accepted.
	late := nodeConfig("late", a.Addr())
	late.Key = one
	l := start(t, late)
	eventually(t, "the old key to fail", func() bool { return l.Health().LastError != nil })
	if len(a.Members()) != 2 {
		t.Errorf("members %v", a.Members())
	}
	// A member that starts during a change has both keys.
	middle := nodeConfig("middle", a.Addr())
	middle.Key, middle.OldKeys = two, [][]byte{one}
	start(t, middle)
	eventually(t, "the member with both keys", func() bool { return r.knows("middle") })

	if err := a.SetKeys([]byte("short"), nil); err == nil {
		t.Error("a short key was accepted")
	}
	if err := start(t, nodeConfig("open")).SetKeys(one, nil); err == nil {
		t.Error("a member without a key accepted one")
	}
}

func TestBindRange(t *testing.T) {
	const first = 21_500
	var ports []int
	for i := range 3 {
		cfg := nodeConfig(fmt.Sprint("n", i))
		cfg.Bind = fmt.Sprintf("127.0.0.1:%d-%d", first, first+2)
		c, err := Join(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		at, err := net.ResolveTCPAddr("tcp", c.Addr())
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, at.Port)
	}
	if ports[0] != first || ports[1] != first+1 || ports[2] != first+2 {
		t.Errorf("bound %v", ports)
	}
	for _, bind := range []string{
		fmt.Sprintf("127.0.0.1:%d-%d", first, first+2), "127.0.0.1:2-1", "127.0.0.1:0-9", "127.0.0.1:1-70000", "127.0.0.1:1-9000", "127.0.0.1:-5",
	} {
		cfg := nodeConfig("more")
		cfg.Bind = bind
		if c, err := Join(t.Context(), cfg); err == nil {
			c.Close()
			t.Errorf("%s was bound", bind)
		}
	}
}
