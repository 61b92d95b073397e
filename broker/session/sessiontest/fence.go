package sessiontest

import (
	"github.com/usher-broker/usher/broker/session"
)

// fenced returns what a node is told.
func (f *fixture) fenced(node string) string {
	f.Helper()
	text, err := f.Fenced(f.Context(), node)
	f.must(err)
	return text
}

var fenceTests = []test{
	{"Fence changes what its node is told, each time, and no other's", func(f *fixture) {
		node, other := "node-of-"+f.user, "other-of-"+f.user
		seen := map[string]bool{f.fenced(node): true}
		before := f.fenced(other)
		for range 3 {
			f.must(f.Fence(f.Context(), node))
			now := f.fenced(node)
			if seen[now] || f.fenced(node) != now {
				f.Errorf("told %q after %v", now, seen)
			}
			seen[now] = true
		}
		if now := f.fenced(other); now != before {
			f.Errorf("another node was told %q, before that %q", now, before)
		}
	}},
	{"Fence by a caller that has given up", func(f *fixture) {
		f.is(f.Fence(cancelled(), "node-1"), session.ErrUnavailable)
		f.is(errOf(f.Fenced(cancelled(), "node-1")), session.ErrUnavailable)
	}},
}
