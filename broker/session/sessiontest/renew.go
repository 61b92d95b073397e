package sessiontest

import (
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// renew renews one record and returns its error.
func (f *fixture) renew(r session.Record) error {
	f.Helper()
	errs := f.Renew(f.Context(), []session.Record{r}, []time.Duration{long})
	if len(errs) != 1 {
		f.Fatalf("%d errors for one record", len(errs))
	}
	return errs[0]
}

// restorable returns the record of a session that a node serves and that the
// store does not know.
func (f *fixture) restorable() session.Record {
	r := f.draft()
	r.Epoch, r.State, r.Stream = 3, session.Attached, "stream-9"
	// A store may keep times to the microsecond.
	r.Created = time.Now().Add(-10 * time.Minute).Truncate(time.Microsecond)
	return r
}

var renewTests = []test{
	{"Renew sets state and stream", func(f *fixture) {
		r := f.attached()
		for _, state := range []session.State{session.Detached, session.Attached} {
			want := r
			want.State, want.Stream = state, "stream-"+string(state)
			f.must(f.renew(want))
			got := f.get(r.ID)
			want.Changed = got.Changed
			f.same(got, want)
		}
	}},
	{"Renew without a change leaves the record as it is", func(f *fixture) {
		r := f.attached()
		f.must(f.renew(r))
		f.unchanged(r)
	}},
	{"Renew restores a record that the store does not know", func(f *fixture) {
		want := f.restorable()
		f.must(f.renew(want))
		got := f.get(want.ID)
		if got.Changed.IsZero() {
			f.Error("Changed is not set")
		}
		want.Changed = got.Changed
		f.same(got, want)

		list, err := f.Sessions(f.Context(), f.user, 10)
		f.must(err)
		if len(list) != 1 {
			f.Fatalf("%d sessions listed", len(list))
		}
		f.same(list[0], got)
	}},
	{"Renew restores a detached session as detached", func(f *fixture) {
		r := f.restorable()
		r.State = session.Detached
		f.must(f.renew(r))
		if got := f.get(r.ID).State; got != session.Detached {
			f.Errorf("state %q", got)
		}
	}},
	{"A restored session can be attached and reassigned", func(f *fixture) {
		r := f.restorable()
		f.must(f.renew(r))
		before, err := f.Attach(f.Context(), lease(r), "stream-10", long)
		f.must(err)
		if before.Stream != "stream-9" {
			f.Errorf("stream before: %q", before.Stream)
		}
		moved, err := f.Reassign(f.Context(), "r", r.ID, 3, "node-2", long)
		f.must(err)
		if moved.Epoch != 4 {
			f.Errorf("epoch %d", moved.Epoch)
		}
	}},
	{"Renew by a node that is not the owner: ErrMoved", func(f *fixture) {
		r := f.attached()
		want, err := f.Reassign(f.Context(), "r", r.ID, 1, "node-2", long)
		f.must(err)
		f.is(f.renew(r), session.ErrMoved) // earlier epoch, other node
		r.Epoch = 2
		f.is(f.renew(r), session.ErrMoved) // other node
		r.Epoch, r.Node = 1, "node-2"
		f.is(f.renew(r), session.ErrMoved) // earlier epoch
		f.unchanged(want)
	}},
	{"Renew of an ended session: ErrEnded", func(f *fixture) {
		r := f.attached()
		want, err := f.End(f.Context(), r.ID, code, long)
		f.must(err)
		f.is(f.renew(r), session.ErrEnded)
		f.unchanged(want)
	}},
	{"Renew returns an error for each record", func(f *fixture) {
		good, moved, ended, lost := f.attached(), f.attached(), f.attached(), f.restorable()
		bad := f.restorable()
		bad.ID = "no id"
		_, err := f.Reassign(f.Context(), "r", moved.ID, 1, "node-2", long)
		f.must(err)
		_, err = f.End(f.Context(), ended.ID, code, long)
		f.must(err)
		records := []session.Record{moved, good, bad, ended, lost}
		errs := f.Renew(f.Context(), records, []time.Duration{long, long, long, long, long})
		for i, want := range []error{session.ErrMoved, nil, session.ErrNotFound, session.ErrEnded, nil} {
			f.is(errs[i], want)
		}
		if errs := f.Renew(f.Context(), nil, nil); len(errs) != 0 {
			f.Errorf("%d errors for no records", len(errs))
		}
	}},
	{"Renew of thousands of records", func(f *fixture) {
		records, ttls := make([]session.Record, 2000), make([]time.Duration, 2000)
		for i := range records {
			f.user = newUser()
			records[i], ttls[i] = f.restorable(), long
		}
		for range 2 { // restored, then renewed
			for i, err := range f.Renew(f.Context(), records, ttls) {
				if err != nil {
					f.Fatalf("record %d: %v", i, err)
				}
			}
		}
		for _, i := range []int{0, 255, 256, 1999} {
			want := records[i]
			got := f.get(want.ID)
			want.Changed = got.Changed
			f.same(got, want)
		}
	}},
	{"Renew sets the ttl of each record", func(f *fixture) {
		a, b := f.attached(), f.attached()
		for _, err := range f.Renew(f.Context(), []session.Record{a, b}, []time.Duration{time.Minute, 10 * time.Minute}) {
			f.must(err)
		}
		f.advance(5 * time.Minute)
		_, err := f.Get(f.Context(), a.ID)
		f.is(err, session.ErrNotFound)
		f.must(errOf(f.Get(f.Context(), b.ID)))
	}},
	{"Renew and Reassign at once: the new owner keeps the session", func(f *fixture) {
		for range 10 {
			r := f.attached()
			atOnce(2, func(i int) {
				if i == 0 {
					if _, err := f.Reassign(f.Context(), "r", r.ID, 1, "node-2", long); err != nil {
						f.Error(err)
					}
					return
				}
				_ = f.Renew(f.Context(), []session.Record{r}, []time.Duration{long}) // may fail or succeed
			})
			if got := f.get(r.ID); got.Node != "node-2" || got.Epoch != 2 || got.State != session.Assigned {
				f.Fatalf("the record after Reassign: %+v", got)
			}
		}
	}},
}

func errOf[T any](_ T, err error) error { return err }
