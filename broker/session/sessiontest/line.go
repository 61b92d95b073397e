package sessiontest

import (
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// waits fails the test unless the place has so many ahead, of so many.
func (f *fixture) waits(line, place string, ahead, waiting int) session.QueueStatus {
	f.Helper()
	p, err := f.Wait(f.Context(), line, place, "broker-1", long)
	f.must(err)
	if p.Ahead != ahead || p.Waiting != waiting || p.Session != "" {
		f.Fatalf("%+v, want %d of %d", p, ahead, waiting)
	}
	return p
}

func newLine() string { return "line-" + rand.Text() }

var lineTests = []test{
	{"Wait: first come, first served", func(f *fixture) {
		l := newLine()
		f.waits(l, "", 0, 0)
		f.waits(l, "c", 0, 1)
		f.waits(l, "a", 1, 2)
		f.waits(l, "b", 2, 3)
		f.waits(l, "c", 0, 3)
		f.waits(l, "b", 2, 3)
		f.waits(l, "", 3, 3)
		f.waits(newLine(), "b", 0, 1)
	}},
	{"Seat lets the others move up, and is told again", func(f *fixture) {
		l := newLine()
		f.waits(l, "a", 0, 1)
		if p := f.waits(l, "b", 1, 2); p.Rate != 0 {
			f.Errorf("rate %v before anybody was seated", p.Rate)
		}
		f.must(f.Admit(f.Context(), l, "a", "session-a", "broker-1", long))
		if p := f.waits(l, "b", 0, 1); p.Rate <= 0 || p.Rate > 1 {
			f.Errorf("rate %v after one was", p.Rate)
		}
		p, err := f.Wait(f.Context(), l, "a", "broker-1", long)
		f.must(err)
		if p.Session != "session-a" || p.Waiting != 1 {
			f.Errorf("%+v", p)
		}
		f.advance(2 * long)
		if p, err = f.Wait(f.Context(), l, "a", "broker-1", long); err != nil || p.Session != "" {
			f.Errorf("after its ttl: %+v, %v", p, err)
		}
	}},
	{"Seat without a session gives the place up", func(f *fixture) {
		l := newLine()
		f.waits(l, "a", 0, 1)
		f.waits(l, "b", 1, 2)
		f.must(f.Admit(f.Context(), l, "a", "", "broker-1", long))
		f.waits(l, "b", 0, 1)
		f.waits(l, "a", 1, 2)
		f.must(f.Admit(f.Context(), newLine(), "a", "", "broker-1", long))
	}},
	{"Wait gives up places that are not kept", func(f *fixture) {
		l := newLine()
		const short = 50 * time.Millisecond
		_, err := f.Wait(f.Context(), l, "a", "broker-1", short)
		f.must(err)
		f.waits(l, "b", 1, 2)
		f.advance(short + time.Millisecond)
		time.Sleep(short + time.Millisecond) // where a line has a clock of its own
		if p := f.waits(l, "b", 0, 1); p.GivenUp != 1 {
			f.Errorf("%+v, and one was given up", p)
		}
		f.waits(l, "a", 1, 2)
	}},
	{"Wait tells what other brokers have seated lately", func(f *fixture) {
		l := newLine()
		for _, by := range []string{"broker-1", "broker-2", "broker-2", "broker"} {
			f.must(f.Admit(f.Context(), l, rand.Text(), "sid", by, long))
		}
		for by, want := range map[string]int{"broker-1": 3, "broker-2": 2, "broker-3": 4} {
			if p, err := f.Wait(f.Context(), l, "", by, long); err != nil || p.Recent != want {
				f.Errorf("%s: %+v, %v, want %d", by, p, err, want)
			}
		}
		f.advance(session.QueueRecent)
		time.Sleep(session.QueueRecent)
		if p, err := f.Wait(f.Context(), l, "", "broker-3", long); err != nil || p.Recent != 0 {
			f.Errorf("later: %+v, %v", p, err)
		}
	}},
	{"Wait gives many at once a place each", func(f *fixture) {
		l := newLine()
		var places [32]session.QueueStatus
		atOnce(len(places), func(i int) {
			var err error
			if places[i], err = f.Wait(f.Context(), l, fmt.Sprint(i), "broker-1", long); err != nil {
				f.Error(err)
			}
		})
		slices.SortFunc(places[:], func(a, b session.QueueStatus) int { return a.Ahead - b.Ahead })
		for i, p := range places {
			if p.Ahead != i {
				f.Fatalf("place %d has %d ahead", i, p.Ahead)
			}
		}
	}},
}
