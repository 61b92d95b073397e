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
