package load

import (
	"context"
	"math"
	"time"
)

// Plan is a schedule of operations. The planned times do not depend on how long an
// operation takes: a slow one does not delay later ones, and latencies count from the
// planned time (this avoids "coordinated omission").
type Plan struct {
	N    int           // number of operations
	Rate float64       // per second; 0 for all at once
	Ramp time.Duration // over which the rate rises evenly from 0
}

// at returns the planned time of the i-th operation, from the start.
func (p Plan) at(i int) time.Duration {
	if p.Rate <= 0 {
		return 0
	}
	ramp := p.Ramp.Seconds()
	if rising := p.Rate * ramp / 2; float64(i) < rising {
		return seconds(math.Sqrt(2 * ramp * float64(i) / p.Rate))
	} else {
		return seconds(ramp + (float64(i)-rising)/p.Rate)
	}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// Run calls begin for each operation at its planned time, or as soon as it can after
// that. It returns when all have begun, or ctx ends. late is the greatest delay of a
// call; if it is large, the generator itself is overloaded.
func (p Plan) Run(ctx context.Context, begin func(i int, planned time.Time)) (late time.Duration) {
	start := time.Now()
	for i := range p.N {
		planned := start.Add(p.at(i))
		wait := time.Until(planned)
		if wait > 0 {
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
			}
		}
		if ctx.Err() != nil {
			return late
		}
		if p.Rate > 0 {
			late = max(late, time.Since(planned))
		}
		begin(i, planned)
	}
	return late
}
