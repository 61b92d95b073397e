package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
)

type nodesCmd struct {
	apiFlags `embed:""`

	Node string `arg:"" optional:"" help:"Id of one node."`
	JSON bool   `name:"json" help:"Print what the private API says, for scripts."`
}

func (c *nodesCmd) Run(ctx context.Context, e *env) error {
	a, err := c.open()
	if err != nil {
		return err
	}
	path := "/v1/nodes"
	if c.Node != "" {
		path = nodePath(c.Node)
	}
	if c.JSON {
		return a.print(ctx, path, e.out)
	}
	var answer struct {
		Nodes   []apiNode
		apiNode // of one that was named
	}
	if err := a.call(ctx, "GET", path, nil, nil, &answer); err != nil {
		return err
	}
	if c.Node != "" {
		answer.Nodes = []apiNode{answer.apiNode}
	}
	printNodes(e.out, answer.Nodes)
	return nil
}

// printNodes prints a line for each node: that it gets sessions, or why it does
// not.
func printNodes(out io.Writer, list []apiNode) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tPOOL\tREGION\tSTATE\tREACH\tSESSIONS\tATTACHED\tFULL\tHEARD\tGETS SESSIONS")
	for _, n := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d of %d\t%d\t%s\t%s ago\t%s\n", n.ID, n.Pool, dash(n.Region), n.State, n.Reach,
			n.Live, n.Capacity, n.Attached, percent(n.Live, n.Capacity), seconds(n.ReportAgeMS), n.verdict())
	}
	w.Flush()
}

func (n apiNode) verdict() string {
	switch {
	case n.Eligible && n.LoadPenalty > 0:
		return fmt.Sprintf("yes, %d %% fewer: it is under strain", n.LoadPenalty)
	case n.Eligible:
		return "yes"
	}
	return "no: " + n.Why
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func percent(part, whole int) string {
	if whole == 0 {
		return "-"
	}
	return strconv.Itoa(part*100/whole) + " %"
}

func seconds(ms int64) string { return fmt.Sprintf("%.1f s", float64(ms)/1000) }
