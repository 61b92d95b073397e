package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/usher-broker/usher/broker/process"
)

type topCmd struct {
	apiFlags           `embed:""`
	process.OutputFlag `embed:""`

	// Not from the environment: USHER_NODES is the number of nodes of usher dev.
	Every time.Duration `env:"-" help:"Time between two requests to the private API." default:"1s" placeholder:"TIME"`
	Once  bool          `env:"-" help:"Print once, after two requests, and exit."`
	Nodes int           `env:"-" help:"Number of nodes to print, the fullest first. 0: all." default:"40" placeholder:"N"`
}

// Help implements kong.HelpProvider.
func (*topCmd) Help() string {
	return "With --output json it prints one line of JSON for each request, without the nodes."
}

// topView is the state of the cluster at one time. Its exported fields are the JSON
// output.
type topView struct {
	At       time.Time `json:"at"`
	Nodes    int       `json:"nodes"`
	Eligible int       `json:"eligible"`
	Sessions int       `json:"sessions"`
	Attached int       `json:"attached"`
	Capacity int       `json:"capacity"`
	Arrivals float64   `json:"arrivals_per_s"`
	Balance  float64   `json:"balance"` // how full the fullest node is, over the mean

	list  []apiNode
	rates map[string]float64
}

func (c *topCmd) Run(ctx context.Context, e *process.Env) error {
	if c.Every < 100*time.Millisecond || c.Every > time.Hour {
		return process.FlagError{Flag: "--every", Err: fmt.Errorf("%v: must be 100ms to 1h", c.Every)}
	}
	a, err := c.open()
	if err != nil {
		return err
	}
	terminal := isTerminal(e.Out) && !c.JSON() && !c.Once
	var last topView
	ticker := time.NewTicker(c.Every)
	defer ticker.Stop()
	for {
		view, err := requestView(ctx, a, last)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && (last.At.IsZero() || !terminal):
			return err
		case err != nil:
			fmt.Fprintf(e.Out, "\x1b[H\x1b[K%v\n", err) // in place of the first line; the table below is old
		case !last.At.IsZero(): // the rate of arrivals needs two requests
			if err := c.show(e.Out, view, terminal); err != nil || c.Once {
				return err
			}
		}
		if err == nil {
			last = view
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// requestView requests the nodes and sums them up.
func requestView(ctx context.Context, a *api, last topView) (topView, error) {
	var answer struct{ Nodes []apiNode }
	if err := a.call(ctx, "GET", "/v1/nodes", nil, nil, &answer); err != nil {
		if ctx.Err() != nil {
			err = errors.Join(ctx.Err(), err)
		}
		return topView{}, err
	}
	return newView(time.Now(), answer.Nodes, last), nil
}

// newView sums up the nodes. The rates are those since the last view.
func newView(now time.Time, list []apiNode, last topView) topView {
	v := topView{At: now, Nodes: len(list), Balance: 1, list: list, rates: map[string]float64{}}
	before := map[string]uint64{}
	for _, n := range last.list {
		before[n.ID] = n.Arrived
	}
	live, capacity, fullest := 0, 0, 0.0
	for _, n := range list {
		v.Sessions += n.Live
		v.Attached += n.Attached
		v.Capacity += n.Capacity
		if n.Eligible {
			v.Eligible++
		}
		if was, ok := before[n.ID]; ok && n.Arrived >= was {
			v.rates[n.ID] = float64(n.Arrived-was) / now.Sub(last.At).Seconds()
			v.Arrivals += v.rates[n.ID]
		}
		if n.Drain == nil && n.Capacity > 0 {
			live, capacity = live+n.Live, capacity+n.Capacity
			fullest = max(fullest, float64(n.Live)/float64(n.Capacity))
		}
	}
	if live > 0 {
		v.Balance = fullest * float64(capacity) / float64(live)
	}
	return v
}

func (c *topCmd) show(out io.Writer, v topView, terminal bool) error {
	if c.JSON() {
		return process.WriteJSON(out, v)
	}
	var b strings.Builder
	if terminal {
		b.WriteString("\x1b[H\x1b[2J")
	}
	fmt.Fprintf(&b, "%s   %d of %d nodes get sessions   %d sessions of %d (%s), %d attached   %.1f arrivals per second   fullest over mean %.2f\n\n",
		v.At.Format(time.TimeOnly), v.Eligible, v.Nodes, v.Sessions, v.Capacity, percent(v.Sessions, v.Capacity), v.Attached, v.Arrivals, v.Balance)
	v.table(&b, c.Nodes)
	_, err := io.WriteString(out, b.String())
	return err
}

// table prints at most limit nodes, or all if it is 0: first those that get no
// sessions, then the fullest.
func (v topView) table(out io.Writer, limit int) {
	list := slices.Clone(v.list)
	slices.SortStableFunc(list, func(a, b apiNode) int {
		if a.Eligible != b.Eligible {
			if b.Eligible {
				return -1
			}
			return 1
		}
		return cmp.Compare(float64(b.Live)/float64(max(b.Capacity, 1)), float64(a.Live)/float64(max(a.Capacity, 1)))
	})
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tSESSIONS\tFULL\tATTACHED\tARRIVALS\tLAST REPORT\tREACH\tGETS SESSIONS")
	for i, n := range list {
		if limit > 0 && i >= limit {
			fmt.Fprintf(w, "… and %d more\n", len(list)-limit)
			break
		}
		gets := n.getsSessions()
		if n.Drain != nil {
			gets = "no: " + drainText(*n.Drain)
		}
		fmt.Fprintf(w, "%s\t%d of %d\t%s\t%d\t%.1f /s\t%s ago\t%s\t%s\n", n.ID, n.Live, n.Capacity, percent(n.Live, n.Capacity), n.Attached,
			v.rates[n.ID], seconds(n.ReportAgeMS), n.Reach, gets)
	}
	w.Flush()
}
