package sessiontest

import (
	"math"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

var moveTests = []test{
	{"Move hands session and state to the next owner in one step", func(f *fixture) {
		r := f.attached()
		s := saved(r, 1)
		s.Stream = "stream-2" // it began while the store did not answer
		next, err := f.Move(f.Context(), "r", s, "node-2")
		f.must(err)
		want := r
		want.Node, want.Epoch, want.State, want.Stream, want.Changed = "node-2", 2, session.Assigned, "stream-2", next.Changed
		f.same(next, want)
		f.unchanged(want)
		f.is(errOf(f.Attach(f.Context(), lease(r), "stream-2", long)), session.ErrMoved)
		if got := f.restores(lease(next), true, state); got.Stream != "stream-2" {
			f.Errorf("found %+v", got)
		}
	}},
	{"Move repeated by the same request returns the record", func(f *fixture) {
		r := f.attached()
		first, err := f.Move(f.Context(), "r", saved(r, 1), "node-2")
		f.must(err)
		again, err := f.Move(f.Context(), "r", saved(r, 1), "node-3")
		f.must(err)
		f.same(again, first)
		f.unchanged(first)
	}},
	{"Move after a Reassign that was faster: ErrMoved and the record", func(f *fixture) {
		r := f.attached()
		winner, err := f.Reassign(f.Context(), "r1", r.ID, 1, "node-2", long)
		f.must(err)
		got, err := f.Move(f.Context(), "r2", saved(r, 1), "node-3")
		f.is(err, session.ErrMoved)
		f.same(got, winner)
		f.unchanged(winner)
		f.restores(lease(winner), true, nil)
	}},
	{"Reassign after a Move that was faster: ErrMoved and the record", func(f *fixture) {
		r := f.attached()
		winner, err := f.Move(f.Context(), "r1", saved(r, 1), "node-2")
		f.must(err)
		got, err := f.Reassign(f.Context(), "r2", r.ID, 1, "node-3", long)
		f.is(err, session.ErrMoved)
		f.same(got, winner)
		f.restores(lease(winner), true, state)
	}},
	{"Move and Reassign at once: one succeeds, and there is state only if it is Move", func(f *fixture) {
		r := f.attached()
		var errs [16]error
		atOnce(len(errs), func(i int) {
			if i%2 == 0 {
				errs[i] = errOf(f.Move(f.Context(), session.NewRequest(), saved(r, 1), "node-2"))
			} else {
				errs[i] = errOf(f.Reassign(f.Context(), session.NewRequest(), r.ID, 1, "node-3", long))
			}
		})
		now := f.get(r.ID)
		want := state
		if f.oneWins(errs[:], session.ErrMoved)%2 == 1 {
			want = nil
		}
		if now.Epoch != 2 || (now.Node == "node-2") != (want != nil) {
			f.Errorf("the record is %+v", now)
		}
		f.restores(lease(now), true, want)
	}},
	{"Move and Reassign clear Leaving", func(f *fixture) {
		r := f.attached()
		r.Leaving = true
		f.must(f.renew(r))
		f.unchanged(r)
		next, err := f.Move(f.Context(), "r", saved(r, 1), "node-2")
		f.must(err)
		if next.Leaving {
			f.Error("still leaving after Move")
		}
		next.Leaving = true
		f.must(f.renew(next))
		last, err := f.Reassign(f.Context(), "r2", r.ID, 2, "node-1", long)
		f.must(err)
		if last.Leaving {
			f.Error("still leaving after Reassign")
		}
	}},
	{"Move keeps the state when the stream has ended", func(f *fixture) {
		r := f.attached()
		s := saved(r, 1)
		s.Stream = ""
		next, err := f.Move(f.Context(), "r", s, "node-2")
		f.must(err)
		if got := f.restores(lease(next), true, state); got.Stream != "" {
			f.Errorf("found %+v", got)
		}
	}},
	{"Move of an ended or unknown session, without a node, or at the last epoch", func(f *fixture) {
		ended := f.ended()
		got, err := f.Move(f.Context(), "r", saved(ended, 1), "node-2")
		f.is(err, session.ErrEnded)
		f.same(got, ended)
		f.is(errOf(f.Move(f.Context(), "r", saved(f.restorable(), 1), "node-2")), session.ErrNotFound)
		f.is(errOf(f.Move(f.Context(), "r", saved(f.attached(), 1), "")), session.ErrInvalid)
		last := f.restorable()
		last.Epoch = math.MaxUint64
		f.must(f.renew(last))
		f.is(errOf(f.Move(f.Context(), "r", saved(last, 1), "node-2")), session.ErrInvalid)
	}},
	{"ttl of Move", func(f *fixture) {
		f.afterEach(func(r session.Record) error {
			s := saved(r, uint64(r.Changed.UnixMicro()))
			s.TTL = 10 * time.Minute
			return errOf(f.Move(f.Context(), session.NewRequest(), s, "node-2"))
		})
	}},
}
