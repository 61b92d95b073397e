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

// Scenario describes a simulation. Times of events count from the start of the
// measurement.
type Scenario struct {
	Name  string `json:"name"`
	About string `json:"about,omitempty"`

	// Nodes are the nodes at the start, in groups of the same kind. They are
	// numbered from 0 in this order.
	Nodes []Nodes `json:"nodes"`
	// Brokers is the number of members that place sessions. Default 1.
	Brokers int `json:"brokers,omitempty"`
	// Weights are the fractions of the logins that the brokers get. Default:
	// equal.
	Weights []float64 `json:"weights,omitempty"`
	// LagMS is how long a report takes to each broker, in milliseconds, uniformly
	// distributed in the range. Default 1 to 20.
	LagMS *Range `json:"lag_ms,omitempty"`
	// StaleMS replaces LagMS for the last broker.
	StaleMS *Range `json:"stale_ms,omitempty"`

	// StayS is the mean duration of a session, in seconds; it is exponentially
	// distributed. Default 600.
	StayS float64 `json:"stay_s,omitempty"`
	// LoginsPerS is the rate of logins. Default: the rate at which sessions leave
	// at the start.
	LoginsPerS float64 `json:"logins_per_s,omitempty"`
	// Abandon is the fraction of clients that never connect to the node. Default
	// 0.05; a negative value means none.
	Abandon float64 `json:"abandon,omitempty"`
	// ConnectMS is how long the other clients take to connect, in milliseconds.
	// Default 50 to 500.
	ConnectMS *Range `json:"connect_ms,omitempty"`

	// SettleS is how long the simulation runs before the measurement, MeasureS
	// how long it runs during it, in seconds. Defaults 5 and 20.
	SettleS  float64 `json:"settle_s,omitempty"`
	MeasureS float64 `json:"measure_s,omitempty"`

	Events []Event `json:"events,omitempty"`
	Goal   Goal    `json:"goal,omitzero"`
}

// Nodes is a group of equal nodes.
type Nodes struct {
	Count    int     `json:"count,omitempty"` // default 1
	Capacity int     `json:"capacity"`        // sessions
	Fill     float64 `json:"fill,omitempty"`  // fraction of the capacity in use at the start
	// Spread is the standard deviation of Fill between the nodes, relative to
	// Fill.
	Spread float64 `json:"spread,omitempty"`
}

// Range is a range in milliseconds, the lower end first.
type Range [2]int

// Event is something that happens at a time. One Event may do several things.
type Event struct {
	AtS float64 `json:"at_s"`

	// LoginsPerS replaces the rate of logins for ForS seconds; 0 means until the
	// end.
	LoginsPerS *float64 `json:"logins_per_s,omitempty"`
	ForS       float64  `json:"for_s,omitempty"`

	// Kill ends the nodes with these numbers. Their clients reconnect within two
	// seconds; gossip announces the death to the brokers after six.
	Kill []int `json:"kill,omitempty"`
	// Drain makes the nodes move their sessions away, over five seconds.
	Drain []int `json:"drain,omitempty"`
	// Flap kills the nodes and restarts them after DownS, Times times, with UpS
	// in between. Defaults 2, 3 and 3.
	Flap  []int   `json:"flap,omitempty"`
	DownS float64 `json:"down_s,omitempty"`
	UpS   float64 `json:"up_s,omitempty"`
	Times int     `json:"times,omitempty"`
	// Start adds nodes; Result.Peak measures the rate at which they are filled.
	Start *Nodes `json:"start,omitempty"`
	// RestartBrokers makes all brokers lose their state.
	RestartBrokers bool `json:"restart_brokers,omitempty"`
}

// Goal is what the default policy must reach. A field of 0 sets no goal.
type Goal struct {
	// Ratio is the upper limit of its worst max/mean, relative to the oracle's.
	Ratio float64 `json:"ratio,omitempty"`
	// Peak is the upper limit of Result.Peak: the sessions that a started node
	// may get in a second, in sixtieths of its capacity.
	Peak float64 `json:"peak,omitempty"`
}

//go:embed scenarios.json
var builtin []byte

// Builtin returns the scenarios that come with the package.
func Builtin() []Scenario {
	list, err := Parse(bytes.NewReader(builtin))
	if err != nil {
		panic(err) // unreachable: a test parses them
	}
	return list
}

const maxScenarioBytes = 1 << 20

// Parse reads a scenario or a list of scenarios as JSON of at most 1 MiB, fills
// in the defaults, and checks them.
func Parse(r io.Reader) ([]Scenario, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxScenarioBytes+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxScenarioBytes {
		return nil, fmt.Errorf("the scenarios have more than %d bytes", maxScenarioBytes)
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
		return nil, errors.New("the list of scenarios is empty")
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
		return errors.New("data follows the JSON value")
	}
	return nil
}

// Limits that keep a run from taking very long.
const (
	maxNodes   = 5000
	maxBrokers = 100
	maxSeconds = 3600
)

// check fills in the defaults and returns an error if a value is invalid.
func (s *Scenario) check() error {
	if s.Name == "" {
		return errors.New("name is missing")
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
		return fmt.Errorf("%d nodes, must be 1 to %d", count, maxNodes)
	case s.Brokers < 0 || s.Brokers > maxBrokers:
		return fmt.Errorf("%d brokers, must be 1 to %d", s.Brokers, maxBrokers)
	case len(s.Weights) > 0 && len(s.Weights) != s.Brokers:
		return fmt.Errorf("%d weights for %d brokers", len(s.Weights), s.Brokers)
	case s.StayS < 0 || s.LoginsPerS < 0 || s.Abandon >= 1:
		return errors.New("stay_s and logins_per_s must be positive, abandon less than 1")
	case s.SettleS < 0 || s.MeasureS < 0 || s.SettleS+s.MeasureS > maxSeconds:
		return fmt.Errorf("settle_s and measure_s must be positive and at most %d together", maxSeconds)
	}
	for _, w := range s.Weights {
		if w < 0 {
			return fmt.Errorf("weight %v is negative", w)
		}
	}
	for _, r := range []*Range{s.LagMS, s.StaleMS, s.ConnectMS} {
		if r != nil && (r[0] < 0 || r[1] < r[0]) {
			return fmt.Errorf("range %v: must be positive, the lower end first", *r)
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
			return fmt.Errorf("event %d: at_s %v must be at least 0 and less than measure_s", i+1, e.AtS)
		}
		for _, list := range [][]int{e.Kill, e.Drain, e.Flap} {
			for _, n := range list {
				if n < 0 || n >= nodes {
					return fmt.Errorf("event %d: node %d does not exist", i+1, n)
				}
			}
		}
		if e.LoginsPerS != nil && (*e.LoginsPerS < 0 || e.ForS < 0) {
			return fmt.Errorf("event %d: logins_per_s and for_s must be positive", i+1)
		}
		if e.DownS < 0 || e.UpS < 0 || e.Times < 0 || e.Times > 100 {
			return fmt.Errorf("event %d: down_s and up_s must be positive, times at most 100", i+1)
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
		return fmt.Errorf("count is %d, must be 1 to %d", n.Count, maxNodes)
	case n.Capacity < 1 || n.Capacity > 1<<24:
		return fmt.Errorf("capacity is %d, must be 1 to %d", n.Capacity, 1<<24)
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
