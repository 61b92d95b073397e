package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
)

type kickCmd struct {
	apiFlags `embed:""`

	Session string `arg:"" optional:"" help:"Id of the session."`
	User    string `help:"In place of a session: all sessions of this user." placeholder:"NAME"`
	Reason  string `help:"Why, in one word of a to z, 0 to 9 and _: the client gets it with code 4002." placeholder:"WORD"`
}

func (c *kickCmd) Run(ctx context.Context, e *env) error {
	a, err := c.open()
	if err != nil {
		return err
	}
	query := ""
	if c.Reason != "" {
		query = "?reason=" + url.QueryEscape(c.Reason)
	}
	switch {
	case (c.Session == "") == (c.User == ""):
		return usageError{"SESSION", errors.New("name a session, or a user with --user")}
	case c.Session != "":
		if err := a.call(ctx, "DELETE", sessionPath(c.Session)+query, nil, nil, nil); err != nil {
			return err
		}
		fmt.Fprintf(e.out, "%s is over.\n", c.Session)
		return nil
	}
	var answer struct{ Ended []string }
	if err := a.call(ctx, "DELETE", userPath(c.User)+"/sessions"+query, nil, nil, &answer); err != nil {
		return err
	}
	for _, id := range answer.Ended {
		fmt.Fprintf(e.out, "%s is over.\n", id)
	}
	if len(answer.Ended) == 0 {
		fmt.Fprintf(e.out, "%s has no session.\n", c.User)
	}
	return nil
}
