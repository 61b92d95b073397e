package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"text/tabwriter"

	"github.com/usher-broker/usher/broker/process"
)

type explainCmd struct {
	apiFlags           `embed:""`
	process.OutputFlag `embed:""`

	// Not from the environment: USHER_REGION and USHER_POOL are those of a node.
	User        string   `env:"-" help:"User of the login." required:"" placeholder:"NAME"`
	Region      string   `env:"-" help:"Preferred region." placeholder:"NAME"`
	Fallback    []string `env:"-" help:"Regions to use, in this order, when the preferred one has no capacity." placeholder:"NAME"`
	Strict      bool     `env:"-" help:"Use no other region."`
	Pool        string   `env:"-" help:"Pool. Default: default." placeholder:"NAME"`
	Group       string   `env:"-" help:"Group whose sessions share a node." placeholder:"NAME"`
	Unreachable string   `env:"-" help:"Node that the client could not reach." placeholder:"NODE"`
}

// explanation is the answer of the private API.
type explanation struct {
	Node     string `json:"node"`
	Group    string `json:"group_node"`
	Sessions []struct {
		ID    string `json:"id"`
		Node  string `json:"node"`
		State string `json:"state"`
	} `json:"sessions"`
	Nodes []struct {
		ID        string   `json:"id"`
		Candidate bool     `json:"candidate"`
		Chosen    bool     `json:"chosen"`
		Score     *float64 `json:"score"`
		Capacity  int      `json:"capacity"`
		Estimate  float64  `json:"estimate"`
		Because   string   `json:"because"`
	} `json:"nodes"`
}

func (c *explainCmd) Run(ctx context.Context, e *process.Env) error {
	a, err := c.open()
	if err != nil {
		return err
	}
	q := url.Values{"user": {c.User}}
	for name, value := range map[string]string{"region": c.Region, "pool": c.Pool, "group": c.Group, "unreachable": c.Unreachable} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if len(c.Fallback) > 0 {
		q["fallback"] = c.Fallback
	}
	if c.Strict {
		q.Set("strict", "true")
	}
	path := "/v1/explain?" + q.Encode()
	if c.JSON() {
		return a.copyJSON(ctx, path, e.Out)
	}
	var x explanation
	if err := a.call(ctx, "GET", path, nil, nil, &x); err != nil {
		return err
	}
	x.print(e.Out, c.User)
	return nil
}

func (x explanation) print(out io.Writer, user string) {
	switch {
	case x.Node != "" && x.Node == x.Group:
		fmt.Fprintf(out, "A login of %s would go to %s, the node of its group.\n", user, x.Node)
	case x.Node != "":
		fmt.Fprintf(out, "A login of %s would go to %s.\n", user, x.Node)
	case len(x.Nodes) > 0 && x.Nodes[0].Candidate:
		fmt.Fprintf(out, "A login of %s would go to one of the candidates, chosen at random.\n", user)
	default:
		fmt.Fprintf(out, "A login of %s would be refused: no node can take it.\n", user)
	}
	for _, s := range x.Sessions {
		fmt.Fprintf(out, "The user has session %s, %s on %s: a client that resumes stays there.\n", s.ID, s.State, s.Node)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tCANDIDATE\tSCORE\tESTIMATE\tREASON")
	for _, n := range x.Nodes {
		candidate, score := "no", "-"
		if n.Candidate {
			candidate = "yes"
		}
		if n.Score != nil {
			score = strconv.FormatFloat(*n.Score, 'g', 4, 64)
		}
		reason := n.Because
		if n.Chosen && x.Node == n.ID {
			reason = "chosen: " + reason
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%.0f of %d\t%s\n", n.ID, candidate, score, n.Estimate, n.Capacity, reason)
	}
	w.Flush()
}
