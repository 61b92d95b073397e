package wheel

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const step = 10 * time.Millisecond

// A wheel does what a list of items with their times does, but for the rounding to
// its step.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := New[int](step)
		now := w.start
		items := make([]Item[int], 20)
		due := make(map[int]time.Time) // by index of the item
		for i := range items {
			items[i].Value = i
		}
		item := rapid.IntRange(0, len(items)-1)
		when := rapid.Map(rapid.IntRange(-500, 2000), func(ms int) time.Duration { return time.Duration(ms) * time.Millisecond })
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				i, at := item.Draw(t, "item"), now.Add(when.Draw(t, "in"))
				w.Set(&items[i], at)
				due[i] = at
			},
			"remove": func(t *rapid.T) {
				i := item.Draw(t, "item")
				w.Remove(&items[i])
				delete(due, i)
			},
			"advance": func(t *rapid.T) {
				now = now.Add(max(when.Draw(t, "by"), 0))
				for _, i := range w.Due(now) {
					at, ok := due[i]
					if !ok || at.After(now) {
						t.Fatalf("item %d is due at %v, %v, %v before that", i, at, ok, at.Sub(now))
					}
					delete(due, i)
				}
				for i, at := range due {
					if late := now.Sub(at); late >= step {
						t.Fatalf("item %d is %v late", i, late)
					}
				}
			},
			"": func(t *rapid.T) {
				if w.Len() != len(due) {
					t.Fatalf("%d items, want %d", w.Len(), len(due))
				}
				first := time.Time{}
				for _, at := range due {
					if first.IsZero() || at.Before(first) {
						first = at
					}
				}
				next, ok := w.Next()
				if ok != (len(due) > 0) {
					t.Fatalf("Next says %v, and %d items are set", ok, len(due))
				}
				if ok && first.After(w.start) && (next.Before(first) || next.Sub(first) >= step) {
					t.Fatalf("next at %v, want %v", next.Sub(w.start), first.Sub(w.start))
				}
			},
		})
	})
}

// Due returns all that is due and nothing else, earliest first.
func TestDue(t *testing.T) {
	w := New[string](step)
	items := map[string]time.Duration{"c": 30 * time.Millisecond, "a": 10 * time.Millisecond, "d": time.Hour, "b": 20 * time.Millisecond, "past": -time.Hour}
	for name, in := range items {
		w.Set(&Item[string]{Value: name}, w.start.Add(in))
	}
	w.Set(&Item[string]{Value: "far"}, w.start.Add(math.MaxInt64))
	w.Set(&Item[string]{Value: "zero"}, time.Time{})
	if got := w.Due(w.start); len(got) != 2 || !slices.Contains(got, "past") || !slices.Contains(got, "zero") {
		t.Errorf("%q at the start", got)
	}
	if got, want := w.Due(w.start.Add(30*time.Millisecond)), []string{"a", "b", "c"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if at, ok := w.Next(); !ok || at.Sub(w.start) != time.Hour {
		t.Errorf("next at %v", at.Sub(w.start))
	}
	w.Due(w.start.Add(time.Hour))
	if at, ok := w.Next(); !ok || at.Before(w.start.Add(100*365*24*time.Hour)) {
		t.Errorf("next at %v, %v", at, ok)
	}
}

// Run delivers each item within a step of its time, also one that is set to an earlier
// time than the one that Run waits for.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New[time.Time](step)
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := errors.New("ended")
		result := make(chan error)
		delivered := 0
		go func() {
			result <- w.Run(ctx, func(now time.Time, due []time.Time) {
				for _, at := range due {
					delivered++
					if late := now.Sub(at); late < 0 || late > step {
						t.Errorf("%v late", late)
					}
				}
			})
		}()
		set := func(in time.Duration) *Item[time.Time] {
			at := time.Now().Add(in)
			i := &Item[time.Time]{Value: at}
			w.Set(i, at)
			synctest.Wait()
			return i
		}
		set(time.Hour)
		set(time.Minute)
		w.Remove(set(time.Second))
		set(time.Nanosecond)
		for range 100 {
			set(3 * time.Millisecond)
			time.Sleep(time.Millisecond)
		}
		time.Sleep(2 * time.Hour)
		if synctest.Wait(); delivered != 103 || w.Len() != 0 {
			t.Errorf("%d items were delivered, %d are left", delivered, w.Len())
		}
		cancel(ended)
		if err := <-result; !errors.Is(err, ended) {
			t.Error(err)
		}
	})
}

// An empty wheel does not wake up: with a wake-up for each step this test would not
// end, because it lasts for a million hours of the synthetic clock.
func TestEmptyWheelSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New[int](step)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = w.Run(ctx, func(time.Time, []int) { t.Error("called") }) }()
		i := &Item[int]{}
		w.Set(i, time.Now().Add(time.Hour))
		synctest.Wait()
		w.Remove(i)
		time.Sleep(1e6 * time.Hour)
	})
}

func TestItemSize(t *testing.T) {
	if size := unsafe.Sizeof(Item[struct{}]{}); size > 24 {
		t.Errorf("an item takes %d bytes besides its value", size)
	}
}

const many = 50_000

// spread returns a wheel with many items, spread over 20 seconds.
func spread() (*Wheel[int], []Item[int]) {
	w := New[int](125 * time.Millisecond)
	items := make([]Item[int], many)
	for i := range items {
		items[i].Value = i
		w.Set(&items[i], w.start.Add(time.Duration(i+1)*20*time.Second/many))
	}
	return w, items
}

// BenchmarkDueNone is the cost of a call when no item of 50,000 is due.
func BenchmarkDueNone(b *testing.B) {
	w, _ := spread()
	for b.Loop() {
		if len(w.Due(w.start)) > 0 {
			b.Fatal("due")
		}
	}
}

// BenchmarkDue is the cost of one item that is due among 50,000 and set again.
func BenchmarkDue(b *testing.B) {
	w, items := spread()
	now := w.start
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; {
		now = now.Add(w.step)
		for _, i := range w.Due(now) {
			w.Set(&items[i], now.Add(20*time.Second))
			n++
		}
	}
}

// BenchmarkSet is the cost of an item that moves, among 50,000.
func BenchmarkSet(b *testing.B) {
	w, items := spread()
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		w.Set(&items[n%many], w.start.Add(time.Duration(n%20_000)*time.Millisecond))
	}
}
