package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/proto"
)

type drainCmd struct {
	apiFlags           `embed:""`
	process.OutputFlag `embed:""`

	Node string `arg:"" optional:"" help:"Id of the node. Without it, the drain uses --ops."`
	// Not from the environment: USHER_OPS is the ops port of the process itself.
	Ops     string        `env:"-" help:"Without NODE: ops port of a node on this machine, host:port or unix:PATH. The drain does not use the private API, and has the window and the timeout that the node was started with." placeholder:"ADDR"`
	Undo    bool          `env:"-" help:"Cancel the drain: the node gets sessions again."`
	Keep    bool          `env:"-" help:"Keep the process of the node running when it is empty."`
	Window  time.Duration `env:"-" help:"Time over which clients are asked to leave. Default: that of the node." placeholder:"TIME"`
	Timeout time.Duration `env:"-" help:"Time after which the remaining connections are cut. Default: that of the node." placeholder:"TIME"`
	NoWait  bool          `env:"-" help:"Exit when the drain has started."`
}

// Help implements kong.HelpProvider.
func (*drainCmd) Help() string {
	return "Waits until the node is empty, and prints the progress to standard error. An interrupt ends the waiting, not the drain.\n\n" +
		"Exits with 1 if another command cancels the drain, or if sessions remained when the node left."
}

func (c *drainCmd) Run(ctx context.Context, e *process.Env) error {
	if err := cmp.Or(checkDrainTime("--window", c.Window), checkDrainTime("--timeout", c.Timeout)); err != nil {
		return err
	}
	switch {
	case c.Node == "" && c.Ops == "":
		return process.FlagError{Flag: "NODE", Err: errors.New("is required: the id of a node, or --ops ADDR")}
	case c.Node == "":
		return c.drainByOps(ctx, e)
	}
	a, err := c.open()
	if err != nil {
		return err
	}
	var n apiNode
	if c.Undo {
		if err := a.call(ctx, "DELETE", nodePath(c.Node)+"/drain", nil, nil, &n); err != nil {
			return err
		}
		return c.printUndone(e.Out, c.Node)
	}
	req := proto.DrainRequest{WindowMS: c.Window.Milliseconds(), TimeoutMS: c.Timeout.Milliseconds(), Keep: c.Keep}
	if err := a.call(ctx, "PUT", nodePath(c.Node)+"/drain", nil, req, &n); err != nil {
		return err
	}
	w := drainWatch{cmd: c, env: e, node: c.Node, began: time.Now(), progress: newDrainProgress(e.Err)}
	if n.Drain != nil {
		w.last = *n.Drain
	}
	if c.NoWait {
		return w.printStarted()
	}
	return w.byAPI(ctx, a)
}

// checkDrainTime refuses a time that is shorter than the milliseconds of the private API.
func checkDrainTime(flag string, d time.Duration) error {
	if d != 0 && d < time.Millisecond {
		return process.FlagError{Flag: flag, Err: fmt.Errorf("%v: must be 1ms or more, or 0 for the default of the node", d)}
	}
	return nil
}

// drainResult is the JSON output.
type drainResult struct {
	Node      string  `json:"node"`
	State     string  `json:"state"` // drained; with --no-wait draining, with --undo ready
	Total     uint32  `json:"total"`
	Remaining uint32  `json:"remaining"`
	Held      uint32  `json:"held"`
	Cut       uint32  `json:"cut"`
	Seconds   float64 `json:"seconds"` // that the command has waited
}

func (c *drainCmd) printUndone(out io.Writer, node string) error {
	if c.JSON() {
		return process.WriteJSON(out, drainResult{Node: node, State: proto.StateReady.String()})
	}
	_, err := fmt.Fprintf(out, "%s: drain cancelled, the node gets sessions again\n", node)
	return err
}

// drainWatch waits for the end of a drain.
type drainWatch struct {
	cmd      *drainCmd
	env      *process.Env
	node     string
	began    time.Time
	progress *drainProgress
	last     proto.Drain // the last report of the node
}

const (
	drainPoll = 250 * time.Millisecond
	// drainPatience is how long the API may fail before the watch gives up.
	drainPatience = 15 * time.Second
)

// errUndone says that another command has cancelled the drain.
var errUndone = errors.New("another command has cancelled the drain")

// byAPI returns when the node is empty or has left the cluster.
func (w *drainWatch) byAPI(ctx context.Context, a *api) error {
	defer w.progress.close()
	answered, seen := time.Now(), false
	for {
		var n apiNode
		err := a.call(ctx, "GET", nodePath(w.node), nil, nil, &n)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("interrupted; the drain goes on (\"usher drain --undo %s\" cancels it)", w.node)
		case isProblem(err, proto.ProblemNotFound):
			return w.finish(true)
		case err != nil && time.Since(answered) > drainPatience:
			return err
		case err != nil: // the broker may be restarting
		case n.Drain == nil && n.State != proto.StateDraining.String() && seen:
			return errUndone
		case n.Drain != nil:
			answered, w.last, seen = time.Now(), *n.Drain, true
			w.progress.show(w.node, w.last)
			if w.last.Remaining == 0 && w.last.Keep {
				return w.finish(false)
			}
		default: // the node has not reported the drain yet
			answered = time.Now()
		}
		select {
		case <-ctx.Done():
		case <-time.After(drainPoll):
		}
	}
}

func (w *drainWatch) printStarted() error {
	if w.cmd.JSON() {
		return process.WriteJSON(w.env.Out, w.result(proto.StateDraining.String()))
	}
	_, err := fmt.Fprintf(w.env.Out, "%s: drain started\n", w.node)
	return err
}

// finish prints the result. left says that the process of the node has ended.
func (w *drainWatch) finish(left bool) error {
	w.progress.close()
	r := w.result("drained")
	if w.cmd.JSON() {
		if err := process.WriteJSON(w.env.Out, r); err != nil {
			return err
		}
	} else {
		end := "the node is empty"
		if left {
			end = "the node has left"
		}
		fmt.Fprintf(w.env.Out, "%s: %s, %d cut at the deadline; %s after %.1f s\n", w.node, drainCounts(w.last), w.last.Cut, end, r.Seconds)
	}
	if w.last.Remaining > 0 {
		return fmt.Errorf("node %q left with %d sessions, according to its last report", w.node, w.last.Remaining)
	}
	return nil
}

func (w *drainWatch) result(state string) drainResult {
	d := w.last
	return drainResult{w.node, state, d.Total, d.Remaining, d.Held, d.Cut, math.Round(10*time.Since(w.began).Seconds()) / 10}
}
