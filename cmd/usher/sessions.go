package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/usher-broker/usher/broker/process"
)

type sessionsCmd struct {
	apiFlags           `embed:""`
	sessionOrUser      `embed:""`
	process.OutputFlag `embed:""`
}

// apiSession has the fields of a session that the command prints.
type apiSession struct {
	ID      string    `json:"id"`
	User    string    `json:"user"`
	Node    string    `json:"node"`
	State   string    `json:"state"`
	Epoch   uint64    `json:"epoch"`
	Pool    string    `json:"pool"`
	Region  string    `json:"region"`
	Group   string    `json:"group"`
	Created time.Time `json:"created"`
	Changed time.Time `json:"changed"`
	Reason  int       `json:"reason"`
}

func (c *sessionsCmd) Run(ctx context.Context, e *process.Env) error {
	if err := c.sessionOrUser.check(); err != nil {
		return err
	}
	a, err := c.open()
	if err != nil {
		return err
	}
	path := sessionPath(c.Session)
	if c.User != "" {
		path = userPath(c.User) + "/sessions"
	}
	if c.JSON() {
		return a.copyJSON(ctx, path, e.Out)
	}
	var answer struct {
		Sessions   []apiSession
		More       bool
		apiSession // the answer for one session
	}
	if err := a.call(ctx, "GET", path, nil, nil, &answer); err != nil {
		return err
	}
	if c.User == "" {
		answer.Sessions = []apiSession{answer.apiSession}
	}
	if len(answer.Sessions) == 0 {
		_, err := fmt.Fprintf(e.Out, "User %q has no session.\n", c.User)
		return err
	}
	printSessions(e.Out, answer.Sessions)
	if answer.More {
		fmt.Fprintf(e.Out, "User %q has more sessions than these %d.\n", c.User, len(answer.Sessions))
	}
	return nil
}

func printSessions(out io.Writer, list []apiSession) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SESSION\tUSER\tSTATE\tNODE\tMOVES\tPOOL\tREGION\tGROUP\tSINCE\tCHANGED")
	for _, s := range list {
		state := s.State
		if s.Reason != 0 {
			state += fmt.Sprintf(" (%d)", s.Reason)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s ago\n", s.ID, s.User, state, s.Node, s.Epoch-1, s.Pool, dash(s.Region), dash(s.Group),
			s.Created.Local().Format(time.DateTime), time.Since(s.Changed).Round(time.Second))
	}
	w.Flush()
}
