package simulate

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	list, err := Parse(strings.NewReader(`{"name":"x","nodes":[{"capacity":10}]}`))
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	if s := list[0]; s.Brokers != 1 || s.StayS != 600 || s.Abandon != 0.05 || s.Nodes[0].Count != 1 || s.MeasureS != 20 {
		t.Errorf("defaults: %+v", s)
	}
	for name, text := range map[string]string{
		"empty":            ``,
		"no scenario":      `[]`,
		"not JSON":         `{`,
		"two values":       `{"name":"x","nodes":[{"capacity":10}]} {}`,
		"no name":          `{"nodes":[{"capacity":10}]}`,
		"no nodes":         `{"name":"x"}`,
		"unknown field":    `{"name":"x","nodes":[{"capacity":10}],"colour":1}`,
		"no capacity":      `{"name":"x","nodes":[{}]}`,
		"fill over 1":      `{"name":"x","nodes":[{"capacity":10,"fill":1.5}]}`,
		"too many nodes":   `{"name":"x","nodes":[{"capacity":10,"count":5001}]}`,
		"too many brokers": `{"name":"x","nodes":[{"capacity":10}],"brokers":101}`,
		"weights":          `{"name":"x","nodes":[{"capacity":10}],"brokers":2,"weights":[1]}`,
		"negative weight":  `{"name":"x","nodes":[{"capacity":10}],"weights":[-1]}`,
		"all abandon":      `{"name":"x","nodes":[{"capacity":10}],"abandon":1}`,
		"too long":         `{"name":"x","nodes":[{"capacity":10}],"measure_s":9999}`,
		"range":            `{"name":"x","nodes":[{"capacity":10}],"lag_ms":[5,1]}`,
		"no such node":     `{"name":"x","nodes":[{"capacity":10}],"events":[{"at_s":1,"kill":[1]}]}`,
		"after the end":    `{"name":"x","nodes":[{"capacity":10}],"events":[{"at_s":20}]}`,
		"negative rate":    `{"name":"x","nodes":[{"capacity":10}],"events":[{"at_s":1,"logins_per_s":-1}]}`,
		"bad start":        `{"name":"x","nodes":[{"capacity":10}],"events":[{"at_s":1,"start":{}}]}`,
		"too many flaps":   `{"name":"x","nodes":[{"capacity":10}],"events":[{"at_s":1,"flap":[0],"times":101}]}`,
		"too large":        `{"name":"` + strings.Repeat("x", 1<<20) + `"}`,
	} {
		if _, err := Parse(strings.NewReader(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Every kind of event, under every policy.
func TestEvents(t *testing.T) {
	list, err := Parse(strings.NewReader(`{"name":"all","nodes":[{"count":6,"capacity":1000,"fill":0.5,"spread":0.1}],"brokers":3,
		"weights":[3,1,1],"stale_ms":[1000,1500],"connect_ms":[10,20],"stay_s":100,"measure_s":15,"events":[
		{"at_s":0,"logins_per_s":100,"for_s":2},{"at_s":1,"kill":[0]},{"at_s":2,"drain":[1]},{"at_s":3,"flap":[2],"times":2},
		{"at_s":4,"start":{"capacity":1000,"count":2}},{"at_s":5,"restart_brokers":true}]}`))
	if err != nil {
		t.Fatal(err)
	}
	results, err := Run(t.Context(), list[0], Names(), 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.Worst < 1 || r.Peak == 0 || len(r.Trace) != 150 {
			t.Errorf("%s: worst %v, peak %v, %d points", r.Policy, r.Worst, r.Peak, len(r.Trace))
		}
	}
	if best := results[0]; best.Policy != Oracle || best.Refused > 0 {
		t.Errorf("%s: %d refused", best.Policy, best.Refused)
	}
	var b strings.Builder
	if err := Plot(&b, list[0], results); err != nil {
		t.Fatal(err)
	}
	d := xml.NewDecoder(strings.NewReader(b.String()))
	lines := 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "polyline" {
			lines++
		}
	}
	if lines != len(results) {
		t.Errorf("%d lines for %d results", lines, len(results))
	}
}

// Equal seeds give equal runs, and a cancelled context ends Run.
func TestRun(t *testing.T) {
	s := Builtin()[0]
	s.SettleS, s.MeasureS = 1, 2
	a, err := Run(t.Context(), s, []string{"least"}, 3)
	b, _ := Run(t.Context(), s, []string{"least"}, 3)
	if err != nil || a[0].Worst != b[0].Worst || a[0].Worst <= 1 {
		t.Errorf("%v, then %v: %v", a[0].Worst, b[0].Worst, err)
	}
	if _, err := Run(t.Context(), s, []string{"least", "best"}, 1); err == nil {
		t.Error("an unknown policy was run")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, s, Names(), 3); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Missed returns every goal that is not reached.
func TestMissed(t *testing.T) {
	s := Scenario{Goal: Goal{Ratio: 1.01, Peak: 2}}
	good := []Result{{Policy: Oracle, Worst: 1}, {Policy: Default, Worst: 1.005, Peak: 1.5}}
	if m := s.Missed(good); len(m) > 0 {
		t.Error(m)
	}
	bad := []Result{{Policy: Oracle, Worst: 1}, {Policy: Default, Worst: 1.05, Peak: 2.5, Refused: 3}}
	if m := s.Missed(bad); len(m) != 3 {
		t.Error(m)
	}
}
