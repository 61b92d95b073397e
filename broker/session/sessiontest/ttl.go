package sessiontest

import (
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// ttlTests test that every record is kept for the ttl of its last transition. Each
// sets a ttl of ten minutes, after one of a minute or an hour.
var ttlTests = []test{
	{"ttl of Create", func(f *fixture) {
		d := f.draft()
		_, err := f.Create(f.Context(), "r", d, 10*time.Minute)
		f.must(err)
		f.lastsTenMinutes(d.ID)
	}},
	{"ttl of a repeated Create is that of the first call", func(f *fixture) {
		d := f.draft()
		for _, ttl := range []time.Duration{10 * time.Minute, long} {
			_, err := f.Create(f.Context(), "r", d, ttl)
			f.must(err)
		}
		f.lastsTenMinutes(d.ID)
	}},
	{"ttl of Reassign", func(f *fixture) {
		f.afterEach(func(r session.Record) error {
			return errOf(f.Reassign(f.Context(), "next", r.ID, 1, "node-2", 10*time.Minute))
		})
	}},
	{"ttl of Attach", func(f *fixture) {
		f.afterEach(func(r session.Record) error {
			return errOf(f.Attach(f.Context(), lease(r), "s", 10*time.Minute))
		})
	}},
	{"ttl of Renew", func(f *fixture) {
		f.afterEach(func(r session.Record) error {
			r.State = session.Detached
			return f.Renew(f.Context(), []session.Record{r}, []time.Duration{10 * time.Minute})[0]
		})
	}},
	{"ttl of a Renew that restores the record", func(f *fixture) {
		r := f.restorable()
		f.must(f.Renew(f.Context(), []session.Record{r}, []time.Duration{10 * time.Minute})[0])
		f.lastsTenMinutes(r.ID)
	}},
	{"ttl of End", func(f *fixture) {
		f.afterEach(func(r session.Record) error {
			return errOf(f.End(f.Context(), r.ID, code, 10*time.Minute))
		})
	}},
	{"A refused transition does not change the ttl", func(f *fixture) {
		d := f.draft()
		r, err := f.Create(f.Context(), "r", d, 10*time.Minute)
		f.must(err)
		stale := r
		stale.Node = "node-9"
		f.is(errOf(f.Create(f.Context(), "other", d, long)), session.ErrExists)
		f.is(errOf(f.Reassign(f.Context(), "other", r.ID, 9, "node-2", long)), session.ErrMoved)
		f.is(errOf(f.Attach(f.Context(), lease(stale), "s", long)), session.ErrMoved)
		stale.State = session.Attached
		f.is(f.renew(stale), session.ErrMoved)
		f.lastsTenMinutes(r.ID)
	}},
	{"An id is free again when its record has expired", func(f *fixture) {
		d := f.draft()
		_, err := f.Create(f.Context(), "r1", d, time.Minute)
		f.must(err)
		f.advance(2 * time.Minute)
		for _, err := range []error{
			errOf(f.Reassign(f.Context(), "r", d.ID, 1, "node-2", long)),
			errOf(f.Attach(f.Context(), session.Lease{ID: d.ID, Node: "node-1", Epoch: 1}, "s", long)),
			errOf(f.End(f.Context(), d.ID, code, long)),
		} {
			f.is(err, session.ErrNotFound)
		}
		r, err := f.Create(f.Context(), "r2", d, long)
		f.must(err)
		f.listed(10, r)
	}},
	{"A record with a ttl of 0 or less expires at once", func(f *fixture) {
		for _, ttl := range []time.Duration{0, -time.Minute} {
			d := f.draft()
			_, err := f.Create(f.Context(), "r", d, ttl)
			f.must(err)
			f.is(errOf(f.Get(f.Context(), d.ID)), session.ErrNotFound)
			f.listed(10)
		}
	}},
}

// afterEach tests a transition that sets a ttl of ten minutes, once after a shorter
// ttl and once after a longer one.
func (f *fixture) afterEach(transition func(session.Record) error) {
	f.Helper()
	for _, before := range []time.Duration{time.Minute, long} {
		r, err := f.Create(f.Context(), session.NewRequest(), f.draft(), before)
		f.must(err)
		f.must(transition(r))
		f.lastsTenMinutes(r.ID)
	}
}

// lastsTenMinutes fails the test unless the record exists after nine minutes and has
// expired after eleven. The margins are for stores with a clock of their own.
func (f *fixture) lastsTenMinutes(id string) {
	f.Helper()
	f.advance(9 * time.Minute)
	f.get(id)
	f.advance(2 * time.Minute)
	_, err := f.Get(f.Context(), id)
	f.is(err, session.ErrNotFound)
}
