package sessiontest

import (
	"bytes"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// unparked fails the test unless Unpark returns want, nil for nothing.
func (f *fixture) unparked(l session.Lease, want []byte) {
	f.Helper()
	got, err := f.Unpark(f.Context(), l, "stream-1")
	f.must(err)
	if !bytes.Equal(got, want) || (got == nil) != (want == nil) {
		f.Fatalf("unparked %q, want %q", got, want)
	}
}

var state = []byte("state \x00\xff\r\n of a stream")

var parkTests = []test{
	{"Park is for the next owner, with the bytes as they were", func(f *fixture) {
		r := f.attached()
		f.must(f.Park(f.Context(), lease(r), "stream-1", state, long))
		if now := f.get(r.ID); now.State != session.Detached || now.Stream != "stream-1" || now.Epoch != 1 {
			f.Fatalf("the record is %+v", now)
		}
		next, err := f.Reassign(f.Context(), "r", r.ID, 1, "node-2", long)
		f.must(err)
		f.unparked(lease(next), state)
	}},
	{"Park is for its own node that was restarted too", func(f *fixture) {
		r := f.attached()
		f.must(f.Park(f.Context(), lease(r), "stream-1", state, long))
		f.unparked(lease(r), state)
	}},
	{"Unpark gives it to one owner, again and again", func(f *fixture) {
		r := f.attached()
		f.must(f.Park(f.Context(), lease(r), "stream-1", state, long))
		f.unparked(lease(r), state)
		f.unparked(lease(r), state)
		next, err := f.Reassign(f.Context(), "r", r.ID, 1, "node-2", long)
		f.must(err)
		f.unparked(lease(next), nil) // it may have gone on since
	}},
	{"Unpark of nothing is nothing", func(f *fixture) { f.unparked(lease(f.attached()), nil) }},
	{"Park again replaces", func(f *fixture) {
		r := f.attached()
		f.must(f.Park(f.Context(), lease(r), "stream-1", []byte("old"), long))
		f.unparked(lease(r), []byte("old"))
		f.must(f.Park(f.Context(), lease(r), "stream-1", state, long))
		next, err := f.Reassign(f.Context(), "r", r.ID, 1, "node-2", long)
		f.must(err)
		f.unparked(lease(next), state)
	}},
	{"Park and Unpark are the owner's alone", func(f *fixture) {
		r := f.attached()
		next, err := f.Reassign(f.Context(), "r", r.ID, 1, "node-2", long)
		f.must(err)
		other := lease(next)
		other.Node = "node-3"
		for _, l := range []session.Lease{lease(r), other} {
			f.is(f.Park(f.Context(), l, "stream-1", state, long), session.ErrMoved)
			f.is(errOf(f.Unpark(f.Context(), l, "stream-1")), session.ErrMoved)
		}
		f.is(f.Park(f.Context(), lease(next), "stream-2", state, long), session.ErrMoved)
		f.is(errOf(f.Unpark(f.Context(), lease(next), "stream-2")), session.ErrMoved)
		f.unchanged(next)
		f.unparked(lease(next), nil)
	}},
	{"Park of what is over, or never was", func(f *fixture) {
		r := f.attached()
		f.must(f.Park(f.Context(), lease(r), "stream-1", state, long))
		_, err := f.End(f.Context(), r.ID, code, long)
		f.must(err)
		f.is(errOf(f.Unpark(f.Context(), lease(r), "stream-1")), session.ErrEnded)
		f.is(f.Park(f.Context(), lease(r), "stream-1", state, long), session.ErrEnded)
		never := lease(f.restorable())
		f.is(f.Park(f.Context(), never, "stream-1", state, long), session.ErrNotFound)
		f.is(errOf(f.Unpark(f.Context(), never, "stream-1")), session.ErrNotFound)
	}},
	{"Park has a ttl", func(f *fixture) {
		f.afterEach(func(r session.Record) error {
			if r.State == session.Assigned { // no node serves it
				r.Stream = "stream-1"
				f.must(errOf(f.Attach(f.Context(), lease(r), r.Stream, long)))
			}
			return f.Park(f.Context(), lease(r), r.Stream, state, 10*time.Minute)
		})
	}},
}
