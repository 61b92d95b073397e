package load

import (
	"maps"
	"sync"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// Tally counts operations of one kind: how long those that succeeded took, and how
// often others failed. It is safe for concurrent use.
type Tally struct {
	mu     sync.Mutex
	took   *hdr.Histogram // in microseconds
	failed map[string]int64
}

// NewTally returns an empty Tally.
func NewTally() *Tally {
	return &Tally{took: hdr.New(1, time.Hour.Microseconds(), 3), failed: map[string]int64{}}
}

// Took counts an operation that is done now and was planned for the time.
func (t *Tally) Took(planned time.Time) { t.Lasted(time.Since(planned)) }

// Lasted counts an operation that took d.
func (t *Tally) Lasted(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_ = t.took.RecordValue(min(max(d.Microseconds(), 1), time.Hour.Microseconds()))
}

// Failed counts an operation that failed, by the reason.
func (t *Tally) Failed(reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed[reason]++
}

// Count returns how many operations were done and how many failed.
func (t *Tally) Count() (done, failed int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.failed {
		failed += n
	}
	return t.took.TotalCount(), failed
}

// Share is the content of a Tally, to send to another process.
type Share struct {
	Took   *hdr.Snapshot
	Failed map[string]int64
}

// Share returns the content of t.
func (t *Tally) Share() Share {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Share{t.took.Export(), maps.Clone(t.failed)}
}

// Add adds the counts of another Tally.
func (t *Tally) Add(s Share) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.took.Merge(hdr.Import(s.Took))
	for reason, n := range s.Failed {
		t.failed[reason] += n
	}
}

// Summary is the JSON output of a Tally.
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

// Summary returns the summary of operations that took place within the time. With 0 it
// has no rate.
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
