package load

import (
	"maps"
	"sync"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// Tally counts what became of one kind of thing, and how long it took. It is safe
// for concurrent use.
type Tally struct {
	mu     sync.Mutex
	took   *hdr.Histogram // in microseconds
	failed map[string]int64
}

// NewTally returns one that has counted nothing.
func NewTally() *Tally {
	return &Tally{took: hdr.New(1, time.Hour.Microseconds(), 3), failed: map[string]int64{}}
}

// Took counts one that was done, and when it had been planned.
func (t *Tally) Took(planned time.Time) { t.Lasted(time.Since(planned)) }

// Lasted counts one that was done.
func (t *Tally) Lasted(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_ = t.took.RecordValue(min(max(d.Microseconds(), 1), time.Hour.Microseconds()))
}

// Failed counts one that was not, by why.
func (t *Tally) Failed(why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed[why]++
}

// Count returns how many were done and how many failed.
func (t *Tally) Count() (done, failed int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.failed {
		failed += n
	}
	return t.took.TotalCount(), failed
}

// Share is a tally on its way from one process to another.
type Share struct {
	Took   *hdr.Snapshot
	Failed map[string]int64
}

// Share returns what was counted so far.
func (t *Tally) Share() Share {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Share{t.took.Export(), maps.Clone(t.failed)}
}

// Add counts what another process has counted.
func (t *Tally) Add(s Share) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.took.Merge(hdr.Import(s.Took))
	for why, n := range s.Failed {
		t.failed[why] += n
	}
}

// Summary is a tally for people and programs to read.
type Summary struct {
	Done      int64            `json:"done"`
	PerSecond float64          `json:"per_second,omitempty"`
	MeanMS    float64          `json:"mean_ms"`
	P50MS     float64          `json:"p50_ms"`
	P90MS     float64          `json:"p90_ms"`
	P99MS     float64          `json:"p99_ms"`
	P999MS    float64          `json:"p999_ms"`
	MaxMS     float64          `json:"max_ms"`
	Failed    map[string]int64 `json:"failed,omitempty"`
}

// Summary sums up what was counted within so much time; 0 leaves out the rate.
func (t *Tally) Summary(within time.Duration) Summary {
	t.mu.Lock()
	defer t.mu.Unlock()
	ms := func(percentile float64) float64 { return float64(t.took.ValueAtPercentile(percentile)) / 1000 }
	s := Summary{
		Done: t.took.TotalCount(), MeanMS: t.took.Mean() / 1000,
		P50MS: ms(50), P90MS: ms(90), P99MS: ms(99), P999MS: ms(99.9), MaxMS: float64(t.took.Max()) / 1000,
		Failed: maps.Clone(t.failed),
	}
	if within > 0 {
		s.PerSecond = float64(s.Done) / within.Seconds()
	}
	return s
}
