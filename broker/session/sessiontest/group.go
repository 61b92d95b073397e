package sessiontest

import (
	"crypto/rand"
	"fmt"
	"time"
)

// bound fails the test unless Group, asked to bind the group to node, returns want.
func (f *fixture) bound(group, node, replace, want string) {
	f.Helper()
	got, err := f.Group(f.Context(), group, node, replace, long)
	f.must(err)
	if got != want {
		f.Fatalf("bound to %q, want %q", got, want)
	}
}

func newGroup() string { return "match-" + rand.Text() }

var groupTests = []test{
	{"Group binds a free group", func(f *fixture) {
		f.bound(newGroup(), "node-1", "", "node-1")
		f.bound(newGroup(), "node-1", "node-2", "node-1")
	}},
	{"Group leaves a bound group where it is", func(f *fixture) {
		g := newGroup()
		f.bound(g, "node-1", "", "node-1")
		f.bound(g, "node-2", "", "node-1")
		f.bound(g, "node-2", "node-3", "node-1") // it is not bound to the node to replace
	}},
	{"Group replaces one node by another", func(f *fixture) {
		g := newGroup()
		f.bound(g, "node-1", "", "node-1")
		f.bound(g, "node-2", "node-1", "node-2")
		f.bound(g, "node-3", "node-1", "node-2") // too late
		f.bound(g, "node-3", "", "node-2")
		f.bound(g, "node-2", "node-1", "node-2") // repeated
	}},
	{"Groups are independent", func(f *fixture) {
		a, b := newGroup(), newGroup()
		f.bound(a, "node-1", "", "node-1")
		f.bound(b, "node-2", "", "node-2")
		f.bound(a, "node-2", "", "node-1")
	}},
	{"Group expires after its ttl", func(f *fixture) {
		g := newGroup()
		f.bound(g, "node-1", "", "node-1")
		f.advance(2 * long)
		f.bound(g, "node-2", "", "node-2")
	}},
	{"Group starts the ttl again with each call", func(f *fixture) {
		g := newGroup()
		f.bound(g, "node-1", "", "node-1")
		for range 3 {
			f.advance(long - 10*time.Minute)
			f.bound(g, "node-2", "", "node-1")
		}
	}},
	{"Group by many at once: all get the same node", func(f *fixture) {
		g := newGroup()
		f.allBound(g, "")
		f.allBound(g, f.groupOf(g))
	}},
}

// allBound calls Group many times at once, each time with another node, and fails the
// test unless all calls return the same one.
func (f *fixture) allBound(group, replace string) {
	f.Helper()
	var nodes [16]string
	atOnce(len(nodes), func(i int) {
		var err error
		if nodes[i], err = f.Group(f.Context(), group, fmt.Sprintf("%s-%d", rand.Text(), i), replace, long); err != nil {
			f.Error(err)
		}
	})
	for _, n := range nodes {
		if n != nodes[0] || n == replace {
			f.Fatalf("bound to %q, replacing %q", nodes, replace)
		}
	}
}

// groupOf returns the node that the group is bound to.
func (f *fixture) groupOf(group string) string {
	f.Helper()
	node, err := f.Group(f.Context(), group, "node-9", "", long)
	f.must(err)
	return node
}
