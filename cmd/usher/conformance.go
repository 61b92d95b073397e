package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/cmd/usher/conformance"
)

type conformanceCmd struct {
	process.OutputFlag `embed:""`

	Listen   string        `help:"Address of the scripted auth. Its nodes use free ports." default:"127.0.0.1:0" placeholder:"ADDR"`
	Scenario []string      `help:"Run only these scenarios." placeholder:"NAME"`
	Patience time.Duration `help:"Time limit of a scenario." default:"30s" placeholder:"TIME"`
	Verbose  bool          `help:"Print the transcripts of scenarios that pass as well."`
	List     bool          `help:"List the scenarios and exit."`
	Client   []string      `arg:"" optional:"" passthrough:"" help:"Program to test, and its arguments. It is started once for each scenario, with the base URL of auth in USHER_AUTH and the name to log in with in USHER_NAME. Without a program, the server runs until it is interrupted, for clients that you start yourself."`
}

// Help implements kong.HelpProvider.
func (*conformanceCmd) Help() string {
	return "With --output json it prints one line of JSON for each scenario. Exits with 1 if a scenario fails."
}

func (c *conformanceCmd) Run(ctx context.Context, e *process.Env) error {
	if c.List {
		return c.list(e.Out)
	}
	for _, name := range c.Scenario {
		if !slices.Contains(conformance.Names(), name) {
			return process.FlagError{Flag: "--scenario", Err: fmt.Errorf("there is no scenario %q; \"usher conformance --list\" lists them", name)}
		}
	}
	if c.Patience < time.Second || c.Patience > time.Hour {
		return process.FlagError{Flag: "--patience", Err: fmt.Errorf("%v: must be 1s to 1h", c.Patience)}
	}
	r := &runner{cmd: c, out: e.Out, info: e.Out, waiting: map[string]chan conformance.Verdict{}}
	if c.JSON() {
		r.info = e.Err
	}
	s := &conformance.Server{Patience: c.Patience, OnVerdict: r.onVerdict}
	if err := s.Start(c.Listen); err != nil {
		return process.FlagError{Flag: "--listen", Err: err}
	}
	defer s.Close()
	if len(c.Client) == 0 {
		fmt.Fprintf(r.info, "auth: %s\nLog in as a guest with the name of a scenario: %s.\nCtrl-C stops it.\n", s.Auth(), strings.Join(conformance.Names(), ", "))
		<-ctx.Done()
		return nil
	}
	return r.runAll(ctx, s.Auth())
}

func (c *conformanceCmd) list(out io.Writer) error {
	if c.JSON() {
		return process.WriteJSON(out, map[string]any{"scenarios": conformance.List()})
	}
	for _, s := range conformance.List() {
		fmt.Fprintf(out, "%-16s %s\n", s.Name, s.About)
	}
	return nil
}

// runner runs the client through the scenarios and prints the verdicts.
type runner struct {
	cmd  *conformanceCmd
	info io.Writer // for text that is not a verdict

	mu      sync.Mutex
	out     io.Writer
	failed  int
	waiting map[string]chan conformance.Verdict // by scenario that runs
}

// onVerdict passes a verdict to the run of its scenario. It prints the verdict of a
// client that was started by hand.
func (r *runner) onVerdict(v conformance.Verdict) {
	r.mu.Lock()
	w := r.waiting[v.Scenario]
	r.mu.Unlock()
	if w == nil {
		r.print(v)
		return
	}
	select {
	case w <- v:
	default: // the client has logged in twice
	}
}

func (r *runner) print(v conformance.Verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !v.Passed {
		r.failed++
	}
	if r.cmd.JSON() {
		_ = process.WriteJSON(r.out, v)
		return
	}
	result := "passed"
	if !v.Passed {
		result = "FAILED"
	}
	fmt.Fprintf(r.out, "%s  %-16s %s\n", result, v.Scenario, v.About)
	for _, f := range v.Faults {
		fmt.Fprintf(r.out, "          %s\n", f)
	}
	if !v.Passed || r.cmd.Verbose {
		for _, line := range v.Transcript {
			fmt.Fprintf(r.out, "        | %s\n", line)
		}
	}
}

// clientsAtOnce is how many scenarios run at the same time. Most of the time they
// wait.
const clientsAtOnce = 6

func (r *runner) runAll(ctx context.Context, auth string) error {
	names := r.cmd.Scenario
	if len(names) == 0 {
		names = conformance.Names()
	}
	slots := make(chan struct{}, clientsAtOnce)
	var wg sync.WaitGroup
	for _, name := range names {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			r.print(r.run(ctx, auth, name))
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if r.failed > 0 {
		fmt.Fprintf(r.info, "%d of %d scenarios failed\n", r.failed, len(names))
		return process.ExitCode(1)
	}
	fmt.Fprintf(r.info, "all %d scenarios passed\n", len(names))
	return nil
}

// clientGrace is how long the client may take to exit after its session has ended.
const clientGrace = 5 * time.Second

// run runs the client through one scenario.
func (r *runner) run(ctx context.Context, auth, name string) conformance.Verdict {
	verdict := make(chan conformance.Verdict, 1)
	r.mu.Lock()
	r.waiting[name] = verdict
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, r.cmd.Patience+clientGrace)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.cmd.Client[0], r.cmd.Client[1:]...)
	cmd.Env = append(os.Environ(), "USHER_AUTH="+auth, "USHER_NAME="+name)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	ended := make(chan error, 1)
	if err := cmd.Start(); err != nil {
		return conformance.Verdict{Scenario: name, Faults: []string{"the client could not be started: " + err.Error()}}
	}
	go func() { ended <- cmd.Wait() }()
	var v conformance.Verdict
	select {
	case v = <-verdict:
	case err := <-ended:
		ended <- err
		select { // its last messages may be in flight
		case v = <-verdict:
		case <-time.After(2 * time.Second):
			v = conformance.Verdict{Scenario: name, Faults: []string{fmt.Sprintf("the client exited before its session ended (%v)", err)}}
		}
	}
	select {
	case <-ended:
	case <-time.After(clientGrace):
		cancel()
		<-ended
		v.Passed = false
		v.Faults = append(v.Faults, fmt.Sprintf("the client did not exit within %v after the end of its session", clientGrace))
	}
	if !v.Passed && output.Len() > 0 {
		v.Faults = append(v.Faults, "output of the client: "+strings.TrimSpace(tail(output.String(), 600)))
	}
	return v
}

// tail returns the last size bytes of s.
func tail(s string, size int) string {
	if len(s) > size {
		return "…" + s[len(s)-size:]
	}
	return s
}
