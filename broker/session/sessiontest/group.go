package sessiontest

import (
	"crypto/rand"
	"fmt"
	"time"
)

// bound fails the test unless Group answers with the node.
func (f *fixture) bound(group, want, replace, node string) {
	f.Helper()
	got, err := f.Group(f.Context(), group, want, replace, long)
	f.must(err)
	if got != node {
		f.Fatalf("bound to %q, want %q", got, node)
	}
}

func newGroup() string { return "match-" + rand.Text() }

var groupTests = []test{
	{"Group binds one that is free", func(f *fixture) {
		f.bound(newGroup(), "node-1", "", "node-1")
		f.bound(newGroup(), "node-1", "node-2", "node-1")
	}},
	{"Group that is bound stays bound", func(f *fixture) {
		g := newGroup()
		f.bound(g, "node-1", "", "node-1")
		f.bound(g, "node-2", "", "node-1")
		f.bound(g, "node-2", "node-3", "node-1") // bound to another than the one to replace
	}},
	{"Group is given from one node to another", func(f *fixture) {
		g := newGroup()
		f.bound(g, "node-1", "", "node-1")
		f.bound(g, "node-2", "node-1", "node-2")
		f.bound(g, "node-3", "node-1", "node-2") // too late
		f.bound(g, "node-3", "", "node-2")
		f.bound(g, "node-2", "node-1", "node-2") // repeated
	}},
	{"Groups are apart", func(f *fixture) {
		a, b := newGroup(), newGroup()
		f.bound(a, "node-1", "", "node-1")
		f.bound(b, "node-2", "", "node-2")
		f.bound(a, "node-2", "", "node-1")
	}},
	{"Group is forgotten after its ttl", func(f *fixture) {
		g := newGroup()
		f.bound(g, "node-1", "", "node-1")
		f.advance(2 * long)
		f.bound(g, "node-2", "", "node-2")
	}},
	{"Group starts its ttl anew whenever it is asked for", func(f *fixture) {
		g := newGroup()
		f.bound(g, "node-1", "", "node-1")
		for range 3 {
			f.advance(long - 10*time.Minute)
			f.bound(g, "node-2", "", "node-1")
		}
	}},
	{"Group asked for by many at once: one node, for all", func(f *fixture) {
		g := newGroup()
		f.allBound(g, "")
		f.allBound(g, f.groupOf(g))
	}},
}

// allBound has many ask for the group at once, each with a wish of its own.
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

func (f *fixture) groupOf(group string) string {
	f.Helper()
	node, err := f.Group(f.Context(), group, "nobody", "", long)
	f.must(err)
	return node
}
