package sessiontest

import (
	"time"

	"github.com/usher-broker/usher/broker/session"
)

var endTests = []test{
	{"End leaves a tombstone with the reason", func(f *fixture) {
		want := f.attached()
		r, err := f.End(f.Context(), want.ID, code, long)
		f.must(err)
		if r.Changed.Before(want.Changed) {
			f.Errorf("changed %v, before that %v", r.Changed, want.Changed)
		}
		want.State, want.Reason, want.Changed = session.Ended, code, r.Changed
		f.same(r, want)
		f.unchanged(want)
	}},
	{"End with epoch 0 ends the session at any epoch", func(f *fixture) {
		r := f.create()
		_, err := f.Reassign(f.Context(), "r", r.ID, 1, "node-2", long)
		f.must(err)
		ended, err := f.End(f.Context(), r.ID, code, long)
		f.must(err)
		if ended.Epoch != 2 || ended.Node != "node-2" {
			f.Errorf("ended %+v", ended)
		}
	}},
	{"End with an epoch that is not the current one: ErrMoved", func(f *fixture) {
		r := f.create()
		next, err := f.Reassign(f.Context(), "r", r.ID, 1, "node-2", long)
		f.must(err)
		for _, epoch := range []uint64{1, 3} {
			got, err := f.Store.End(f.Context(), r.ID, epoch, code, "", long)
			f.is(err, session.ErrMoved)
			f.same(got, next)
		}
		f.unchanged(next)
		ended, err := f.Store.End(f.Context(), r.ID, 2, code, "", long)
		f.must(err)
		again, err := f.Store.End(f.Context(), r.ID, 1, code2, "", long)
		f.must(err)
		f.same(again, ended)
	}},
	{"End again: the first reason stays, and no error", func(f *fixture) {
		want := f.ended()
		again, err := f.End(f.Context(), want.ID, code2, long)
		f.must(err)
		f.same(again, want)
		f.unchanged(want)
	}},
	{"End again does not lengthen or shorten the tombstone", func(f *fixture) {
		for _, ttl := range []time.Duration{time.Second, 10 * long} {
			r := f.create()
			_, err := f.End(f.Context(), r.ID, code, 10*time.Minute)
			f.must(err)
			_, err = f.End(f.Context(), r.ID, code2, ttl)
			f.must(err)
			f.advance(9 * time.Minute)
			f.is(errOf(f.Get(f.Context(), r.ID)), session.ErrEnded)
			f.advance(2 * time.Minute)
			f.is(errOf(f.Get(f.Context(), r.ID)), session.ErrNotFound)
		}
	}},
	{"End of an unknown session: ErrNotFound", func(f *fixture) {
		_, err := f.End(f.Context(), session.NewID(f.user), code, long)
		f.is(err, session.ErrNotFound)
	}},
	{"End by many at once: all get the same reason", func(f *fixture) {
		r := f.create()
		var got [16]session.Record
		atOnce(len(got), func(i int) {
			var err error
			if got[i], err = f.End(f.Context(), r.ID, session.Reason(4500+i), long); err != nil {
				f.Error(err)
			}
		})
		for i := range got {
			f.same(got[i], got[0])
		}
		f.unchanged(got[0])
	}},
	{"End keeps the close reason", func(f *fixture) {
		r := f.create()
		ended, err := f.Store.End(f.Context(), r.ID, 0, code, "cheating", long)
		f.must(err)
		if ended.CloseReason != "cheating" {
			f.Errorf("close reason %q", ended.CloseReason)
		}
		f.unchanged(ended)
	}},
	{"End keeps the close code of an application", func(f *fixture) {
		r := f.create()
		_, err := f.End(f.Context(), r.ID, 4999, long)
		f.must(err)
		if got := f.get(r.ID).Reason; got != 4999 {
			f.Errorf("reason %d", got)
		}
	}},
}

// ending returns what a node that holds the session passes to EndAll.
func ending(r session.Record) session.Ending {
	return session.Ending{ID: r.ID, Epoch: r.Epoch, Reason: code}
}

// endAll calls EndAll with the sessions.
func (f *fixture) endAll(list ...session.Ending) []error {
	f.Helper()
	errs := f.EndAll(f.Context(), list, long)
	if len(errs) != len(list) {
		f.Fatalf("%d errors for %d sessions", len(errs), len(list))
	}
	return errs
}

var endAllTests = []test{
	{"EndAll leaves tombstones with the reasons", func(f *fixture) {
		first, second := f.attached(), f.create()
		other := ending(second)
		other.Reason = code2
		for _, err := range f.endAll(ending(first), other) {
			f.must(err)
		}
		for want, reason := range map[*session.Record]session.Reason{&first: code, &second: code2} {
			want.State, want.Reason, want.Changed = session.Ended, reason, f.get(want.ID).Changed
			f.unchanged(*want)
		}
		f.listed(10)
	}},
	{"EndAll with an epoch that is not the current one: ErrMoved", func(f *fixture) {
		r, bystander := f.create(), f.create()
		next, err := f.Reassign(f.Context(), "r", r.ID, 1, "node-2", long)
		f.must(err)
		later := ending(next)
		later.Epoch++
		for _, err := range f.endAll(ending(r), later) {
			f.is(err, session.ErrMoved)
		}
		f.unchanged(next)
		anyEpoch := ending(next)
		anyEpoch.Epoch = 0
		f.must(f.endAll(anyEpoch)[0])
		f.is(errOf(f.Get(f.Context(), r.ID)), session.ErrEnded)
		f.unchanged(bystander)
	}},
	{"EndAll again: the first reason and ttl stay, and no error", func(f *fixture) {
		r := f.create()
		f.must(f.EndAll(f.Context(), []session.Ending{ending(r)}, 10*time.Minute)[0])
		want := f.get(r.ID)
		again := ending(r)
		again.Reason = code2
		f.must(f.endAll(again)[0])
		f.unchanged(want)
		f.advance(11 * time.Minute)
		f.is(errOf(f.Get(f.Context(), r.ID)), session.ErrNotFound)
	}},
	{"EndAll of unknown sessions: ErrNotFound", func(f *fixture) {
		r := f.create()
		unknown, wrong := ending(r), ending(r)
		unknown.ID, wrong.ID = session.NewID(f.user), "no id"
		errs := f.endAll(unknown, ending(r), wrong)
		f.is(errs[0], session.ErrNotFound)
		f.must(errs[1])
		f.is(errs[2], session.ErrNotFound)
	}},
	{"EndAll of no sessions", func(f *fixture) { f.endAll() }},
	{"EndAll of many sessions returns an error for each", func(f *fixture) {
		list := make([]session.Ending, 600)
		for i := range list {
			list[i] = ending(f.create())
			if i%3 == 0 {
				list[i].Epoch = 2
			}
		}
		for i, err := range f.endAll(list...) {
			if i%3 == 0 {
				f.is(err, session.ErrMoved)
				f.must(errOf(f.Get(f.Context(), list[i].ID)))
			} else {
				f.must(err)
				f.is(errOf(f.Get(f.Context(), list[i].ID)), session.ErrEnded)
			}
		}
	}},
	{"EndAll deletes the stored state", func(f *fixture) {
		r := f.attached()
		f.must(f.save(saved(r, 1)))
		f.must(f.endAll(ending(r))[0])
		f.is(errOf(f.Restore(f.Context(), lease(r))), session.ErrEnded)
		f.must(f.endAll(ending(r))[0])
	}},
}
