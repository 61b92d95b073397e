package main

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The garbage collector of Go runs each time the heap has grown by a percentage.
// Most of a node's heap is what idle sessions keep, and the room that the collector
// leaves itself is a part of what a session costs: half the usual one is enough. Of a
// small heap, an auth's too, half is so little that the collector hardly rests while
// clients come; there it has collectRoom, which a process can spare.
const (
	collectPercent = 50
	collectRoom    = 32 << 20 // bytes
)

// tuneCollector keeps the percentage right until ctx ends. GOGC, if set, stands.
func tuneCollector(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	tune := func() {
		metrics.Read(sample)
		live := max(float64(sample[0].Value.Uint64()), 1<<20)
		debug.SetGCPercent(int(math.Max(collectPercent, 100*collectRoom/live)))
	}
	tune()
	go every(ctx, time.Second, tune)
}
