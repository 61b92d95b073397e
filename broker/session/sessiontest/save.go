package sessiontest

import (
	"bytes"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// laid fails the test unless the lease's owner finds want, nil for nothing. Then
// the owner may take it.
func (f *fixture) laid(l session.Lease, take bool, want []byte) session.StoredState {
	f.Helper()
	r, got, err := f.Store.Restore(f.Context(), l)
	f.must(err)
	f.unchanged(r)
	if take {
		f.must(errOf(f.Attach(f.Context(), l, r.Stream, long)))
	}
	if !bytes.Equal(got.State, want) || (got.State == nil) != (want == nil) {
		f.Fatalf("found %q, want %q", got.State, want)
	}
	return got
}

// save saves one and returns its error.
func (f *fixture) save(s session.Saved) error {
	f.Helper()
	errs := f.Save(f.Context(), []session.Saved{s})
	if len(errs) != 1 {
		f.Fatalf("%d errors for one save", len(errs))
	}
	return errs[0]
}

var state = []byte("state \x00\xff\r\n of a stream")

// saved is what a node saves of the session.
func saved(r session.Record, seq uint64) session.Saved {
	return session.Saved{Lease: lease(r), Stream: r.Stream, State: state, Seq: seq, TTL: long}
}

func leaving(r session.Record, seq uint64) session.Saved {
	s := saved(r, seq)
	s.Leave = true
	return s
}

var saveTests = []test{
	{"Save leaves the session where it is", func(f *fixture) {
		r := f.attached()
		f.must(f.save(saved(r, 1)))
		f.unchanged(r)
	}},
	{"Save with Leave marks the session as detached", func(f *fixture) {
		r := f.attached()
		f.must(f.save(leaving(r, 1)))
		if now := f.get(r.ID); now.State != session.Detached || now.Stream != "stream-1" || now.Epoch != 1 {
			f.Fatalf("the record is %+v", now)
		}
	}},
	{"Save is for the next owner, with the bytes as they were", func(f *fixture) {
		r := f.attached()
		f.must(f.save(saved(r, 1)))
		next, err := f.Reassign(f.Context(), "r", r.ID, 1, "node-2", long)
		f.must(err)
		got := f.laid(lease(next), true, state)
		if got.Stream != "stream-1" || got.Seq != 0 {
			f.Errorf("found %+v", got)
		}
	}},
	{"Save is for its own node that was restarted too, which goes on counting", func(f *fixture) {
		r := f.attached()
		f.must(f.save(saved(r, 7)))
		if got := f.laid(lease(r), true, state); got.Seq != 7 {
			f.Errorf("seq %d, want 7", got.Seq)
		}
	}},
	{"Save of no bytes is not nothing", func(f *fixture) {
		r := f.attached()
		s := saved(r, 1)
		s.State = []byte{}
		f.must(f.save(s))
		f.laid(lease(r), false, []byte{})
	}},
	{"Save again replaces, and what was held up does not", func(f *fixture) {
		r := f.attached()
		old := saved(r, 1)
		old.State = []byte("old")
		f.must(f.save(old))
		f.laid(lease(r), true, []byte("old"))
		f.must(f.save(leaving(r, 2)))
		f.must(f.save(old))
		old.Seq = 2
		f.must(f.save(old))
		f.laid(lease(r), true, state)
		next, err := f.Reassign(f.Context(), "r", r.ID, 1, "node-2", long)
		f.must(err)
		f.laid(lease(next), true, nil) // the owner before has taken it
		next.Stream = "stream-2"
		f.must(f.save(saved(next, 1))) // an owner counts for itself
		f.laid(lease(next), true, state)
	}},
	{"Save sets the stream", func(f *fixture) {
		r := f.attached()
		r.Stream = "stream-2"
		f.must(f.save(saved(r, 1)))
		if got := f.laid(lease(r), false, state); got.Stream != "stream-2" {
			f.Errorf("found %+v", got)
		}
		f.unchanged(r)
		f.must(errOf(f.Attach(f.Context(), lease(r), "stream-3", long)))
		if got := f.laid(lease(r), false, state); got.Stream != "stream-2" {
			f.Errorf("found %+v", got)
		}
	}},
	{"Restore is for all owners until one attaches and takes it; then for that one, again and again", func(f *fixture) {
		r := f.attached()
		f.must(f.save(saved(r, 1)))
		f.laid(lease(r), false, state)
		next, err := f.Reassign(f.Context(), "r", r.ID, 1, "node-2", long)
		f.must(err)
		f.laid(lease(next), false, state)
		_, err = f.Store.Attach(f.Context(), lease(next), "stream-1", false, 0, long)
		f.must(err)
		after, err := f.Reassign(f.Context(), "r1", r.ID, 2, "node-4", long)
		f.must(err)
		f.laid(lease(after), true, state)
		f.laid(lease(after), true, state)
		f.laid(lease(after), false, state)
		last, err := f.Reassign(f.Context(), "r2", r.ID, 3, "node-3", long)
		f.must(err)
		f.laid(lease(last), false, nil) // node-4 may have gone on from it
		f.laid(lease(last), true, nil)
	}},
	{"Restore of what another start of the node has taken is nothing", func(f *fixture) {
		r := f.attached()
		f.must(f.save(saved(r, 1)))
		first, second := lease(r), lease(r)
		first.Instance, second.Instance = "first", "second"
		f.laid(second, false, state)
		f.laid(first, true, state)
		f.laid(first, false, state)
		f.laid(second, false, nil)
		f.must(f.save(saved(r, 2)))
		f.laid(second, true, state)
	}},
	{"Restore of nothing is nothing", func(f *fixture) {
		f.laid(lease(f.attached()), true, nil)
	}},
	{"Save and Restore are the owner's alone", func(f *fixture) {
		r := f.attached()
		next, err := f.Reassign(f.Context(), "r", r.ID, 1, "node-2", long)
		f.must(err)
		other := next
		other.Node = "node-3"
		for _, stranger := range []session.Record{r, other} {
			f.is(f.save(saved(stranger, 9)), session.ErrMoved)
			f.is(f.save(leaving(stranger, 9)), session.ErrMoved)
			f.is(errOf(f.Restore(f.Context(), lease(stranger))), session.ErrMoved)
		}
		f.unchanged(next)
		f.laid(lease(next), true, nil)
	}},
	{"Save of what is over, or never was", func(f *fixture) {
		r := f.attached()
		f.must(f.save(saved(r, 1)))
		_, err := f.End(f.Context(), r.ID, code, long)
		f.must(err)
		f.is(errOf(f.Restore(f.Context(), lease(r))), session.ErrEnded)
		f.is(f.save(saved(r, 2)), session.ErrEnded)
		never := f.restorable()
		f.is(f.save(saved(never, 1)), session.ErrNotFound)
		f.is(errOf(f.Restore(f.Context(), lease(never))), session.ErrNotFound)
		never.ID = "no id"
		f.is(f.save(saved(never, 1)), session.ErrNotFound)
	}},
	{"Save of many: each has its own answer", func(f *fixture) {
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
		f.laid(list[1].Lease, false, state)
	}},
	{"Save has a ttl", func(f *fixture) {
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
	{"What is saved lives as long as its record", func(f *fixture) {
		r := f.attached()
		s := saved(r, 1)
		s.TTL = 10 * time.Minute
		f.must(f.save(s))
		f.advance(9 * time.Minute)
		f.must(f.renew(r))
		f.advance(9 * time.Minute)
		f.laid(lease(r), false, state)
		next, err := f.Reassign(f.Context(), "r", r.ID, 1, "node-2", 10*time.Minute)
		f.must(err)
		f.advance(9 * time.Minute)
		f.must(errOf(f.Attach(f.Context(), lease(next), "stream-1", long)))
		f.advance(9 * time.Minute)
		f.laid(lease(next), false, state)
	}},
}
