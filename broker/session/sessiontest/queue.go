package sessiontest

import (
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// waits fails the test unless Wait returns these numbers for the entry, and no
// session.
func (f *fixture) waits(queue, entry string, ahead, waiting int) session.QueueStatus {
	f.Helper()
	status, err := f.Wait(f.Context(), queue, entry, "broker-1", long)
	f.must(err)
	if status.Ahead != ahead || status.Waiting != waiting || status.Session != "" {
		f.Fatalf("%+v, want %d ahead of %d waiting", status, ahead, waiting)
	}
	return status
}

func newQueue() string { return "queue-" + rand.Text() }

var queueTests = []test{
	{"Wait: first come, first served", func(f *fixture) {
		q := newQueue()
		f.waits(q, "", 0, 0)
		f.waits(q, "c", 0, 1)
		f.waits(q, "a", 1, 2)
		f.waits(q, "b", 2, 3)
		f.waits(q, "c", 0, 3)
		f.waits(q, "b", 2, 3)
		f.waits(q, "", 3, 3)
		f.waits(newQueue(), "b", 0, 1)
	}},
	{"Admit moves the other entries up, and Wait returns the session again", func(f *fixture) {
		q := newQueue()
		f.waits(q, "a", 0, 1)
		if status := f.waits(q, "b", 1, 2); status.Rate != 0 {
			f.Errorf("rate %v before the first admission", status.Rate)
		}
		f.must(f.Admit(f.Context(), q, "a", "session-a", "broker-1", long))
		if status := f.waits(q, "b", 0, 1); status.Rate <= 0 || status.Rate > 1 {
			f.Errorf("rate %v after one admission", status.Rate)
		}
		status, err := f.Wait(f.Context(), q, "a", "broker-1", long)
		f.must(err)
		if status.Session != "session-a" || status.Waiting != 1 {
			f.Errorf("%+v", status)
		}
		f.advance(2 * long)
		if status, err = f.Wait(f.Context(), q, "a", "broker-1", long); err != nil || status.Session != "" {
			f.Errorf("after its ttl: %+v, %v", status, err)
		}
	}},
	{"Admit without a session removes the entry", func(f *fixture) {
		q := newQueue()
		f.waits(q, "a", 0, 1)
		f.waits(q, "b", 1, 2)
		f.must(f.Admit(f.Context(), q, "a", "", "broker-1", long))
		f.waits(q, "b", 0, 1)
		f.waits(q, "a", 1, 2)
		f.must(f.Admit(f.Context(), newQueue(), "a", "", "broker-1", long))
	}},
	{"Wait removes entries whose ttl has passed", func(f *fixture) {
		q := newQueue()
		const short = 50 * time.Millisecond
		_, err := f.Wait(f.Context(), q, "a", "broker-1", short)
		f.must(err)
		f.waits(q, "b", 1, 2)
		f.advance(short + time.Millisecond)
		time.Sleep(short + time.Millisecond) // for a store with a clock of its own
		if status := f.waits(q, "b", 0, 1); status.GivenUp != 1 {
			f.Errorf("%+v, want 1 entry given up", status)
		}
		f.waits(q, "a", 1, 2)
	}},
	{"Wait returns how many entries other brokers admitted recently", func(f *fixture) {
		q := newQueue()
		for _, by := range []string{"broker-1", "broker-2", "broker-2", "broker"} {
			f.must(f.Admit(f.Context(), q, rand.Text(), "sid", by, long))
		}
		for by, want := range map[string]int{"broker-1": 3, "broker-2": 2, "broker-3": 4} {
			if status, err := f.Wait(f.Context(), q, "", by, long); err != nil || status.Recent != want {
				f.Errorf("%s: %+v, %v, want %d", by, status, err, want)
			}
		}
		f.advance(session.QueueRecent)
		time.Sleep(session.QueueRecent)
		if status, err := f.Wait(f.Context(), q, "", "broker-3", long); err != nil || status.Recent != 0 {
			f.Errorf("later: %+v, %v", status, err)
		}
	}},
	{"Wait by many at once: each gets its own position", func(f *fixture) {
		q := newQueue()
		var list [32]session.QueueStatus
		atOnce(len(list), func(i int) {
			var err error
			if list[i], err = f.Wait(f.Context(), q, fmt.Sprint(i), "broker-1", long); err != nil {
				f.Error(err)
			}
		})
		slices.SortFunc(list[:], func(a, b session.QueueStatus) int { return a.Ahead - b.Ahead })
		for i, status := range list {
			if status.Ahead != i {
				f.Fatalf("position %d has %d ahead", i, status.Ahead)
			}
		}
	}},
}
