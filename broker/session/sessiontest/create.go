package sessiontest

import (
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

var createTests = []test{
	{"Create sets epoch, state and times", func(f *fixture) {
		d := f.draft()
		d.Epoch, d.State, d.Reason, d.Created = 7, session.Ended, code, time.Unix(1, 0)
		r, err := f.Create(f.Context(), "r", d, long)
		f.must(err)
		if r.Created.Before(time.Unix(2, 0)) || !r.Changed.Equal(r.Created) {
			f.Errorf("created %v, changed %v", r.Created, r.Changed)
		}
		d.Epoch, d.State, d.Reason, d.Created, d.Changed = 1, session.Assigned, 0, r.Created, r.Changed
		f.same(r, d)
		f.unchanged(r)
	}},
	{"Create repeated by the same request returns the record", func(f *fixture) {
		d := f.draft()
		first, err := f.Create(f.Context(), "r", d, long)
		f.must(err)
		d.Node = "node-2" // the repeated try chose another node
		again, err := f.Create(f.Context(), "r", d, long)
		f.must(err)
		f.same(again, first)
		f.unchanged(first)
	}},
	{"Create by another request: ErrExists", func(f *fixture) {
		d := f.draft()
		first, err := f.Create(f.Context(), "r1", d, long)
		f.must(err)
		_, err = f.Create(f.Context(), "r2", d, long)
		f.is(err, session.ErrExists)
		f.unchanged(first)
	}},
	{"Create without a request id never counts as a repetition", func(f *fixture) {
		d := f.draft()
		_, err := f.Create(f.Context(), "", d, long)
		f.must(err)
		_, err = f.Create(f.Context(), "", d, long)
		f.is(err, session.ErrExists)
	}},
	{"Create with the id of an ended session: ErrExists", func(f *fixture) {
		r := f.ended()
		_, err := f.Create(f.Context(), "r", session.Record{ID: r.ID, User: r.User, Node: "node-2"}, long)
		f.is(err, session.ErrExists)
		f.unchanged(r)
	}},
	{"Create repeated after another request changed the record: ErrExists", func(f *fixture) {
		d := f.draft()
		_, err := f.Create(f.Context(), "r1", d, long)
		f.must(err)
		moved, err := f.Reassign(f.Context(), "r2", d.ID, 1, "node-2", long)
		f.must(err)
		_, err = f.Create(f.Context(), "r1", d, long)
		f.is(err, session.ErrExists)
		f.unchanged(moved)
	}},
	{"Create needs id, user and node", func(f *fixture) {
		for _, clear := range []func(*session.Record){
			func(r *session.Record) { r.ID = "" },
			func(r *session.Record) { r.User = "" },
			func(r *session.Record) { r.Node = "" },
		} {
			d := f.draft()
			id := d.ID
			clear(&d)
			if _, err := f.Create(f.Context(), "r", d, long); err == nil {
				f.Errorf("created %+v", d)
			}
			_, err := f.Get(f.Context(), id)
			f.is(err, session.ErrNotFound)
		}
	}},
	{"Create by many requests at once: one succeeds", func(f *fixture) {
		d := f.draft()
		var errs [16]error
		atOnce(len(errs), func(i int) {
			_, errs[i] = f.Create(f.Context(), session.NewRequest(), d, long)
		})
		f.oneWins(errs[:], session.ErrExists)
	}},
	{"Create keeps ext byte for byte", func(f *fixture) {
		for _, ext := range []string{
			"", "{}", ` { "a" : "<&>\u00e9" } `, "\x00\xff\xfe not JSON", "}{", string(make([]byte, proto.MaxTokenBytes)),
		} {
			d := f.draft()
			d.Ext = []byte(ext)
			r, err := f.Create(f.Context(), "r", d, long)
			f.must(err)
			if got := f.get(d.ID).Ext; string(r.Ext) != ext || string(got) != ext {
				f.Errorf("%q became %q, then %q", ext, r.Ext, got)
			}
		}
	}},
}

// oneWins fails the test unless exactly one error is nil and all others are lost. It
// returns the index of the nil error.
func (f *fixture) oneWins(errs []error, lost error) (winner int) {
	f.Helper()
	winner = -1
	for i, err := range errs {
		switch {
		case err != nil:
			f.is(err, lost)
		case winner >= 0:
			f.Fatalf("both %d and %d succeeded", winner, i)
		default:
			winner = i
		}
	}
	if winner < 0 {
		f.Fatal("none succeeded")
	}
	return winner
}

var getTests = []test{
	{"Get of an unknown session: ErrNotFound", func(f *fixture) {
		_, err := f.Get(f.Context(), session.NewID(f.user))
		f.is(err, session.ErrNotFound)
	}},
	{"Get of an ended session: the record and ErrEnded", func(f *fixture) {
		want := f.ended()
		r, err := f.Get(f.Context(), want.ID)
		f.is(err, session.ErrEnded)
		f.same(r, want)
		if r.State != session.Ended || r.Reason != code {
			f.Errorf("state %q, reason %v", r.State, r.Reason)
		}
	}},
}
