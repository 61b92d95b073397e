package placement

import (
	"fmt"
	"testing"
	"time"
)

// newTable returns a table, one of four brokers', that knows n nodes in four
// regions.
func newTable(n int) *world {
	l := newLeast()
	l.SetBrokers(4)
	for i := range n {
		p := ready(fmt.Sprintf("node-%04d", i), 1<<24, uint32(i%7)*1000+1<<20)
		p.Region = fmt.Sprintf("r%d", i%4)
		l.Update(t0, p)
	}
	l.Tick(t0)
	return l
}

func BenchmarkPick(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l := newTable(n)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := l.Pick(t0, Hints{}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("%d/region", n), func(b *testing.B) {
			l := newTable(n)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := l.Pick(t0, Hints{Region: "r1"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPickNoneEligible compares all nodes in each pick.
func BenchmarkPickNoneEligible(b *testing.B) {
	l := newTable(1000)
	late := after(time.Minute)
	l.Tick(late)
	for b.Loop() {
		if _, err := l.Pick(late, Hints{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTick(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l := newTable(n)
			now := t0
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(time.Millisecond)
				l.Tick(now)
			}
		})
	}
}

func BenchmarkReport(b *testing.B) {
	l := newTable(1000)
	r := report("node-0500", 0, 1<<24, 1<<20, 0)
	b.ReportAllocs()
	for b.Loop() {
		r.Seq++
		r.Arrived++
		l.Report(t0, r)
	}
}
