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

	"github.com/usher-broker/usher/cmd/usher/load"
)

// Things begin when they are planned for, in order, at the rate once it has risen;
// and one that takes long does not put off those after it, only how late they are.
func TestPlan(whole *testing.T) {
	rapid.Check(whole, func(t *rapid.T) {
		p := load.Plan{
			N: rapid.IntRange(0, 500).Draw(t, "n"), Rate: rapid.Float64Range(1, 1000).Draw(t, "rate"),
			Ramp: time.Duration(rapid.IntRange(0, 3000).Draw(t, "ramp")) * time.Millisecond,
		}
		synctest.Test(whole, func(*testing.T) {
			start, last := time.Now(), time.Duration(-1)
			n := 0
			p.Run(context.Background(), func(i int, planned time.Time) {
				at := planned.Sub(start)
				if i != n || at < last || time.Since(planned) < 0 || time.Since(planned) > time.Millisecond {
					t.Fatalf("thing %d, after %d, is planned for %v, after %v, and begins %v late", i, n-1, at, last, time.Since(planned))
				}
				n, last = n+1, at
			})
			if n != p.N {
				t.Fatalf("%d things of %d", n, p.N)
			}
			if most := p.Ramp.Seconds()/2 + float64(p.N)/p.Rate; n > 1 && time.Since(start).Seconds() > most {
				t.Fatalf("it took %v, more than %v s", time.Since(start), most)
			}
		})
	})
}

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
			t.Errorf("%d things in 3 s at 10 per second", n)
		}
	})
}

// What several processes have counted is the same as if one had.
func TestTallyShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		whole, sum := load.NewTally(), load.NewTally()
		for range rapid.IntRange(1, 4).Draw(t, "processes") {
			part := load.NewTally()
			for _, us := range rapid.SliceOfN(rapid.Int64Range(0, 10_000_000), 0, 50).Draw(t, "took") {
				whole.Lasted(time.Duration(us) * time.Microsecond)
				part.Lasted(time.Duration(us) * time.Microsecond)
			}
			for range rapid.IntRange(0, 3).Draw(t, "failed") {
				whole.Failed("why")
				part.Failed("why")
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
		want, _ := json.Marshal(whole.Summary(time.Second))
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

// Nothing is sent to another machine unless it is said to be one's own.
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

// A message that is skipped counts as missing, one that comes again as doubled.
func TestNumbers(t *testing.T) {
	n := &load.Numbers{Tally: load.NewTally()}
	var list [][]byte
	for range 5 {
		list = append(list, n.Next(make([]byte, load.MinMessage), time.Now()))
	}
	for _, i := range []int{0, 1, 1, 3} {
		n.Heard(list[i])
	}
	n.Heard([]byte("short"))
	done, failed := n.Tally.Count()
	if n.Missing.Load() != 1 || n.Doubled.Load() != 1 || n.Waiting() != 1 || done != 3 || failed != 1 {
		t.Errorf("missing %d, doubled %d, waiting %d, done %d, failed %d", n.Missing.Load(), n.Doubled.Load(), n.Waiting(), done, failed)
	}
}
