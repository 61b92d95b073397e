package sessiontest

import (
	"fmt"
	"math"
	"sync"

	"github.com/usher-broker/usher/broker/session"
)

var reassignTests = []test{
	{"Reassign raises the epoch, sets Assigned and keeps the stream", func(f *fixture) {
		want := f.attached()
		r, err := f.Reassign(f.Context(), "r", want.ID, 1, "node-2", long)
		f.must(err)
		if r.Changed.Before(want.Changed) {
			f.Errorf("changed %v, before that %v", r.Changed, want.Changed)
		}
		want.Epoch, want.Node, want.State, want.Changed = 2, "node-2", session.Assigned, r.Changed
		f.same(r, want)
		f.unchanged(r)
	}},
	{"Reassign repeated by the same request acts once", func(f *fixture) {
		r := f.create()
		want, err := f.Reassign(f.Context(), "r", r.ID, 1, "node-2", long)
		f.must(err)
		again, err := f.Reassign(f.Context(), "r", r.ID, 1, "node-3", long)
		f.must(err)
		f.same(again, want)
		f.unchanged(want)
	}},
	{"Reassign at an earlier epoch: ErrMoved and the record", func(f *fixture) {
		r := f.create()
		want, err := f.Reassign(f.Context(), "r1", r.ID, 1, "node-2", long)
		f.must(err)
		got, err := f.Reassign(f.Context(), "r2", r.ID, 1, "node-3", long)
		f.is(err, session.ErrMoved)
		f.same(got, want)
		f.unchanged(want)
	}},
	{"Reassign repeated after another request: ErrMoved", func(f *fixture) {
		r := f.create()
		_, err := f.Reassign(f.Context(), "r1", r.ID, 1, "node-2", long)
		f.must(err)
		want, err := f.Reassign(f.Context(), "r2", r.ID, 2, "node-3", long)
		f.must(err)
		got, err := f.Reassign(f.Context(), "r1", r.ID, 1, "node-2", long)
		f.is(err, session.ErrMoved)
		f.same(got, want)
	}},
	{"Reassign at a later epoch: ErrMoved", func(f *fixture) {
		r := f.create()
		_, err := f.Reassign(f.Context(), "r", r.ID, 2, "node-2", long)
		f.is(err, session.ErrMoved)
		f.unchanged(r)
	}},
	{"Reassign of a session attached since it was seen: ErrMoved and the record", func(f *fixture) {
		r := f.create()
		_, err := f.Attach(f.Context(), lease(r), "stream-1", long)
		f.must(err)
		want := f.get(r.ID)
		got, err := f.Store.Reassign(f.Context(), "r", r, "node-2", long)
		f.is(err, session.ErrMoved)
		f.same(got, want)
		f.unchanged(want)
		got, err = f.Store.Reassign(f.Context(), "r", want, "node-2", long)
		f.must(err)
		if got.Epoch != 2 || got.Node != "node-2" {
			f.Errorf("with the current record: %+v", got)
		}
	}},
	{"Reassign of a session that was only renewed since it was seen", func(f *fixture) {
		r := f.attached()
		detached := r
		detached.State = session.Detached
		f.must(f.renew(detached))
		_, err := f.Store.Reassign(f.Context(), "r", r, "node-2", long)
		f.must(err)
	}},
	{"Reassign to the same node raises the epoch", func(f *fixture) {
		r := f.create()
		got, err := f.Reassign(f.Context(), "r", r.ID, 1, r.Node, long)
		f.must(err)
		if got.Epoch != 2 || got.Node != r.Node {
			f.Errorf("got %+v", got)
		}
	}},
	{"Reassign of an unknown session: ErrNotFound", func(f *fixture) {
		_, err := f.Reassign(f.Context(), "r", session.NewID(f.user), 1, "node-2", long)
		f.is(err, session.ErrNotFound)
	}},
	{"Reassign of an ended session: ErrEnded", func(f *fixture) {
		want := f.ended()
		r, err := f.Reassign(f.Context(), "r", want.ID, want.Epoch, "node-2", long)
		f.is(err, session.ErrEnded)
		f.same(r, want)
		f.unchanged(want)
	}},
	{"Reassign by many requests at once: one succeeds, all get its record", func(f *fixture) {
		r := f.create()
		var errs [16]error
		var got [len(errs)]session.Record
		atOnce(len(errs), func(i int) {
			got[i], errs[i] = f.Reassign(f.Context(), session.NewRequest(), r.ID, 1, fmt.Sprint("node-", i), long)
		})
		winner := f.oneWins(errs[:], session.ErrMoved)
		for i := range got {
			f.same(got[i], got[winner])
		}
		if r := f.get(r.ID); r.Epoch != 2 || r.Node != fmt.Sprint("node-", winner) {
			f.Errorf("winner %d, record %+v", winner, r)
		}
	}},
	{"Reassign by one request, many times at once, acts once", func(f *fixture) {
		r := f.create()
		var errs [16]error
		atOnce(len(errs), func(i int) {
			_, errs[i] = f.Reassign(f.Context(), "r", r.ID, 1, "node-2", long)
		})
		for _, err := range errs {
			f.must(err)
		}
		if r := f.get(r.ID); r.Epoch != 2 {
			f.Errorf("epoch %d", r.Epoch)
		}
	}},
	{"Reassign counts epochs beyond 53 bits exactly", func(f *fixture) {
		for _, epoch := range []uint64{1<<53 - 1, 1 << 53, 1<<53 + 1, 1<<63 + 1, math.MaxUint64 - 1} {
			r := f.restorable()
			r.Epoch = epoch
			f.must(f.renew(r))
			for _, near := range []uint64{epoch - 1, epoch + 1} {
				_, err := f.Reassign(f.Context(), "near", r.ID, near, "node-2", long)
				if err == nil {
					f.Errorf("reassigned at epoch %d, and the current one is %d", near, epoch)
				}
			}
			got, err := f.Reassign(f.Context(), "r", r.ID, epoch, "node-2", long)
			f.must(err)
			if got.Epoch != epoch+1 || f.get(r.ID).Epoch != epoch+1 {
				f.Errorf("after %d: %d, then %d", epoch, got.Epoch, f.get(r.ID).Epoch)
			}
		}
	}},
	{"Epochs rise by one with each change of owner by concurrent callers", func(f *fixture) {
		r := f.create()
		var mu sync.Mutex
		owners := map[uint64]string{1: r.Node}
		atOnce(8, func(i int) {
			for range 25 {
				now, err := f.Get(f.Context(), r.ID)
				if err != nil {
					f.Error(err)
					return
				}
				node := fmt.Sprint("node-", i)
				if now, err = f.Reassign(f.Context(), session.NewRequest(), r.ID, now.Epoch, node, long); err != nil {
					continue
				}
				mu.Lock()
				if other, ok := owners[now.Epoch]; ok {
					f.Errorf("epoch %d was assigned to %s and to %s", now.Epoch, other, node)
				}
				owners[now.Epoch] = node
				mu.Unlock()
			}
		})
		last := f.get(r.ID)
		if last.Epoch != uint64(len(owners)) || owners[last.Epoch] != last.Node {
			f.Errorf("%d changes, the record has epoch %d", len(owners)-1, last.Epoch)
		}
	}},
}
