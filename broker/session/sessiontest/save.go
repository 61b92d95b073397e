package sessiontest

import (
	"bytes"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// restores fails the test unless Restore returns the state want for the lease, nil
// for none. If take is set, the lease then attaches and takes the state.
func (f *fixture) restores(l session.Lease, take bool, want []byte) session.StoredState {
	f.Helper()
	r, got, err := f.Store.Restore(f.Context(), l)
	f.must(err)
	f.unchanged(r)
	if take {
		f.must(errOf(f.Attach(f.Context(), l, r.Stream, long)))
	}
	if !bytes.Equal(got.State, want) || (got.State == nil) != (want == nil) {
		f.Fatalf("restored %q, want %q", got.State, want)
	}
	return got
}

// save saves the state of one session and returns its error.
func (f *fixture) save(s session.Saved) error {
	f.Helper()
	errs := f.Save(f.Context(), []session.Saved{s})
	if len(errs) != 1 {
		f.Fatalf("%d errors for one save", len(errs))
	}
	return errs[0]
}

var state = []byte("state \x00\xff\r\n of a stream")

// saved returns what a node saves of the session.
func saved(r session.Record, seq uint64) session.Saved {
	return session.Saved{Lease: lease(r), Stream: r.Stream, State: state, Seq: seq, TTL: long}
}

// leaving returns what a node saves of a session that it is done with.
func leaving(r session.Record, seq uint64) session.Saved {
	s := saved(r, seq)
	s.Leave = true
	return s
}

var saveTests = []test{
	{"Save does not change the record", func(f *fixture) {
		r := f.attached()
		f.must(f.save(saved(r, 1)))
		f.unchanged(r)
	}},
	{"Save with Leave makes the session detached", func(f *fixture) {
		r := f.attached()
		f.must(f.save(leaving(r, 1)))
		if now := f.get(r.ID); now.State != session.Detached || now.Stream != "stream-1" || now.Epoch != 1 {
			f.Fatalf("the record is %+v", now)
		}
	}},
	{"Save: the next owner restores the same bytes", func(f *fixture) {
		r := f.attached()
		f.must(f.save(saved(r, 1)))
		next, err := f.Reassign(f.Context(), "r", r.ID, 1, "node-2", long)
		f.must(err)
		got := f.restores(lease(next), true, state)
		if got.Stream != "stream-1" || got.Seq != 0 {
			f.Errorf("restored %+v", got)
		}
	}},
	{"Save: the same owner restores the state with its Seq", func(f *fixture) {
		r := f.attached()
		f.must(f.save(saved(r, 7)))
		if got := f.restores(lease(r), true, state); got.Seq != 7 {
			f.Errorf("seq %d, want 7", got.Seq)
		}
	}},
	{"Save of no bytes is restored as no bytes, not as no state", func(f *fixture) {
		r := f.attached()
		s := saved(r, 1)
		s.State = []byte{}
		f.must(f.save(s))
		f.restores(lease(r), false, []byte{})
	}},
	{"Save replaces the state before it, and a delayed save changes nothing", func(f *fixture) {
		r := f.attached()
		old := saved(r, 1)
		old.State = []byte("old")
		f.must(f.save(old))
		f.restores(lease(r), true, []byte("old"))
		f.must(f.save(leaving(r, 2)))
		f.must(f.save(old))
		old.Seq = 2
		f.must(f.save(old))
		f.restores(lease(r), true, state)
		next, err := f.Reassign(f.Context(), "r", r.ID, 1, "node-2", long)
		f.must(err)
		f.restores(lease(next), true, nil) // the previous owner has taken it
		next.Stream = "stream-2"
		f.must(f.save(saved(next, 1))) // each owner starts its own Seq
		f.restores(lease(next), true, state)
	}},
	{"Save of another instance of the node replaces the state, whatever the Seq", func(f *fixture) {
		r := f.attached()
		first := saved(r, 7)
		first.Instance, first.State = "first", []byte("old")
		f.must(f.save(first))
		second := saved(r, 1)
		second.Instance = "second"
		if got := f.restores(second.Lease, false, first.State); got.Seq != 0 {
			f.Errorf("seq %d for another instance, want 0", got.Seq)
		}
		f.must(f.save(second))
		if got := f.restores(second.Lease, false, state); got.Seq != 1 {
			f.Errorf("seq %d, want 1", got.Seq)
		}
	}},
	{"Save sets the stream", func(f *fixture) {
		r := f.attached()
		r.Stream = "stream-2"
		f.must(f.save(saved(r, 1)))
		if got := f.restores(lease(r), false, state); got.Stream != "stream-2" {
			f.Errorf("restored %+v", got)
		}
		f.unchanged(r)
		f.must(errOf(f.Attach(f.Context(), lease(r), "stream-3", long)))
		if got := f.restores(lease(r), false, state); got.Stream != "stream-2" {
			f.Errorf("restored %+v", got)
		}
	}},
	{"Restore returns the state to every owner until one takes it, then to that one only", func(f *fixture) {
		r := f.attached()
		f.must(f.save(saved(r, 1)))
		f.restores(lease(r), false, state)
		next, err := f.Reassign(f.Context(), "r", r.ID, 1, "node-2", long)
		f.must(err)
		f.restores(lease(next), false, state)
		_, err = f.Store.Attach(f.Context(), lease(next), "stream-1", false, 0, long)
		f.must(err)
		after, err := f.Reassign(f.Context(), "r1", r.ID, 2, "node-4", long)
		f.must(err)
		f.restores(lease(after), true, state)
		f.restores(lease(after), true, state)
		f.restores(lease(after), false, state)
		last, err := f.Reassign(f.Context(), "r2", r.ID, 3, "node-3", long)
		f.must(err)
		f.restores(lease(last), false, nil) // node-4 may have continued from it
		f.restores(lease(last), true, nil)
	}},
	{"Restore returns no state that another instance of the node has taken", func(f *fixture) {
		r := f.attached()
		f.must(f.save(saved(r, 1)))
		first, second := lease(r), lease(r)
		first.Instance, second.Instance = "first", "second"
		f.restores(second, false, state)
		f.restores(first, true, state)
		f.restores(first, false, state)
		f.restores(second, false, nil)
		f.must(f.save(saved(r, 2)))
		f.restores(second, true, state)
	}},
	{"Restore without a save returns no state", func(f *fixture) {
		f.restores(lease(f.attached()), true, nil)
	}},
	{"Save and Restore by a node that is not the owner: ErrMoved", func(f *fixture) {
		r := f.attached()
		next, err := f.Reassign(f.Context(), "r", r.ID, 1, "node-2", long)
		f.must(err)
		other := next
		other.Node = "node-3"
		for _, wrong := range []session.Record{r, other} {
			f.is(f.save(saved(wrong, 9)), session.ErrMoved)
			f.is(f.save(leaving(wrong, 9)), session.ErrMoved)
			f.is(errOf(f.Restore(f.Context(), lease(wrong))), session.ErrMoved)
		}
		f.unchanged(next)
		f.restores(lease(next), true, nil)
	}},
	{"Save and Restore of an ended or unknown session", func(f *fixture) {
		r := f.attached()
		f.must(f.save(saved(r, 1)))
		_, err := f.End(f.Context(), r.ID, code, long)
		f.must(err)
		f.is(errOf(f.Restore(f.Context(), lease(r))), session.ErrEnded)
		f.is(f.save(saved(r, 2)), session.ErrEnded)
		unknown := f.restorable()
		f.is(f.save(saved(unknown, 1)), session.ErrNotFound)
		f.is(errOf(f.Restore(f.Context(), lease(unknown))), session.ErrNotFound)
		unknown.ID = "no id"
		f.is(f.save(saved(unknown, 1)), session.ErrNotFound)
	}},
	{"Save of many sessions returns an error for each", func(f *fixture) {
		list := make([]session.Saved, 600)
		for i := range list {
			list[i] = saved(f.attached(), uint64(i))
			if i%3 == 0 {
				list[i].Node = "node-2"
			}
		}
		for i, err := range f.Save(f.Context(), list) {
			if i%3 == 0 {
				f.is(err, session.ErrMoved)
			} else {
				f.must(err)
			}
		}
		f.restores(list[1].Lease, false, state)
	}},
	{"ttl of Save", func(f *fixture) {
		f.afterEach(func(r session.Record) error {
			if r.State == session.Assigned { // no node serves it
				r.Stream = "stream-1"
				f.must(errOf(f.Attach(f.Context(), lease(r), r.Stream, long)))
			}
			s := leaving(r, uint64(r.Changed.UnixMicro()))
			s.TTL = 10 * time.Minute
			return f.save(s)
		})
	}},
	{"Stored state expires with its record", func(f *fixture) {
		r := f.attached()
		s := saved(r, 1)
		s.TTL = 10 * time.Minute
		f.must(f.save(s))
		f.advance(9 * time.Minute)
		f.must(f.renew(r))
		f.advance(9 * time.Minute)
		f.restores(lease(r), false, state)
		next, err := f.Reassign(f.Context(), "r", r.ID, 1, "node-2", 10*time.Minute)
		f.must(err)
		f.advance(9 * time.Minute)
		f.must(errOf(f.Attach(f.Context(), lease(next), "stream-1", long)))
		f.advance(9 * time.Minute)
		f.restores(lease(next), false, state)
	}},
}
