package process

import (
	"context"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// Go's garbage collector runs each time the heap has grown by a percentage. Most
// of a node's heap belongs to idle sessions, so the space that the collector may
// use is part of what a session costs: half the usual percentage is enough. On a
// small heap half is so little that the collector runs all the time while clients
// connect; there it may use collectMinimum.
const (
	collectPercent = 50
	collectMinimum = 32 << 20 // bytes
)

// TuneCollector adjusts the percentage of the garbage collector to the heap, after
// each run of the collector, until ctx ends. If GOGC is set it returns at once.
func TuneCollector(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	percent := 0 // as set last; each change stops all goroutines for a moment
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	collected := make(chan struct{}, 1)
	for {
		metrics.Read(sample)
		live := max(float64(sample[0].Value.Uint64()), 1<<20)
		if next := int(math.Max(collectPercent, 100*collectMinimum/live)); next != percent {
			percent = next
			debug.SetGCPercent(percent)
		}
		noteCollection(collected)
		select {
		case <-ctx.Done():
			return
		case <-collected:
		}
	}
}

// noteCollection sends a value after the next run of the collector: it makes an object
// that nothing refers to, and that run finds it.
func noteCollection(collected chan<- struct{}) {
	type unused struct{ _ *int } // an object with a pointer is not put in one block with others
	runtime.AddCleanup(new(unused), func(collected chan<- struct{}) {
		select {
		case collected <- struct{}{}:
		default:
		}
	}, collected)
}
