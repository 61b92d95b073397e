package sessiontest

import (
	"github.com/usher-broker/usher/broker/session"
)

var attachTests = []test{
	{"Attach records the stream and returns the record as it was before", func(f *fixture) {
		want := f.create()
		before, err := f.Attach(f.Context(), lease(want), "stream-1", long)
		f.must(err)
		f.same(before, want)

		first := f.get(want.ID)
		want.State, want.Stream, want.Changed = session.Attached, "stream-1", first.Changed
		f.same(first, want)

		before, err = f.Attach(f.Context(), lease(want), "stream-2", long)
		f.must(err)
		f.same(before, first)
		if s := f.get(want.ID).Stream; s != "stream-2" {
			f.Errorf("stream %q", s)
		}
	}},
	{"Attach after Reassign returns the stream of the previous owner", func(f *fixture) {
		r := f.attached()
		_, err := f.Reassign(f.Context(), "r", r.ID, 1, "node-2", long)
		f.must(err)
		before, err := f.Attach(f.Context(), session.Lease{ID: r.ID, Node: "node-2", Epoch: 2}, "stream-2", long)
		f.must(err)
		if before.Stream != "stream-1" || before.State != session.Assigned {
			f.Errorf("before: %+v", before)
		}
	}},
	{"Attach with a lease of another owner or epoch: ErrMoved and the record", func(f *fixture) {
		r := f.create()
		want, err := f.Reassign(f.Context(), "r", r.ID, 1, "node-2", long)
		f.must(err)
		for _, l := range []session.Lease{
			{ID: r.ID, Node: "node-1", Epoch: 1}, // the previous owner
			{ID: r.ID, Node: "node-1", Epoch: 2},
			{ID: r.ID, Node: "node-2", Epoch: 1},
			{ID: r.ID, Node: "node-2", Epoch: 3},
			{ID: r.ID, Node: "node-2", Epoch: 0},
			{ID: r.ID, Node: "", Epoch: 2},
		} {
			got, err := f.Attach(f.Context(), l, "stream-1", long)
			f.is(err, session.ErrMoved)
			f.same(got, want)
			f.unchanged(want)
		}
	}},
	{"Attach to an unknown session: ErrNotFound", func(f *fixture) {
		_, err := f.Attach(f.Context(), session.Lease{ID: session.NewID(f.user), Node: "node-1", Epoch: 1}, "s", long)
		f.is(err, session.ErrNotFound)
	}},
	{"Attach to an ended session: ErrEnded and the record", func(f *fixture) {
		want := f.ended()
		got, err := f.Attach(f.Context(), lease(want), "s", long)
		f.is(err, session.ErrEnded)
		f.same(got, want)
		f.unchanged(want)
	}},
	{"Attach and Reassign at once: the old owner attaches first or not at all", func(f *fixture) {
		for range 10 {
			r := f.create()
			atOnce(2, func(i int) {
				if i == 0 {
					_, err := f.Reassign(f.Context(), "r", r.ID, 1, "node-2", long)
					if err != nil {
						f.Error(err)
					}
					return
				}
				_, _ = f.Attach(f.Context(), lease(r), "stream-1", long) // may fail or succeed
			})
			if got := f.get(r.ID); got.State != session.Assigned || got.Node != "node-2" || got.Epoch != 2 {
				f.Fatalf("the record after Reassign: %+v", got)
			}
		}
	}},
}
