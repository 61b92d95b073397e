package sessiontest

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// hostileIDs returns session ids that an attacker may put into tokens and URLs.
func hostileIDs(user string) []string {
	id := session.NewID(user)
	return []string{
		"", ".", "..", "*", "?", "}", "{}", "{" + id + "}", id + "\n", "\x00" + id, id + " ", id + "x", id[:len(id)-1],
		strings.ToUpper(id), strings.Replace(id, ".", ":", 1), strings.Replace(id, ".", "}", 1),
		session.Tag(user) + "." + strings.Repeat("é", 13), strings.Repeat("a", 1<<16), "../../etc/passwd",
		session.Tag(user) + ".user:" + user, "usher:{" + session.Tag(user) + "}:session:" + id, "\xff\xfe\xfd",
	}
}

// hostileNames may come as users, nodes, groups, streams and so on.
var hostileNames = []string{
	"}", "{", "{}", "a}b{c", "*", "a b", "a\r\nFLUSHALL\r\n", "\x00", "\xff\xfe", "é…🎲", "'; return 1 --", "usher:{}",
	"%s%d", `"\`, "session:x", "user:x", strings.Repeat("n", 128),
}

var hostileTests = []test{
	{"Invalid arguments are refused", func(f *fixture) {
		other := f.draft()
		other.ID = session.NewID(f.user + "-other")
		noUser, noNode := f.draft(), f.draft()
		noUser.User, noNode.Node = "", ""
		for _, r := range []session.Record{other, noUser, noNode} {
			f.is(errOf(f.Create(f.Context(), "r", r, long)), session.ErrInvalid)
		}
		f.is(errOf(f.Reassign(f.Context(), "r", f.create().ID, 1, "", long)), session.ErrInvalid)
		if _, err := f.Group(f.Context(), f.user, "", "", long); !errors.Is(err, session.ErrInvalid) {
			f.Errorf("Group without a node: %v", err)
		}
		for name, change := range map[string]func(*session.Record){
			"user": func(r *session.Record) { r.User = "" }, "node": func(r *session.Record) { r.Node = "" },
			"epoch": func(r *session.Record) { r.Epoch = 0 }, "state": func(r *session.Record) { r.State = "" },
			"end": func(r *session.Record) { r.State = session.Ended }, "tag": func(r *session.Record) { r.ID = session.NewID("x") },
		} {
			r := f.restorable()
			change(&r)
			if err := f.renew(r); !errors.Is(err, session.ErrNotFound) {
				f.Errorf("renewed with a wrong %s: %v", name, err)
			}
		}
	}},
	{"Hostile ids name no session", func(f *fixture) {
		for _, id := range hostileIDs(f.user) {
			d := f.draft()
			d.ID = id
			if _, err := f.Create(f.Context(), "r", d, long); err == nil {
				f.Errorf("created %q", id)
			}
			r := f.restorable()
			r.ID = id
			for _, err := range []error{
				errOf(f.Get(f.Context(), id)),
				errOf(f.Reassign(f.Context(), "r", id, 1, "node-2", long)),
				errOf(f.Attach(f.Context(), session.Lease{ID: id, Node: "node-1", Epoch: 1}, "s", long)),
				errOf(f.End(f.Context(), id, code, long)),
				f.renew(r),
				f.endAll(ending(r))[0],
			} {
				f.is(err, session.ErrNotFound)
			}
		}
		f.listed(10)
	}},
	{"Hostile names are kept as they are", func(f *fixture) {
		bystander := f.create()
		for _, name := range hostileNames {
			f.user = name + newUser()
			d := f.draft()
			d.Node, d.Pool, d.Region, d.Group, d.Stream = name, name, name, name, ""
			r, err := f.Create(f.Context(), name, d, long)
			f.must(err)
			_, err = f.Attach(f.Context(), lease(r), name, long)
			f.must(err)
			want := r
			got := f.get(r.ID)
			want.State, want.Stream, want.Changed = session.Attached, name, got.Changed
			f.same(got, want)
			f.listed(10, got)
			f.must(f.renew(got))
			moved, err := f.Reassign(f.Context(), name+"2", r.ID, 1, name+"2", long)
			f.must(err)
			if moved.Node != name+"2" {
				f.Errorf("moved to %q", moved.Node)
			}
			group := name + newGroup()
			f.bound(group, name, "", name)
			f.bound(group, "other", name, "other")
		}
		f.unchanged(bystander)
	}},
	{"Sessions of hostile users: none", func(f *fixture) {
		f.create()
		for _, f.user = range append([]string{"", f.user + "}", "*"}, hostileNames...) {
			f.listed(10)
		}
	}},
}

// unavailableTests test when a store returns ErrUnavailable.
var unavailableTests = []test{
	{"Ping", func(f *fixture) { f.must(f.Ping(f.Context())) }},
	{"A context that is done: ErrUnavailable, and no change", func(f *fixture) {
		r := f.attached()
		f.allUnavailable(cancelled(), r)
		past, cancel := context.WithDeadline(f.Context(), time.Unix(1, 0))
		defer cancel()
		f.allUnavailable(past, r)
		f.unchanged(r)
		f.must(f.Ping(f.Context()))
	}},
	{"A closed store: ErrUnavailable", func(f *fixture) {
		r := f.attached()
		f.must(f.Close())
		f.allUnavailable(f.Context(), r)
	}},
}

// allUnavailable fails the test unless each method returns ErrUnavailable.
func (f *fixture) allUnavailable(ctx context.Context, r session.Record) {
	f.Helper()
	for _, err := range f.everyMethod(ctx, r) {
		f.is(err, session.ErrUnavailable)
	}
}

// everyMethod calls every method and returns their errors.
func (f *fixture) everyMethod(ctx context.Context, r session.Record) []error {
	_, sessions := f.Sessions(ctx, f.user, 10)
	_, group := f.Group(ctx, newGroup(), "node-1", "", long)
	_, fenced := f.Fenced(ctx, "node-1")
	_, moved := f.Move(ctx, "r", saved(r, 1), "node-2")
	_, restored := f.Restore(ctx, lease(r))
	_, user := f.EndUser(ctx, f.user, code, "", long)
	rest := append(f.Save(ctx, []session.Saved{saved(r, 1), saved(r, 2)}), f.Fence(ctx, "node-1"), fenced, moved, restored, user)
	rest = append(rest, f.EndAll(ctx, []session.Ending{ending(r), ending(f.restorable())}, long)...)
	return append(append(rest, f.Renew(ctx, []session.Record{r, f.restorable()}, []time.Duration{long, long})...),
		errOf(f.Create(ctx, "r", f.draft(), long)),
		errOf(f.Get(ctx, r.ID)),
		errOf(f.Reassign(ctx, "r", r.ID, r.Epoch, "node-2", long)),
		errOf(f.Attach(ctx, lease(r), "s", long)),
		errOf(f.End(ctx, r.ID, code, long)),
		sessions, group, f.Ping(ctx))
}
