package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/usher-broker/usher/cmd/usher/conformance"
)

type conformanceCmd struct {
	Listen   string        `help:"Address of the scripted auth; its nodes take free ports." default:"127.0.0.1:0" placeholder:"ADDR"`
	Scenario []string      `help:"Play these alone." placeholder:"NAME"`
	Patience time.Duration `help:"Time a scenario may take." default:"30s" placeholder:"TIME"`
	Verbose  bool          `help:"Print the transcripts of scenarios that pass as well."`
	JSON     bool          `name:"json" help:"Print a line of JSON for each scenario."`
	List     bool          `help:"List the scenarios and end."`
	Client   []string      `arg:"" optional:"" passthrough:"" help:"Program to test, with its arguments: started once for each scenario, with the base URL of auth in USHER_AUTH and the name to log in with in USHER_NAME. Without one the server runs until it is stopped, for clients that are started by hand."`
}

func (c *conformanceCmd) Run(ctx context.Context, e *env) error {
	if c.List {
		for _, s := range conformance.List() {
			fmt.Fprintf(e.out, "%-16s %s\n", s.Name, s.About)
		}
		return nil
	}
	for _, name := range c.Scenario {
		if !slices.Contains(conformance.Names(), name) {
			return usageError{"--scenario", fmt.Errorf("there is no %q; «usher conformance --list» has them", name)}
		}
	}
	if c.Patience < time.Second || c.Patience > time.Hour {
		return usageError{"--patience", fmt.Errorf("%v: must be 1s to 1h", c.Patience)}
	}
	p := &judge{cmd: c, out: e.out, waiting: map[string]chan conformance.Verdict{}}
	s := &conformance.Server{Patience: c.Patience, Judged: p.judged}
	if err := s.Start(c.Listen); err != nil {
		return usageError{"--listen", err}
	}
	defer s.Close()
	if len(c.Client) == 0 {
		fmt.Fprintf(e.out, "auth is %s. Log in as a guest with the name of a scenario: %s.\nCtrl-C stops it.\n", s.Auth(), strings.Join(conformance.Names(), ", "))
		waitDone(ctx)
		return nil
	}
	return p.playAll(ctx, s.Auth())
}

// judge prints the verdicts, and hands them to whoever plays the scenario.
type judge struct {
	cmd *conformanceCmd

	mu      sync.Mutex
	out     io.Writer
	failed  int
	waiting map[string]chan conformance.Verdict
}

func (p *judge) judged(v conformance.Verdict) {
	p.mu.Lock()
	w := p.waiting[v.Scenario]
	p.mu.Unlock()
	if w == nil {
		p.print(v)
		return
	}
	select {
	case w <- v:
	default: // a client that logs in twice
	}
}

func (p *judge) print(v conformance.Verdict) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !v.Passed {
		p.failed++
	}
	if p.cmd.JSON {
		_ = json.NewEncoder(p.out).Encode(v)
		return
	}
	word := "passed"
	if !v.Passed {
		word = "FAILED"
	}
	fmt.Fprintf(p.out, "%s  %-16s %s\n", word, v.Scenario, v.About)
	for _, f := range v.Faults {
		fmt.Fprintf(p.out, "          %s\n", f)
	}
	if !v.Passed || p.cmd.Verbose {
		for _, line := range v.Transcript {
			fmt.Fprintf(p.out, "        | %s\n", line)
		}
	}
}

// clientsAtOnce is how many scenarios are played at the same time: most of them
// is waiting.
const clientsAtOnce = 6

func (p *judge) playAll(ctx context.Context, auth string) error {
	names := p.cmd.Scenario
	if len(names) == 0 {
		names = conformance.Names()
	}
	slots := make(chan struct{}, clientsAtOnce)
	var wg sync.WaitGroup
	for _, name := range names {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			p.print(p.play(ctx, auth, name))
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return errors.New("stopped")
	}
	if p.failed > 0 {
		fmt.Fprintf(p.out, "%d of %d scenarios failed\n", p.failed, len(names))
		return exitCode(1)
	}
	fmt.Fprintf(p.out, "all %d scenarios passed\n", len(names))
	return nil
}

// clientGrace is how long the client may take to end after its session has.
const clientGrace = 5 * time.Second

// play runs the client through one scenario.
func (p *judge) play(ctx context.Context, auth, name string) conformance.Verdict {
	verdict := make(chan conformance.Verdict, 1)
	p.mu.Lock()
	p.waiting[name] = verdict
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, p.cmd.Patience+clientGrace)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.cmd.Client[0], p.cmd.Client[1:]...)
	cmd.Env = append(os.Environ(), "USHER_AUTH="+auth, "USHER_NAME="+name)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	ended := make(chan error, 1)
	if err := cmd.Start(); err != nil {
		return conformance.Verdict{Scenario: name, Faults: []string{"the client does not start: " + err.Error()}}
	}
	go func() { ended <- cmd.Wait() }()
	var v conformance.Verdict
	select {
	case v = <-verdict:
	case err := <-ended:
		ended <- err
		select { // its last words may be on their way
		case v = <-verdict:
		case <-time.After(2 * time.Second):
			v = conformance.Verdict{Scenario: name, Faults: []string{fmt.Sprintf("the client ended before its session (%v)", err)}}
		}
	}
	select {
	case <-ended:
	case <-time.After(clientGrace):
		cancel()
		<-ended
		v.Passed = false
		v.Faults = append(v.Faults, fmt.Sprintf("the client has not ended %v after its session", clientGrace))
	}
	if !v.Passed && said.Len() > 0 {
		v.Faults = append(v.Faults, "the client said: "+strings.TrimSpace(tail(said.String(), 600)))
	}
	return v
}

func tail(s string, most int) string {
	if len(s) > most {
		return "…" + s[len(s)-most:]
	}
	return s
}
