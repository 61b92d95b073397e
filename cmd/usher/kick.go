package main

import (
	"context"
	"fmt"
	"net/url"

	"github.com/usher-broker/usher/broker/process"
)

type kickCmd struct {
	apiFlags           `embed:""`
	sessionOrUser      `embed:""`
	process.OutputFlag `embed:""`

	Reason string `env:"-" help:"Close reason for the client, with close code 4002: a to z, 0 to 9 and _." placeholder:"REASON"`
}

// Help implements kong.HelpProvider.
func (*kickCmd) Help() string {
	return "Exits with 1 if the session does not exist, or if the user has none."
}

// kickResult is the JSON output.
type kickResult struct {
	Ended []string `json:"ended"` // ids of sessions
}

func (c *kickCmd) Run(ctx context.Context, e *process.Env) error {
	if err := c.sessionOrUser.check(); err != nil {
		return err
	}
	a, err := c.open()
	if err != nil {
		return err
	}
	query := ""
	if c.Reason != "" {
		query = "?reason=" + url.QueryEscape(c.Reason)
	}
	result := kickResult{Ended: []string{}}
	if c.User != "" {
		err = a.call(ctx, "DELETE", userPath(c.User)+"/sessions"+query, nil, nil, &result)
	} else if err = a.call(ctx, "DELETE", sessionPath(c.Session)+query, nil, nil, nil); err == nil {
		result.Ended = append(result.Ended, c.Session)
	}
	if err != nil {
		return err
	}
	if c.JSON() {
		err = process.WriteJSON(e.Out, result)
	} else {
		for _, id := range result.Ended {
			fmt.Fprintf(e.Out, "ended session %s\n", id)
		}
	}
	if err == nil && len(result.Ended) == 0 {
		err = fmt.Errorf("user %q has no session", c.User)
	}
	return err
}
