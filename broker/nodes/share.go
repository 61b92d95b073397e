package nodes

import (
	"math"
	"time"
)

const (
	// priorArrivals is the weight of the initial guess 1/brokers, in arrivals: as
	// many arrivals must be seen before the observations outweigh the guess.
	priorArrivals = 20
	// shareFloor bounds how far below an even share the estimate may fall; below
	// it, one pending session would count for thousands.
	shareFloor = 1.0 / 8
)

// share estimates which part of all arrivals is this broker's. It is a moving
// average over the nodes' reports. It starts at an even share among the brokers,
// and returns to that if no sessions arrive.
type share struct {
	brokers   int
	mine, all float64
}

func (s *share) arrived(mine, all uint64) {
	s.mine += float64(mine)
	s.all += float64(max(mine, all))
}

func (s *share) decay(dt, memory time.Duration) {
	f := math.Exp(-float64(dt) / float64(memory))
	s.mine *= f
	s.all *= f
}

// value returns the share, in (0, 1].
func (s *share) value() float64 {
	even := 1 / float64(max(s.brokers, 1))
	v := (s.mine + priorArrivals*even) / (s.all + priorArrivals)
	return min(max(v, shareFloor*even), 1)
}
