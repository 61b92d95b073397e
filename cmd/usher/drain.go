package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/usher-broker/usher/proto"
)

type drainCmd struct {
	apiFlags `embed:""`

	Node    string        `arg:"" optional:"" help:"Id of the node. Without it, the one on this machine whose ops door is --ops."`
	Ops     string        `help:"Ops door of a node on this machine, host:port or unix:PATH: it is drained as it was started to, without the private API." placeholder:"ADDR"`
	Undo    bool          `help:"Take the drain back: the node is given sessions again."`
	Keep    bool          `help:"The node's process does not end when it is empty."`
	Window  time.Duration `help:"Time over which clients are asked to leave. Default: as the node was started." placeholder:"TIME"`
	Timeout time.Duration `help:"Time after which what is left is cut. Default: as the node was started." placeholder:"TIME"`
	NoWait  bool          `help:"Do not wait until the node is empty."`
}

func (c *drainCmd) Run(ctx context.Context, e *env) error {
	switch {
	case c.Node == "" && c.Ops == "":
		return usageError{"--ops", errors.New("or the id of a node must be given")}
	case c.Node == "":
		return c.here(ctx, e)
	}
	a, err := c.open()
	if err != nil {
		return err
	}
	if c.Undo {
		if err := a.call(ctx, "DELETE", nodePath(c.Node)+"/drain", nil, nil, nil); err != nil {
			return err
		}
		fmt.Fprintf(e.out, "%s is given sessions again.\n", c.Node)
		return nil
	}
	req := proto.DrainRequest{WindowMS: c.Window.Milliseconds(), TimeoutMS: c.Timeout.Milliseconds(), Keep: c.Keep}
	if err := a.call(ctx, "PUT", nodePath(c.Node)+"/drain", nil, req, nil); err != nil {
		return err
	}
	if c.NoWait {
		fmt.Fprintf(e.out, "%s gives its sessions away.\n", c.Node)
		return nil
	}
	w := drainWatch{api: a, node: c.Node, bar: newBar(e.out)}
	return w.run(ctx)
}

// drainWatch shows how far a drain has come.
type drainWatch struct {
	api  *api
	node string
	bar  *bar
	last proto.Drain
	seen bool
}

const (
	drainPoll = 250 * time.Millisecond
	// drainPatience is how long the API may fail before the watch gives up.
	drainPatience = 15 * time.Second
)

// run returns when the node is empty or has left.
func (w *drainWatch) run(ctx context.Context) error {
	began, answered := time.Now(), time.Now()
	for {
		var n apiNode
		err := w.api.call(ctx, "GET", nodePath(w.node), nil, nil, &n)
		switch {
		case ctx.Err() != nil:
			w.bar.end()
			return errors.New("no longer watched; the drain goes on («usher drain --undo " + w.node + "» takes it back)")
		case isProblem(err, proto.ProblemNotFound):
			return w.finish(began, "has left")
		case err != nil && time.Since(answered) > drainPatience:
			w.bar.end()
			return err
		case err != nil: // a broker that restarts, say
		case n.Drain == nil && n.State != proto.StateDraining.String() && w.seen:
			w.bar.end()
			return errors.New("the drain was taken back")
		case n.Drain != nil:
			answered, w.last, w.seen = time.Now(), *n.Drain, true
			w.bar.show(*n.Drain)
			if n.Drain.Remaining == 0 && n.Drain.Keep {
				return w.finish(began, "is empty")
			}
		default: // its word of the drain is on its way
			answered = time.Now()
		}
		select {
		case <-ctx.Done():
		case <-time.After(drainPoll):
		}
	}
}

func (w *drainWatch) finish(began time.Time, how string) error {
	w.bar.end()
	fmt.Fprintf(w.bar.out, "%s %s after %s: %d sessions, %d cut at the deadline.\n",
		w.node, how, time.Since(began).Round(100*time.Millisecond), w.last.Total, w.last.Cut)
	return nil
}

// bar is a line that is written over and over on a terminal, and once a second
// elsewhere.
type bar struct {
	out      io.Writer
	terminal bool
	open     bool // a line is written and not ended
	at       time.Time
}

func newBar(out io.Writer) *bar { return &bar{out: out, terminal: isTerminal(out)} }

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (b *bar) show(d proto.Drain) {
	if !b.terminal && time.Since(b.at) < time.Second {
		return
	}
	b.at = time.Now()
	if b.terminal {
		fmt.Fprintf(b.out, "\r\x1b[K%s", drainLine(d, time.Until(d.Deadline)))
		b.open = true
		return
	}
	fmt.Fprintln(b.out, drainLine(d, time.Until(d.Deadline)))
}

func (b *bar) end() {
	if b.open {
		fmt.Fprintln(b.out)
		b.open = false
	}
}

// drainLine is a drain in a line of text.
func drainLine(d proto.Drain, left time.Duration) string {
	const width = 30
	total := max(d.Total, d.Remaining, 1)
	gone := total - d.Remaining
	full := int(gone) * width / int(total)
	line := fmt.Sprintf("[%s%s] %d of %d left, %d to go", strings.Repeat("#", full), strings.Repeat(".", width-full),
		gone, total, d.Remaining)
	if d.Held > 0 {
		line += fmt.Sprintf(", %d held back", d.Held)
	}
	if d.Remaining > 0 {
		line += fmt.Sprintf(", deadline in %s", max(left, 0).Round(time.Second))
	}
	return line
}
