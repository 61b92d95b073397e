package simulate

import (
	"math"
	"math/rand/v2"
	"strconv"

	"github.com/usher-broker/usher/broker/nodes"
	"github.com/usher-broker/usher/broker/placement"
)

// chooser picks the nodes: either a table for each broker, or the oracle.
type chooser interface {
	pick(s *sim, h placement.Hints) int // -1 if refused
}

// broker is the part of a broker that places sessions.
type broker struct {
	*nodes.Table
	*placement.Picker
}

// policies gives each broker a table and a policy. With blind, the brokers do
// not count their pending sessions. The zero value uses the default policy.
type policies struct {
	make  func() placement.Selector
	blind bool
}

func (p policies) config() placement.Config {
	if p.make == nil {
		return placement.Config{}
	}
	return placement.Config{Selector: func(string) placement.Selector { return p.make() }}
}

func (p policies) start(s *sim) {
	s.brokers = nil
	for i := range s.weights {
		table := nodes.New(nodes.Config{}, s.now)
		table.SetBrokers(len(s.weights))
		for _, n := range s.nodes {
			if !n.dead {
				table.Update(s.now, n.peer())
			}
		}
		rng := rand.New(rand.NewPCG(uint64(i), s.rng.Uint64()))
		s.brokers = append(s.brokers, broker{table, placement.NewPicker(p.config(), table, rng)})
	}
}

func (p policies) pick(s *sim, h placement.Hints) int {
	b := s.broker()
	to, err := s.brokers[b].Pick(s.now, h)
	if err != nil {
		return -1
	}
	if p.blind {
		s.brokers[b].Cancel(s.now, to)
	}
	n, _ := strconv.Atoi(to.ID()[1:])
	s.send(n, b)
	return n
}

// oracle knows the exact load of every node and the sessions under way of all
// brokers.
type oracle struct{}

func (oracle) pick(s *sim, h placement.Hints) int {
	best, least := -1, math.MaxFloat64
	for i, n := range s.nodes {
		key := float64(n.live+n.inFlight+1) / float64(n.capacity)
		if n.id != h.Exclude && !n.dead && !n.draining && n.live+n.inFlight < n.capacity && key < least {
			best, least = i, key
		}
	}
	if best >= 0 {
		s.send(best, s.broker())
	}
	return best
}
