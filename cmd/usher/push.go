package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/usher-broker/usher/proto"
)

type pushCmd struct {
	apiFlags `embed:""`

	Session  string `arg:"" optional:"" help:"Id of the session."`
	User     string `help:"In place of a session: all sessions of this user." placeholder:"NAME"`
	Text     string `help:"The message." required:"" placeholder:"TEXT"`
	Volatile bool   `help:"Do not keep it for a client that is away."`
	Key      string `help:"Idempotency key: the same message with the same key is sent once." placeholder:"KEY"`
}

func (c *pushCmd) Run(ctx context.Context, e *env) error {
	a, err := c.open()
	if err != nil {
		return err
	}
	if (c.Session == "") == (c.User == "") {
		return usageError{"SESSION", errors.New("name a session, or a user with --user")}
	}
	header := http.Header{}
	if c.Key != "" {
		header.Set("Idempotency-Key", c.Key)
	}
	m := proto.Push{Text: &c.Text, Volatile: c.Volatile}
	var results struct{ Messages []proto.PushResult }
	if c.Session != "" {
		results.Messages = make([]proto.PushResult, 1)
		err = a.call(ctx, "POST", sessionPath(c.Session)+"/messages", header, m, &results.Messages[0])
	} else {
		err = a.call(ctx, "POST", userPath(c.User)+"/messages", header, m, &results)
	}
	if err != nil {
		return err
	}
	for _, r := range results.Messages {
		fmt.Fprintf(e.out, "%s at %s: %s\n", r.Session, r.Node, r.Result)
	}
	return nil
}
