package process

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

// TestTuneCollector checks that the percentage of the collector follows the heap.
func TestTuneCollector(t *testing.T) {
	if os.Getenv("GOGC") != "" {
		t.Skip("GOGC is set")
	}
	t.Cleanup(func() { debug.SetGCPercent(100) })
	stop := Start(TuneCollector)
	defer stop()
	await := func(what string, met func(percent uint64) bool) {
		t.Helper()
		sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			runtime.GC()
			if metrics.Read(sample); met(sample[0].Value.Uint64()) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: the percentage is %d", what, sample[0].Value.Uint64())
			}
		}
	}
	small := func(percent uint64) bool { return percent > collectPercent && percent <= 100*collectMinimum/(1<<20) }
	await("a small heap", small)
	ballast := make([]byte, 3*collectMinimum)
	await("a large heap", func(percent uint64) bool { return percent == collectPercent })
	runtime.KeepAlive(ballast)
	await("a small heap again", small)
}

// TestTuneCollectorEnds checks that TuneCollector ends with its context, also if the
// collector does not run.
func TestTuneCollectorEnds(t *testing.T) {
	t.Cleanup(func() { debug.SetGCPercent(100) })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	TuneCollector(ctx)
}
