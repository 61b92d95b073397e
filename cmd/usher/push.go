package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/proto"
)

type pushCmd struct {
	apiFlags           `embed:""`
	sessionOrUser      `embed:""`
	process.OutputFlag `embed:""`

	Text     string `env:"-" help:"The message." required:"" placeholder:"TEXT"`
	Volatile bool   `env:"-" help:"Drop the message if the client is detached, instead of keeping it."`
	Key      string `env:"-" help:"Idempotency key: a message with the same key is sent once." placeholder:"KEY"`
}

// Help implements kong.HelpProvider.
func (*pushCmd) Help() string {
	return "Exits with 1 if no session accepted the message, or if the user has no session."
}

// pushResults is the JSON output.
type pushResults struct {
	Messages []proto.PushResult `json:"messages"`
}

func (c *pushCmd) Run(ctx context.Context, e *process.Env) error {
	if err := c.sessionOrUser.check(); err != nil {
		return err
	}
	a, err := c.open()
	if err != nil {
		return err
	}
	header := http.Header{}
	if c.Key != "" {
		header.Set("Idempotency-Key", c.Key)
	}
	m := proto.Push{Text: &c.Text, Volatile: c.Volatile}
	var results pushResults
	if c.User != "" {
		err = a.call(ctx, "POST", userPath(c.User)+"/messages", header, m, &results)
	} else {
		results.Messages = make([]proto.PushResult, 1)
		err = a.call(ctx, "POST", sessionPath(c.Session)+"/messages", header, m, &results.Messages[0])
	}
	if err != nil {
		return err
	}
	if c.JSON() {
		return process.WriteJSON(e.Out, results)
	}
	for _, r := range results.Messages {
		fmt.Fprintf(e.Out, "session %s on node %s: %s\n", r.Session, r.Node, r.Result)
	}
	return nil
}
