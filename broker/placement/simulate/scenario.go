package simulate

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Scenario is one course of things. Times at which something happens count from
// the moment at which the measuring begins.
type Scenario struct {
	Name  string `json:"name"`
	About string `json:"about,omitempty"`

	// Nodes are the nodes at the beginning, in groups of the same kind. They are
	// numbered through from 0.
	Nodes []Nodes `json:"nodes"`
	// Brokers is how many members place sessions. Default 1.
	Brokers int `json:"brokers,omitempty"`
	// Weights are the parts of the logins that each broker gets. Default: equal.
	Weights []float64 `json:"weights,omitempty"`
	// LagMS is how long reports take to every broker, in milliseconds, evenly
	// distributed between the two. Default 1 to 20.
	LagMS *Range `json:"lag_ms,omitempty"`
	// StaleMS is the same for the last broker alone.
	StaleMS *Range `json:"stale_ms,omitempty"`

	// StayS is how long a session lasts on average, in seconds, exponentially
	// distributed. Default 600.
	StayS float64 `json:"stay_s,omitempty"`
	// LoginsPerS is the rate of logins. Default: as many as leave at the
	// beginning.
	LoginsPerS float64 `json:"logins_per_s,omitempty"`
	// Abandon is the part of those sent to a node who never get there. Default
	// 0.05; less than 0 is none.
	Abandon float64 `json:"abandon,omitempty"`
	// ConnectMS is how long the others take. Default 50 to 500.
	ConnectMS *Range `json:"connect_ms,omitempty"`

	// SettleS is how long all runs before the measuring begins, MeasureS how long
	// it goes on. Defaults 5 and 20.
	SettleS  float64 `json:"settle_s,omitempty"`
	MeasureS float64 `json:"measure_s,omitempty"`

	Events []Event `json:"events,omitempty"`
	Goal   Goal    `json:"goal,omitzero"`
}

// Nodes are so many nodes of one kind.
type Nodes struct {
	Count    int     `json:"count,omitempty"` // default 1
	Capacity int     `json:"capacity"`        // sessions
	Fill     float64 `json:"fill,omitempty"`  // part of the capacity that is taken at first
	// Spread is the standard deviation of Fill from node to node, as a part of it.
	Spread float64 `json:"spread,omitempty"`
}

// Range is two milliseconds, the lower first.
type Range [2]int

// Event is something that happens at a time. More than one thing may happen at
// once.
type Event struct {
	AtS float64 `json:"at_s"`

	// LoginsPerS replaces the rate of logins, for ForS seconds; 0 is for good.
	LoginsPerS *float64 `json:"logins_per_s,omitempty"`
	ForS       float64  `json:"for_s,omitempty"`

	// Kill ends the nodes of these numbers. Their clients come back within two
	// seconds; the brokers are told by gossip after six.
	Kill []int `json:"kill,omitempty"`
	// Drain has them give their sessions away, over five seconds.
	Drain []int `json:"drain,omitempty"`
	// Flap kills them, starts them anew after DownS, and so on, Times in all,
	// with UpS in between. Defaults 2, 3 and 3.
	Flap  []int   `json:"flap,omitempty"`
	DownS float64 `json:"down_s,omitempty"`
	UpS   float64 `json:"up_s,omitempty"`
	Times int     `json:"times,omitempty"`
	// Start adds nodes; the rate at which they are filled is measured.
	Start *Nodes `json:"start,omitempty"`
	// RestartBrokers has all brokers forget everything.
	RestartBrokers bool `json:"restart_brokers,omitempty"`
}

// Goal is what the default policy must reach. A field that is 0 is no goal.
type Goal struct {
	// Ratio is the most that its worst max/mean may be of the oracle's.
	Ratio float64 `json:"ratio,omitempty"`
	// Peak is the most sessions that a node which was started may get in a second,
	// in sixtieths of its capacity: the rate at which it may be filled.
	Peak float64 `json:"peak,omitempty"`
}

//go:embed scenarios.json
var builtin []byte

// Builtin returns the scenarios that come with the package.
func Builtin() []Scenario {
	list, err := Parse(bytes.NewReader(builtin))
	if err != nil {
		panic(err) // a test parses them
	}
	return list
}

const maxScenarioBytes = 1 << 20

