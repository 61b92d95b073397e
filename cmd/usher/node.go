package main

import (
	"context"
	"fmt"

	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/node"
	"github.com/usher-broker/usher/node/field"
	"github.com/usher-broker/usher/node/serve"
)

type nodeCmd struct {
	App string `help:"Application that the node runs: echo; fan, which sends every message to all sessions of the node, for \"usher-bench fanout\"; or field, the demo, which echoes messages that it does not know." enum:"echo,fan,field" default:"echo" placeholder:"NAME"`

	serve.Config `embed:""`
}

func (c *nodeCmd) Run(ctx context.Context, e *process.Env) error {
	app, err := newApp(c.App)
	if err != nil {
		return err
	}
	c.Logger = e.Log
	return serve.RunCommand(ctx, app, c.Config)
}

// newApp returns a new application of the name.
func newApp(name string) (node.App, error) {
	switch name {
	case "echo":
		return node.Echo{}, nil
	case "fan":
		return &node.Fan{}, nil
	case "field":
		return &field.App{}, nil
	}
	return nil, process.FlagError{Flag: "--app", Err: fmt.Errorf("there is no application %q", name)}
}
