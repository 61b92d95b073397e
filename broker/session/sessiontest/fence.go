package sessiontest

import (
	"github.com/usher-broker/usher/broker/session"
)

// fenced returns the fence text of the node.
func (f *fixture) fenced(node string) string {
	f.Helper()
	text, err := f.Fenced(f.Context(), node)
	f.must(err)
	return text
}

var fenceTests = []test{
	{"Fence changes the text of its node each time, and of no other node", func(f *fixture) {
		node, other := "node-of-"+f.user, "other-of-"+f.user
		seen := map[string]bool{f.fenced(node): true}
		before := f.fenced(other)
		for range 3 {
			f.must(f.Fence(f.Context(), node))
			now := f.fenced(node)
			if seen[now] || f.fenced(node) != now {
				f.Errorf("text %q after %v", now, seen)
			}
			seen[now] = true
		}
		if now := f.fenced(other); now != before {
			f.Errorf("text of another node %q, before that %q", now, before)
		}
	}},
	{"Fence with a cancelled context: ErrUnavailable", func(f *fixture) {
		f.is(f.Fence(cancelled(), "node-1"), session.ErrUnavailable)
		f.is(errOf(f.Fenced(cancelled(), "node-1")), session.ErrUnavailable)
	}},
}