// Parse reads one scenario, or a list of them, and checks that they make sense.
func Parse(r io.Reader) ([]Scenario, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxScenarioBytes+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxScenarioBytes {
		return nil, fmt.Errorf("more than %d bytes", maxScenarioBytes)
	}
	var list []Scenario
	if trimmed := bytes.TrimSpace(b); len(trimmed) > 0 && trimmed[0] != '[' {
		list = make([]Scenario, 1)
		err = decode(trimmed, &list[0])
	} else {
		err = decode(b, &list)
	}
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errors.New("no scenario")
	}
	for i := range list {
		if err := list[i].check(); err != nil {
			return nil, fmt.Errorf("scenario %d, %q: %w", i+1, list[i].Name, err)
		}
	}
	return list, nil
}

func decode(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the JSON")
	}
	return nil
}

// Bounds that keep a scenario from taking a day.
const (
	maxNodes   = 5000
	maxBrokers = 100
	maxSeconds = 3600
)

// check fills in the defaults and reports what makes no sense.
func (s *Scenario) check() error {
	if s.Name == "" {
		return errors.New("no name")
	}
	orDefault(&s.Brokers, 1)
	orDefault(&s.StayS, 600)
	orDefault(&s.SettleS, 5)
	orDefault(&s.MeasureS, 20)
	orDefault(&s.Abandon, 0.05)
	s.Abandon = max(s.Abandon, 0)
	count := 0
	for i := range s.Nodes {
		if err := s.Nodes[i].check(); err != nil {
			return fmt.Errorf("nodes: %w", err)
		}
		count += s.Nodes[i].Count
	}
	switch {
	case count == 0 || count > maxNodes:
		return fmt.Errorf("%d nodes, not 1 to %d", count, maxNodes)
	case s.Brokers < 0 || s.Brokers > maxBrokers:
		return fmt.Errorf("%d brokers, not 1 to %d", s.Brokers, maxBrokers)
	case len(s.Weights) > 0 && len(s.Weights) != s.Brokers:
		return fmt.Errorf("%d weights for %d brokers", len(s.Weights), s.Brokers)
	case s.StayS < 0 || s.LoginsPerS < 0 || s.Abandon >= 1:
		return errors.New("stay_s and logins_per_s must be positive, abandon less than 1")
	case s.SettleS < 0 || s.MeasureS < 0 || s.SettleS+s.MeasureS > maxSeconds:
		return fmt.Errorf("settle_s and measure_s must be positive, and %d together at most", maxSeconds)
	}
	for _, w := range s.Weights {
		if w < 0 {
			return errors.New("a negative weight")
		}
	}
	for _, r := range []*Range{s.LagMS, s.StaleMS, s.ConnectMS} {
		if r != nil && (r[0] < 0 || r[1] < r[0]) {
			return fmt.Errorf("%v: a range has its lower end first", *r)
		}
	}
	return s.checkEvents(count)
}

func (s *Scenario) checkEvents(nodes int) error {
	for i := range s.Events {
		e := &s.Events[i]
		orDefault(&e.DownS, 2)
		orDefault(&e.UpS, 3)
		orDefault(&e.Times, 3)
		if e.AtS < 0 || e.AtS >= s.MeasureS {
			return fmt.Errorf("event %d: at_s %v is not between 0 and measure_s", i+1, e.AtS)
		}
		for _, list := range [][]int{e.Kill, e.Drain, e.Flap} {
			for _, n := range list {
				if n < 0 || n >= nodes {
					return fmt.Errorf("event %d: there is no node %d", i+1, n)
				}
			}
		}
		if e.LoginsPerS != nil && (*e.LoginsPerS < 0 || e.ForS < 0) {
			return fmt.Errorf("event %d: a negative rate or time", i+1)
		}
		if e.DownS < 0 || e.UpS < 0 || e.Times < 0 || e.Times > 100 {
			return fmt.Errorf("event %d: down_s and up_s must be positive, times 100 at most", i+1)
		}
		if e.Start != nil {
			if err := e.Start.check(); err != nil {
				return fmt.Errorf("event %d: start: %w", i+1, err)
			}
		}
	}
	return nil
}

func (n *Nodes) check() error {
	orDefault(&n.Count, 1)
	switch {
	case n.Count < 0 || n.Count > maxNodes:
		return fmt.Errorf("count %d, not 1 to %d", n.Count, maxNodes)
	case n.Capacity < 1 || n.Capacity > 1<<24:
		return fmt.Errorf("capacity %d, not 1 to %d", n.Capacity, 1<<24)
	case n.Fill < 0 || n.Fill > 1 || n.Spread < 0:
		return errors.New("fill must be 0 to 1, spread positive")
	}
	return nil
}

func orDefault[T int | float64](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

func ms(seconds float64) int { return int(seconds * float64(time.Second/time.Millisecond)) }
