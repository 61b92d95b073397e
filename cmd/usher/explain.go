package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"text/tabwriter"
)

type explainCmd struct {
	apiFlags `embed:""`

	User        string   `help:"User who logs in." required:"" placeholder:"NAME"`
	Region      string   `help:"Region that is preferred." placeholder:"NAME"`
	Fallback    []string `help:"Regions that serve when that one has no room, in this order." placeholder:"NAME"`
	Strict      bool     `help:"No other region serves."`
	Pool        string   `help:"Pool. Default: default." placeholder:"NAME"`
	Group       string   `help:"Group whose sessions share a node." placeholder:"NAME"`
	Unreachable string   `help:"Node that the client could not reach." placeholder:"NODE"`
	JSON        bool     `name:"json" help:"Print what the private API says, for scripts."`
}

// explanation is what the private API says of a login.
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

func (c *explainCmd) Run(ctx context.Context, e *env) error {
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
	if c.JSON {
		return a.print(ctx, path, e.out)
	}
	var x explanation
	if err := a.call(ctx, "GET", path, nil, nil, &x); err != nil {
		return err
	}
	x.print(e.out, c.User)
	return nil
}

func (x explanation) print(out io.Writer, user string) {
	switch {
	case x.Node != "" && x.Node == x.Group:
		fmt.Fprintf(out, "A login of %s would go to %s, where its group is.\n", user, x.Node)
	case x.Node != "":
		fmt.Fprintf(out, "A login of %s would go to %s.\n", user, x.Node)
	case len(x.Nodes) > 0 && x.Nodes[0].Candidate:
		fmt.Fprintf(out, "A login of %s would go to one of the candidates, by chance.\n", user)
	default:
		fmt.Fprintf(out, "A login of %s would be refused: no node can take it.\n", user)
	}
	for _, s := range x.Sessions {
		fmt.Fprintf(out, "There is session %s, %s at %s: its client stays with it.\n", s.ID, s.State, s.Node)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tCANDIDATE\tSCORE\tABOUT\tWHY")
	for _, n := range x.Nodes {
		candidate, score := "no", "-"
		if n.Candidate {
			candidate = "yes"
		}
		if n.Score != nil {
			score = strconv.FormatFloat(*n.Score, 'g', 4, 64)
		}
		why := n.Because
		if n.Chosen && x.Node == n.ID {
			why = "chosen: " + why
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%.0f of %d\t%s\n", n.ID, candidate, score, n.Estimate, n.Capacity, why)
	}
	w.Flush()
}
