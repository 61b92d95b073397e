package main

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"text/tabwriter"
	"time"
)

type sessionsCmd struct {
	apiFlags `embed:""`

	Name string `arg:"" help:"Name of a user, or id of a session."`
	JSON bool   `name:"json" help:"Print what the private API says, for scripts."`
}

// apiSession is what the commands show of a session.
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

var sessionID = regexp.MustCompile(`^[0-9a-f]{8}\.[a-z2-7]{26}$`)

func (c *sessionsCmd) Run(ctx context.Context, e *env) error {
	a, err := c.open()
	if err != nil {
		return err
	}
	path, one := userPath(c.Name)+"/sessions", sessionID.MatchString(c.Name)
	if one {
		path = sessionPath(c.Name)
	}
	if c.JSON {
		return a.print(ctx, path, e.out)
	}
	var answer struct {
		Sessions   []apiSession
		apiSession // of one that was named
	}
	if err := a.call(ctx, "GET", path, nil, nil, &answer); err != nil {
		return err
	}
	if one {
		answer.Sessions = []apiSession{answer.apiSession}
	}
	printSessions(e.out, c.Name, answer.Sessions)
	return nil
}

func printSessions(out io.Writer, name string, list []apiSession) {
	if len(list) == 0 {
		fmt.Fprintf(out, "%s has no session.\n", name)
		return
	}
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
