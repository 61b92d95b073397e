package main

import (
	"context"
	"os"

	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/node"
	"github.com/usher-broker/usher/node/dev"
)

// devCmd runs the development cluster with the built-in applications and the demo.
type devCmd struct {
	App string `help:"Application that the nodes run: echo; fan, which sends every message to all sessions of the node; or field, the demo, which echoes messages that it does not know." enum:"echo,fan,field" default:"field" placeholder:"NAME"`

	dev.Config `embed:""`
}

func (c *devCmd) Run(ctx context.Context, e *process.Env) error {
	c.Logger, c.Out = e.Log, e.Out
	c.Wrap = demo
	c.Pages = []dev.Page{{Name: "demo", Path: "/demo/", Note: "open it in two tabs, and kill a node"}}
	c.TryCommand = os.Args[0] + " try" // as it was called: it need not be in the PATH
	return dev.RunCommand(ctx, builtIn{name: c.App}, c.Config)
}

// builtIn is a built-in application, of which each node has its own.
type builtIn struct {
	node.App // never called
	name     string
}

// ForNode implements dev.PerNode.
func (b builtIn) ForNode(string) node.App {
	app, _ := newApp(b.name) // the enum of the flag has checked the name
	return app
}
