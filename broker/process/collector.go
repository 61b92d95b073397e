package process

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
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

// TuneCollector adjusts the percentage of the garbage collector to the heap until
// ctx ends. If GOGC is set it returns at once.
func TuneCollector(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	tune := func() {
		metrics.Read(sample)
		live := max(float64(sample[0].Value.Uint64()), 1<<20)
		debug.SetGCPercent(int(math.Max(collectPercent, 100*collectMinimum/live)))
	}
	tune()
	Every(ctx, time.Second, tune)
}
