package dev

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/node"
)

const description = `An Usher cluster in this process, for development: the login API, the private
API with its dashboard, and nodes with your application. It needs no Redis and
listens on loopback only. Sessions are kept in memory and end with the process.

Every flag can be set by the environment: --some-flag is USHER_SOME_FLAG.

` + process.ExitCodes

// Main runs a cluster with the application until SIGINT or SIGTERM, with the flags
// of usher dev. It does not return.
//
// All nodes share app. To find out how the game behaves when its players are on
// different nodes, implement PerNode: then each node has an application of its
// own, as in production.
func Main(app node.App) {
	var flags struct {
		process.LogFlags `embed:""`
		Config           `embed:""`
	}
	command := process.Command{
		Name: filepath.Base(os.Args[0]), Description: description, Flags: &flags,
		Log: func(string) (process.LogFlags, slog.Level) { return flags.LogFlags, slog.LevelWarn },
		Run: func(ctx context.Context, e *process.Env) error {
			flags.Logger, flags.Out = e.Log, e.Out
			return RunCommand(ctx, app, flags.Config)
		},
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(command.Main(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// PerNode is implemented by an application that each node has an instance of. Its
// other methods are not called.
type PerNode interface {
	// ForNode returns the application of the node with the id.
	ForNode(id string) node.App
}

// Run runs a cluster with the application until ctx ends. It writes the addresses
// to cfg.Out when a login can succeed. Fields of cfg that are zero have the
// defaults of the flags.
func Run(ctx context.Context, app node.App, cfg Config) error {
	if err := cfg.setDefaults(); err != nil {
		return err
	}
	return RunCommand(ctx, app, cfg)
}

// RunCommand is Run for a program that has parsed the flags: zero fields of cfg
// are values, not defaults.
func RunCommand(ctx context.Context, app node.App, cfg Config) error {
	defer process.Start(process.TuneCollector)()
	c, err := start(app, cfg)
	if err != nil {
		return err
	}
	defer c.Close()
	out := cfg.Out
	if out == nil {
		out = os.Stdout
	}
	c.writeSummary(out)
	<-ctx.Done()
	fmt.Fprintln(out, "\nStopping. The sessions were in memory and end now.")
	return nil
}

// writeSummary writes the addresses of the cluster, for a person.
func (c *Cluster) writeSummary(w io.Writer) {
	fmt.Fprintf(w, "Usher %s, a whole cluster in one process, for development.\n", process.Version())
	fmt.Fprintf(w, "Sessions are kept in memory and end with this process.\n\n")
	line := func(name, url, note string) {
		if note != "" {
			note = "   (" + note + ")"
		}
		fmt.Fprintf(w, "  %-12s %s%s\n", name, url, note)
	}
	for _, p := range c.cfg.Pages {
		line(p.Name, "http://"+c.AuthAddr()+p.Path, p.Note)
	}
	line("dashboard", "http://"+c.APIAddr()+"/", "")
	line("login API", "http://"+c.AuthAddr()+"/v1/login", `anybody may log in, under any name: method "guest"`)
	line("private API", "http://"+c.APIAddr()+"/v1/nodes", "needs no key on this machine")
	line("ops port", opsURL(c.ops.Addr()), "")
	for _, n := range c.running() {
		line(n.ID, n.URL, "")
	}
	fmt.Fprintf(w, "\nTry, in another terminal:\n\n")
	if c.cfg.TryCommand != "" {
		try := c.cfg.TryCommand
		if c.AuthAddr() != defaultAuth {
			try += " --auth http://" + c.AuthAddr()
		}
		fmt.Fprintf(w, "  %s\n", try)
	}
	fmt.Fprintf(w, "  curl -s http://%s/v1/login -d '{\"method\":\"guest\",\"credentials\":{\"name\":\"ada\"}}'\n", c.AuthAddr())
	fmt.Fprintf(w, "  curl -s http://%s/v1/nodes\n\nCtrl-C stops it.\n", c.APIAddr())
}
