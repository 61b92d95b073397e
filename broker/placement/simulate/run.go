package simulate

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/usher-broker/usher/broker/placement"
)

// Oracle is the name of the best possible chooser, which knows everything.
const Oracle = "oracle"

// StaleLeast is the name of a policy for comparison only: it picks the least
// loaded of all nodes by their last reports and ignores the sessions under way.
const StaleLeast = "stale-least"

// Names returns the names that Run accepts: the oracle, the policies, and those
// for comparison only.
func Names() []string {
	return append(append([]string{Oracle}, placement.Names()...), FreeCapacity, StaleLeast)
}

// Result is the outcome of a policy in a scenario.
type Result struct {
	Policy string `json:"policy"`
	// Worst is the highest max/mean utilisation. Like all numbers here it is the
	// median over the seeds.
	Worst float64 `json:"worst"`
	Last  float64 `json:"last"` // max/mean at the end
	// Refused is how many sessions were refused, by a broker or by a full node.
	Refused int `json:"refused"`
	// Misplaced is how many sessions were sent to a dead node.
	Misplaced int `json:"misplaced"`
	// Peak is the most sessions that a started node got in one second, in
	// sixtieths of its capacity. 0 if none was started.
	Peak float64 `json:"peak,omitempty"`
	// Trace is max/mean every 100 ms, for the first seed.
	Trace []float64 `json:"trace,omitempty"`
}

// Run runs the scenario once for each policy and seed, as many at a time as there
// are processors. It returns the results in the order of names. If ctx ends, it
// returns the cause.
func Run(ctx context.Context, s Scenario, names []string, seeds int) ([]Result, error) {
	for _, name := range names {
		if _, err := chooserOf(name); err != nil {
			return nil, err
		}
	}
	runs := make([][]Result, len(names))
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	for i, name := range names {
		runs[i] = make([]Result, seeds)
		for seed := range seeds {
			slots <- struct{}{}
			if ctx.Err() != nil {
				wg.Wait()
				return nil, context.Cause(ctx)
			}
			wg.Go(func() {
				defer func() { <-slots }()
				runs[i][seed] = s.play(name, uint64(seed+1))
			})
		}
	}
	wg.Wait()
	results := make([]Result, len(names))
	for i, list := range runs {
		results[i] = median(list)
	}
	return results, nil
}

func chooserOf(name string) (chooser, error) {
	switch name {
	case Oracle:
		return oracle{}, nil
	case StaleLeast:
		least := func() placement.Selector { return &placement.Least{Candidates: 1, Few: maxNodes} }
		return policies{make: least, blind: true}, nil
	case FreeCapacity:
		return policies{make: func() placement.Selector { return freeCapacity{} }}, nil
	}
	if _, err := placement.New(name); err != nil {
		return nil, fmt.Errorf("%w, %s, %s, %s", err, Oracle, FreeCapacity, StaleLeast)
	}
	return policies{make: func() placement.Selector {
		p, _ := placement.New(name)
		return p
	}}, nil
}

func median(list []Result) Result {
	r := list[0]
	half := func(value func(Result) float64) float64 {
		v := make([]float64, len(list))
		for i := range list {
			v[i] = value(list[i])
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	r.Worst = half(func(r Result) float64 { return r.Worst })
	r.Last = half(func(r Result) float64 { return r.Last })
	r.Peak = half(func(r Result) float64 { return r.Peak })
	r.Refused = int(half(func(r Result) float64 { return float64(r.Refused) }))
	r.Misplaced = int(half(func(r Result) float64 { return float64(r.Misplaced) }))
	return r
}

// play runs the scenario once.
func (s Scenario) play(name string, seed uint64) Result {
	by, _ := chooserOf(name) // Run has checked it
	w := s.build(seed)
	w.run(by, s.SettleS)
	s.plan(w)
	w.keepTrace = true
	w.measure(by, s.MeasureS)
	r := Result{
		Policy: name, Worst: w.worst, Last: w.last, Refused: w.refused, Misplaced: w.misplaced, Trace: w.trace,
	}
	for _, n := range w.nodes {
		if n.joined {
			r.Peak = max(r.Peak, float64(max(n.peak, n.thisSecond))*60/float64(n.capacity))
		}
	}
	return r
}

func (s Scenario) build(seed uint64) *sim {
	w := newSim(seed, 0, s.Brokers, 0, nil)
	w.stay, w.abandon = s.StayS, s.Abandon
	if len(s.Weights) > 0 {
		w.weights = s.Weights
	}
	between := func(r Range) int { return r[0] + w.rng.IntN(r[1]-r[0]+1) }
	if s.ConnectMS != nil {
		w.connect = func() int { return between(*s.ConnectMS) }
	}
	lag := Range{1, 20}
	if s.LagMS != nil {
		lag = *s.LagMS
	}
	w.lag = func(broker int) int {
		if s.StaleMS != nil && broker == s.Brokers-1 {
			return between(*s.StaleMS)
		}
		return between(lag)
	}
	for _, n := range s.Nodes {
		w.addAll(n)
	}
	base := s.LoginsPerS
	if base == 0 {
		base = float64(w.live()) / w.stay / (1 - w.abandon)
	}
	w.rate = func(int) float64 { return base }
	return w
}

func (s *sim) addAll(n Nodes) (added []*simNode) {
	for range n.Count {
		fill := n.Fill
		if n.Spread > 0 {
			fill = min(max(n.Fill*(1+n.Spread*s.rng.NormFloat64()), 0), 0.98)
		}
		added = append(added, s.add(n.Capacity, int(fill*float64(n.Capacity))))
	}
	return added
}

// plan schedules the events. The measurement begins now.
func (s Scenario) plan(w *sim) {
	for _, e := range s.Events {
		w.after(max(ms(e.AtS), 1), func() { w.apply(e) })
	}
}

func (s *sim) apply(e Event) {
	if e.LoginsPerS != nil {
		before, rate := s.rate, *e.LoginsPerS
		s.rate = func(int) float64 { return rate }
		if e.ForS > 0 {
			s.after(ms(e.ForS), func() { s.rate = before })
		}
	}
	for _, n := range e.Kill {
		s.kill(n)
	}
	for _, n := range e.Drain {
		s.drain(n)
	}
	for _, n := range e.Flap {
		s.flap(n, ms(e.DownS), ms(e.UpS), e.Times)
	}
	if e.Start != nil {
		for _, n := range s.addAll(*e.Start) {
			n.joined = true
		}
	}
	if p, ok := s.by.(policies); ok && e.RestartBrokers {
		for _, n := range s.nodes {
			clear(n.arrived) // those were counted under other issuers
		}
		p.start(s)
	}
}

func (s *sim) flap(n, down, up, times int) {
	if times == 0 || s.nodes[n].dead {
		return
	}
	s.kill(n)
	s.after(down, func() {
		s.restart(n)
		s.after(up, func() { s.flap(n, down, up, times-1) })
	})
}
