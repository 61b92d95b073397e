package sessiontest

import (
	"errors"
	"slices"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// joins calls Group for the session with node. It fails the test unless the group is
// bound to want then and has the other members, oldest first.
func (f *fixture) joins(group, sid, node, want string, others ...string) session.Bound {
	f.Helper()
	b, err := f.Store.Group(f.Context(), group, sid, node, "", long)
	f.must(err)
	if b.Node != want || !slices.Equal(b.Others, others) {
		f.Fatalf("%+v, want %s with %q", b, want, others)
	}
	return b
}

// member returns a new session in a group that no other user has.
func (f *fixture) member(pool string) session.Record {
	f.Helper()
	d := f.draft()
	d.ID, d.Pool, d.Group = session.NewID(f.user), pool, "group of "+f.user
	r, err := f.Create(f.Context(), session.NewRequest(), d, long)
	f.must(err)
	return r
}

var memberTests = []test{
	{"Group returns the other members", func(f *fixture) {
		g := newGroup()
		if b := f.joins(g, "a", "node-1", "node-1"); b.Young {
			f.Error("Young is set without another member")
		}
		if b := f.joins(g, "b", "node-2", "node-1", "a"); !b.Young {
			f.Error("Young is not set, and the other member has just joined")
		}
		f.joins(g, "a", "node-2", "node-1", "b") // repeated
		f.joins(g, "", "node-2", "node-1", "a", "b")
		names := []string{"a", "b"}
		for _, sid := range []string{"c", "d", "e", "f", "g", "h", "i", "j", "k"} {
			f.joins(g, sid, "node-2", "node-1", names[:min(len(names), session.GroupOthers)]...)
			names = append(names, sid)
		}
	}},
	{"Group is free after its last member has left", func(f *fixture) {
		g := newGroup()
		f.joins(g, "a", "node-1", "node-1")
		f.joins(g, "b", "node-2", "node-1", "a")
		f.must(f.Ungroup(f.Context(), g, "a"))
		f.must(f.Ungroup(f.Context(), g, "a"))
		f.must(f.Ungroup(f.Context(), g, "never there"))
		f.joins(g, "c", "node-2", "node-1", "b")
		f.must(f.Ungroup(f.Context(), g, "b"))
		f.must(f.Ungroup(f.Context(), g, "c"))
		f.joins(g, "d", "node-2", "node-2")
		f.must(f.Ungroup(f.Context(), newGroup(), "a"))
	}},
	{"Group has no members of an expired group of the same name", func(f *fixture) {
		g := newGroup()
		f.joins(g, "a", "node-1", "node-1")
		f.advance(2 * long)
		f.joins(g, "b", "node-2", "node-2")
	}},
	{"Grouped returns the node and changes nothing", func(f *fixture) {
		g := newGroup()
		for _, want := range []string{"", "node-1"} {
			if node, err := f.Grouped(f.Context(), g); err != nil || node != want {
				f.Fatalf("%q, %v, want %q", node, err, want)
			}
			if want == "" {
				f.joins(g, "a", "node-1", "node-1")
			}
		}
		f.advance(2 * long)
		if node, err := f.Grouped(f.Context(), g); err != nil || node != "" {
			f.Fatalf("%q, %v", node, err)
		}
	}},
	{"Ending the last member frees the group", func(f *fixture) {
		end := map[string]func(r session.Record) error{
			"End": func(r session.Record) error {
				_, err := f.End(f.Context(), r.ID, code, long)
				return err
			},
			"EndAll": func(r session.Record) error { return f.endAll(ending(r))[0] },
			"EndUser": func(r session.Record) error {
				_, err := f.EndUser(f.Context(), r.User, code, "", long)
				return err
			},
			"Create": func(r session.Record) error {
				d := f.draft()
				d.ID, d.Pool = session.NewID(f.user), r.Pool
				d.Group = ""
				rule := session.Rule{Sessions: 1, Reason: proto.CloseKicked, TTL: long}
				_, ended, err := f.Store.Create(f.Context(), session.NewRequest(), d, rule, long)
				if len(ended) == 0 {
					err = errors.Join(err, errors.New("no session ended"))
				}
				return err
			},
		}
		for name, how := range end {
			r := f.member("pool of " + name)
			f.joins(r.GroupKey(), r.ID, "node-1", "node-1")
			f.must(how(r))
			if node, err := f.Grouped(f.Context(), r.GroupKey()); err != nil || node != "" {
				f.Errorf("%s: still at %q, %v", name, node, err)
			}
		}
	}},
}
