package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/usher-broker/usher/broker/placement/simulate"
	"github.com/usher-broker/usher/broker/process"
)

type placementCmd struct {
	process.OutputFlag `embed:""`

	Scenario []string `help:"File of scenarios, in place of the built-in ones. docs/placement.md has the format." type:"existingfile" placeholder:"FILE"`
	Only     string   `help:"Run the scenarios whose name matches this regular expression." placeholder:"REGEXP"`
	Policy   []string `help:"Compare only these policies with the oracle." placeholder:"NAME"`
	Seeds    int      `help:"Runs of each scenario. The medians are printed." default:"3" placeholder:"N"`
	Plots    string   `help:"Draw an SVG of each scenario into this directory." type:"path" placeholder:"DIR"`
	Markdown bool     `help:"Print the table in Markdown."`
}

// outcome is the result of a scenario, and its JSON output.
type outcome struct {
	Scenario simulate.Scenario `json:"scenario"`
	Results  []simulate.Result `json:"results"`
	Missed   []string          `json:"missed,omitempty"`
}

func (c *placementCmd) Run(ctx context.Context, e *process.Env) error {
	list, err := c.scenarios()
	if err != nil {
		return err
	}
	if c.Seeds < 1 || c.Seeds > 1000 {
		return process.FlagError{Flag: "--seeds", Err: fmt.Errorf("%d: must be 1 to 1000", c.Seeds)}
	}
	names := simulate.Names()
	if len(c.Policy) > 0 {
		names = append([]string{simulate.Oracle}, c.Policy...)
	}
	for _, name := range c.Policy {
		if !slices.Contains(simulate.Names(), name) {
			return process.FlagError{Flag: "--policy", Err: fmt.Errorf("%q: must be one of %s", name, strings.Join(simulate.Names(), ", "))}
		}
	}
	if c.Plots != "" {
		if err := os.MkdirAll(c.Plots, 0o755); err != nil {
			return process.FlagError{Flag: "--plots", Err: err}
		}
	}
	t := newTable(e.Out, names, c.Markdown)
	missed := 0
	for _, s := range list {
		began := time.Now()
		results, err := simulate.Run(ctx, s, names, c.Seeds)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return process.FlagError{Flag: "--policy", Err: err}
		}
		o := outcome{s, results, s.Missed(results)}
		missed += len(o.Missed)
		if c.Plots != "" {
			if err := c.plot(o); err != nil {
				return err
			}
		}
		if err := c.show(e, t, o, time.Since(began)); err != nil {
			return err
		}
	}
	if !c.JSON() {
		t.print()
	}
	if missed > 0 {
		fmt.Fprintf(e.Err, "usher-bench: %d goals missed\n", missed)
		return process.ExitCode(1)
	}
	return nil
}

func (c *placementCmd) scenarios() ([]simulate.Scenario, error) {
	var list []simulate.Scenario
	for _, name := range c.Scenario {
		f, err := os.Open(name)
		if err != nil {
			return nil, process.FlagError{Flag: "--scenario", Err: err}
		}
		some, err := simulate.Parse(f)
		f.Close()
		if err != nil {
			return nil, process.FlagError{Flag: "--scenario", Err: fmt.Errorf("%s: %w", name, err)}
		}
		list = append(list, some...)
	}
	if len(c.Scenario) == 0 {
		list = simulate.Builtin()
	}
	only, err := regexp.Compile(c.Only)
	if err != nil {
		return nil, process.FlagError{Flag: "--only", Err: err}
	}
	var some []simulate.Scenario
	for _, s := range list {
		if only.MatchString(s.Name) {
			some = append(some, s)
		}
	}
	if len(some) == 0 {
		return nil, process.FlagError{Flag: "--only", Err: fmt.Errorf("no scenario has a name that matches %q", c.Only)}
	}
	return some, nil
}

func (c *placementCmd) show(e *process.Env, t *table, o outcome, took time.Duration) error {
	for _, m := range o.Missed {
		fmt.Fprintf(e.Err, "%s: %s\n", o.Scenario.Name, m)
	}
	if c.JSON() {
		for i := range o.Results {
			o.Results[i].Trace = nil // only for plots
		}
		return process.WriteJSON(e.Out, o)
	}
	fmt.Fprintf(e.Err, "%s: %.1f s\n", o.Scenario.Name, took.Seconds())
	t.add(o)
	return nil
}

var notInFileName = regexp.MustCompile(`[^a-z0-9]+`)

func (c *placementCmd) plot(o outcome) error {
	name := strings.Trim(notInFileName.ReplaceAllString(strings.ToLower(o.Scenario.Name), "-"), "-") + ".svg"
	f, err := os.Create(filepath.Join(c.Plots, name))
	if err != nil {
		return process.FlagError{Flag: "--plots", Err: err}
	}
	if err := simulate.Plot(f, o.Scenario, o.Results); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// table has the results of all scenarios: the worst max/mean of each policy.
type table struct {
	out      io.Writer
	names    []string
	markdown bool
	rows     [][]string
}

func newTable(out io.Writer, names []string, markdown bool) *table {
	t := &table{out: out, names: names, markdown: markdown}
	head := append([]string{"worst max/mean"}, names...)
	t.rows = [][]string{append(head, simulate.Default+"/"+simulate.Oracle)}
	return t
}

func (t *table) add(o outcome) {
	row := []string{o.Scenario.Name}
	var ratio string
	worst := map[string]float64{}
	for _, r := range o.Results {
		cell := fmt.Sprintf("%.3f", r.Worst)
		if r.Refused > 0 {
			cell += fmt.Sprintf(" (%d refused)", r.Refused)
		}
		if r.Peak > 0 {
			cell += fmt.Sprintf(" (filled at %.1f×)", r.Peak)
		}
		row = append(row, cell)
		worst[r.Policy] = r.Worst
	}
	if worst[simulate.Default] > 0 {
		ratio = fmt.Sprintf("%.4f", worst[simulate.Default]/worst[simulate.Oracle])
	}
	if len(o.Missed) > 0 {
		ratio += " missed"
	}
	t.rows = append(t.rows, append(row, ratio))
}

func (t *table) print() {
	if t.markdown {
		for i, row := range t.rows {
			fmt.Fprintf(t.out, "| %s |\n", strings.Join(row, " | "))
			if i == 0 {
				fmt.Fprintf(t.out, "|%s\n", strings.Repeat("---|", len(row)))
			}
		}
		return
	}
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	for _, row := range t.rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	w.Flush()
}
