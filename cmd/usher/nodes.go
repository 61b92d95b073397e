package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"github.com/usher-broker/usher/broker/process"
)

type nodesCmd struct {
	apiFlags           `embed:""`
	process.OutputFlag `embed:""`

	Node string `arg:"" optional:"" help:"Id of one node. Default: all nodes."`
}

func (c *nodesCmd) Run(ctx context.Context, e *process.Env) error {
	a, err := c.open()
	if err != nil {
		return err
	}
	path := "/v1/nodes"
	if c.Node != "" {
		path = nodePath(c.Node)
	}
	if c.JSON() {
		return a.copyJSON(ctx, path, e.Out)
	}
	var answer struct {
		Nodes   []apiNode
		apiNode // the answer for one node
	}
	if err := a.call(ctx, "GET", path, nil, nil, &answer); err != nil {
		return err
	}
	if c.Node != "" {
		answer.Nodes = []apiNode{answer.apiNode}
	}
	printNodes(e.Out, answer.Nodes)
	return nil
}

// printNodes prints one line for each node, which ends with the reason if the node
// gets no sessions.
func printNodes(out io.Writer, list []apiNode) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tPOOL\tREGION\tSTATE\tREACH\tSESSIONS\tATTACHED\tFULL\tLAST REPORT\tGETS SESSIONS")
	for _, n := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d of %d\t%d\t%s\t%s ago\t%s\n", n.ID, n.Pool, dash(n.Region), n.State, n.Reach,
			n.Live, n.Capacity, n.Attached, percent(n.Live, n.Capacity), seconds(n.ReportAgeMS), n.getsSessions())
	}
	w.Flush()
}

// getsSessions says whether the node gets sessions, and the reason if it gets fewer
// or none.
func (n apiNode) getsSessions() string {
	switch {
	case n.Eligible && n.LoadPenalty > 0:
		return fmt.Sprintf("yes, %d %% fewer (load penalty)", n.LoadPenalty)
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

func percent(part, total int) string {
	if total == 0 {
		return "-"
	}
	return strconv.Itoa(part*100/total) + " %"
}

func seconds(ms int64) string { return fmt.Sprintf("%.1f s", float64(ms)/1000) }
