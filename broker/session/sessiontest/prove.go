package sessiontest

import (
	"errors"
	"sync/atomic"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

var proveTests = []test{
	{"Prove accepts rising numbers only", func(f *fixture) {
		r := f.attached()
		for _, n := range []uint64{1, 2, 1_795_000_000_000, proto.MaxCount - 1, proto.MaxCount} {
			f.must(f.Prove(f.Context(), r.ID, n))
			f.is(f.Prove(f.Context(), r.ID, n), session.ErrReplayed)
			f.is(f.Prove(f.Context(), r.ID, max(n-1, 1)), session.ErrReplayed)
		}
		f.unchanged(r)
	}},
	{"Prove for an unknown session: ErrNotFound; for an ended one: ErrEnded", func(f *fixture) {
		f.is(f.Prove(f.Context(), session.NewID(f.user), 1), session.ErrNotFound)
		f.is(f.Prove(f.Context(), f.ended().ID, 1), session.ErrEnded)
	}},
	{"Attach accepts a proof once", func(f *fixture) {
		r := f.create()
		f.must(f.Prove(f.Context(), r.ID, 5))
		_, err := f.Store.Attach(f.Context(), lease(r), "stream-1", false, 5, long)
		f.is(err, session.ErrReplayed)
		f.unchanged(r)
		_, err = f.Store.Attach(f.Context(), lease(r), "stream-1", false, 6, long)
		f.must(err)
		_, err = f.Store.Attach(f.Context(), lease(r), "stream-2", false, 6, long)
		f.is(err, session.ErrReplayed)
		f.is(f.Prove(f.Context(), r.ID, 6), session.ErrReplayed)
		if got := f.get(r.ID); got.State != session.Attached || got.Stream != "stream-1" {
			f.Errorf("got %+v", got)
		}
		_, err = f.Store.Attach(f.Context(), lease(r), "stream-2", false, 0, long) // without a proof
		f.must(err)
	}},
	{"Attach with a lease that is not the owner's records no proof", func(f *fixture) {
		r := f.create()
		_, err := f.Store.Attach(f.Context(), session.Lease{ID: r.ID, Node: "node-2", Epoch: 1}, "stream-1", false, 9, long)
		f.is(err, session.ErrMoved)
		f.must(f.Prove(f.Context(), r.ID, 9))
	}},
	{"A used proof stays used when the session moves", func(f *fixture) {
		r := f.create()
		f.must(f.Prove(f.Context(), r.ID, 9))
		next, err := f.Reassign(f.Context(), "r", r.ID, 1, "node-2", long)
		f.must(err)
		_, err = f.Store.Attach(f.Context(), lease(next), "stream-1", false, 9, long)
		f.is(err, session.ErrReplayed)
	}},
	{"One proof shown ten thousand times at once is accepted once", func(f *fixture) {
		r := f.create()
		var accepted, refused atomic.Int64
		atOnce(50, func(i int) {
			for range 200 {
				var err error
				if i%2 == 0 {
					err = f.Prove(f.Context(), r.ID, 7)
				} else {
					_, err = f.Store.Attach(f.Context(), lease(r), "stream-1", false, 7, long)
				}
				switch {
				case err == nil:
					accepted.Add(1)
				case errors.Is(err, session.ErrReplayed):
					refused.Add(1)
				default:
					f.Error(err)
				}
			}
		})
		if accepted.Load() != 1 || refused.Load() != 9999 {
			f.Errorf("%d accepted, %d refused", accepted.Load(), refused.Load())
		}
	}},
}
