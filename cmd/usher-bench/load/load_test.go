package load_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/usher-broker/usher/cmd/usher-bench/load"
)

// TestPlan checks that operations begin at their planned times, in order, and at the rate
// after the ramp.
func TestPlan(outer *testing.T) {
	rapid.Check(outer, func(t *rapid.T) {
		p := load.Plan{
			N: rapid.IntRange(0, 500).Draw(t, "n"), Rate: rapid.Float64Range(1, 1000).Draw(t, "rate"),
			Ramp: time.Duration(rapid.IntRange(0, 3000).Draw(t, "ramp")) * time.Millisecond,
		}
		synctest.Test(outer, func(*testing.T) {
			start, last := time.Now(), time.Duration(-1)
			n := 0
			p.Run(context.Background(), func(i int, planned time.Time) {
				at := planned.Sub(start)
				if i != n || at < last || time.Since(planned) < 0 || time.Since(planned) > time.Millisecond {
					t.Fatalf("operation %d, after %d, was planned for %v, after %v, and began %v late", i, n-1, at, last, time.Since(planned))
				}
				n, last = n+1, at
			})
			if n != p.N {
				t.Fatalf("%d operations, want %d", n, p.N)
			}
			if limit := p.Ramp.Seconds()/2 + float64(p.N)/p.Rate; n > 1 && time.Since(start).Seconds() > limit {
				t.Fatalf("it took %v, more than %v s", time.Since(start), limit)
			}
		})
	})
}

// TestPlanLate checks that a slow operation delays later ones but not their planned
// times, and that the delay is reported.
func TestPlanLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var planned []time.Duration
		start := time.Now()
		late := load.Plan{N: 10, Rate: 10}.Run(context.Background(), func(i int, at time.Time) {
			planned = append(planned, at.Sub(start))
			if i == 2 {
				time.Sleep(time.Second)
			}
		})
		if late != 900*time.Millisecond || planned[9] != 900*time.Millisecond {
			t.Errorf("late by %v; the last was planned for %v", late, planned[9])
		}
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		n := 0
		load.Plan{N: 1000, Rate: 10}.Run(ctx, func(int, time.Time) { n++ })
		if n < 29 || n > 31 {
			t.Errorf("%d operations in 3 s at 10 per second", n)
		}
	})
}

// TestTallyShares checks that the counts of several processes add up to those of one.
func TestTallyShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one, sum := load.NewTally(), load.NewTally()
		for range rapid.IntRange(1, 4).Draw(t, "processes") {
			part := load.NewTally()
			for _, us := range rapid.SliceOfN(rapid.Int64Range(0, 10_000_000), 0, 50).Draw(t, "took") {
				one.Lasted(time.Duration(us) * time.Microsecond)
				part.Lasted(time.Duration(us) * time.Microsecond)
			}
			for range rapid.IntRange(0, 3).Draw(t, "failed") {
				one.Failed("reason")
				part.Failed("reason")
			}
			b, err := json.Marshal(part.Share())
			if err != nil {
				t.Fatal(err)
			}
			var s load.Share
			if err := json.Unmarshal(b, &s); err != nil {
				t.Fatal(err)
			}
			sum.Add(s)
		}
		got, _ := json.Marshal(sum.Summary(time.Second))
		want, _ := json.Marshal(one.Summary(time.Second))
		if string(got) != string(want) {
			t.Fatalf("%s, not %s", got, want)
		}
	})
}

func TestSummary(t *testing.T) {
	tally := load.NewTally()
	for ms := range 1000 {
		tally.Lasted(time.Duration(ms+1) * time.Millisecond)
	}
	s := tally.Summary(10 * time.Second)
	if s.Done != 1000 || s.PerSecond != 100 || s.P50MS < 499 || s.P50MS > 501 || s.P99MS < 989 || s.P99MS > 991 || s.MaxMS < 999 || s.MaxMS > 1001 {
		t.Errorf("%+v", s)
	}
}

// TestDialElsewhere checks that a Dialer connects to no other machine unless Anywhere is
// set.
func TestDialElsewhere(t *testing.T) {
	d := &load.Dialer{Timeout: time.Second}
	for _, target := range []string{"http://192.0.2.1:80", "ws://[2001:db8::1]:80/x"} {
		u, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Dial(t.Context(), u); !errors.Is(err, load.ErrElsewhere) {
			t.Errorf("%s: %v", target, err)
		}
	}
}

// TestNumbers checks that a missing echo counts as missing, and a second one as
// duplicated.
func TestNumbers(t *testing.T) {
	n := &load.Numbers{Tally: load.NewTally()}
	var list [][]byte
	for range 5 {
		list = append(list, n.Next(make([]byte, load.MinMessage), time.Now()))
	}
	for _, i := range []int{0, 1, 1, 3} {
		n.Received(list[i])
	}
	n.Received([]byte("short"))
	done, failed := n.Tally.Count()
	if n.Missing.Load() != 1 || n.Duplicated.Load() != 1 || n.Waiting() != 1 || done != 3 || failed != 1 {
		t.Errorf("missing %d, duplicated %d, waiting %d, done %d, failed %d", n.Missing.Load(), n.Duplicated.Load(), n.Waiting(), done, failed)
	}
}
