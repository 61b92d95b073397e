package serve

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/node"
)

const description = `A node of an Usher cluster. Game clients attach to it by WebSocket; it keeps
their sessions when connections are cut.

SIGTERM or SIGINT drains the node: it gets no new sessions, its clients move to
other nodes, and the process exits with 0 after --drain-timeout at the latest. A
second signal ends the drain at once.

Every flag can be set by the environment: --some-flag is USHER_SOME_FLAG.

` + process.ExitCodes

// Main runs app as a node of a cluster, with the flags and the environment
// variables of usher node. On SIGTERM or SIGINT it drains the node and exits:
// with 0 after a drain, 1 after a failure, 2 for a wrong flag. It does not return.
func Main(app node.App) {
	var flags struct {
		process.LogFlags `embed:""`
		Config           `embed:""`
	}
	command := process.Command{
		Name: filepath.Base(os.Args[0]), Description: description, Flags: &flags,
		Log: func(string) (process.LogFlags, slog.Level) { return flags.LogFlags, slog.LevelInfo },
		Run: func(ctx context.Context, e *process.Env) error {
			flags.Logger = e.Log
			return RunCommand(ctx, app, flags.Config)
		},
	}
	os.Exit(command.Main(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// RunCommand is Run for a program that has parsed the flags: zero fields of cfg
// are values, not defaults. It handles SIGTERM and SIGINT as Main does.
func RunCommand(ctx context.Context, app node.App, cfg Config) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	hurry := make(chan struct{})
	done := make(chan struct{})
	var handler sync.WaitGroup
	defer handler.Wait()
	defer close(done)
	handler.Go(func() {
		for _, act := range []func(){cancel, func() { close(hurry) }} {
			select {
			case <-signals:
				act()
			case <-done:
				return
			}
		}
	})
	return run(ctx, hurry, app, cfg)
}

// Run runs app as a node of a cluster until ctx ends or the node has been drained
// by an operator. Then its sessions move to other nodes, within
// cfg.DrainTimeout; those that cannot move are stored for the next node. It
// returns nil after a drain, and an error if the node could not start. A
// process.FlagError names the field of cfg that is wrong, as a flag.
//
// Run handles no signals. It adjusts the garbage collector of the process to many
// idle sessions, unless GOGC is set.
func Run(ctx context.Context, app node.App, cfg Config) error {
	if err := cfg.setDefaults(); err != nil {
		return err
	}
	return run(ctx, nil, app, cfg)
}

// drainedNotice is how long a node that an operator has drained stays, without
// sessions, so that usher drain and the dashboard see the end of the drain.
const drainedNotice = 2 * time.Second

// run runs the node until ctx ends and it has drained. When hurry is closed it
// stops waiting for the drain.
func run(ctx context.Context, hurry <-chan struct{}, app node.App, cfg Config) error {
	var stop process.Closers
	defer func() { stop.Close() }()
	stop.Add(process.Start(process.TuneCollector))
	n := New(app, cfg)
	ops, err := process.OpenOps(n.cfg.Ops, n.gatherer, n.Checks(), &stop, n.cfg.Logger, n.drainRoutes()...)
	if err != nil {
		return err
	}
	// The start is cancelled by ctx; the running node is stopped below.
	if err := n.Start(ctx); err != nil {
		return err
	}
	stop.Add(n.Close)
	log := n.cfg.Logger
	log.Info("node runs", "node", n.ID, "url", n.URL, "url_from", n.urlSource, "listen", n.http.Addr(), "gossip", n.Cluster.Addr(), "ops", ops.Addr(), "app", appName(app))
	select {
	case <-n.Node.Drained():
		select {
		case <-time.After(drainedNotice):
		case <-ctx.Done():
		}
		return nil
	case <-ctx.Done():
	}
	log.Info("node drains: its clients move to other nodes. A second signal ends the drain at once", "node", n.ID)
	if err := n.Drain(); err != nil {
		return err
	}
	select {
	case <-n.Node.Drained():
	case <-hurry:
		log.Warn("drain ended early by a second signal", "node", n.ID)
	}
	if d := n.Node.Draining(); d != nil {
		log.Info("node has drained", "node", n.ID, "sessions", d.Total, "cut", d.Cut, "remaining", d.Remaining)
	}
	return nil
}

// appName is the name of the application's type, for the log.
func appName(app node.App) string { return fmt.Sprintf("%T", app) }
