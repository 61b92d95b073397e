package placement

import (
	"math"
	"time"
)

const (
	// priorLandings is how many landings the guess 1/brokers is worth: so many
	// must be seen before what was seen counts for more than the guess.
	priorLandings = 20
	// shareFloor bounds how far below its even part a broker may believe its
	// share to be; below it, one session under way would count for thousands.
	shareFloor = 1.0 / 8
)

// share tells which part of all landings is this broker's: a moving average
// over what the nodes report, that starts out, and falls back when nobody
// lands, at an even part of the brokers.
type share struct {
	brokers   int
	mine, all float64
}

func (s *share) landed(mine, all uint64) {
	s.mine += float64(mine)
	s.all += float64(max(mine, all))
}

func (s *share) decay(dt, memory time.Duration) {
	f := math.Exp(-float64(dt) / float64(memory))
	s.mine *= f
	s.all *= f
}

// value is in (0, 1].
func (s *share) value() float64 {
	even := 1 / float64(max(s.brokers, 1))
	v := (s.mine + priorLandings*even) / (s.all + priorLandings)
	return min(max(v, shareFloor*even), 1)
}
