// Usher-bench puts load on a cluster and measures it. It also measures the memory of a
// session, the traffic of gossip, and the quality of placement.
package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/usher-broker/usher/broker/process"
)

const description = `Usher-bench puts load on a cluster of Usher and measures it. It also measures the
memory of a session, the traffic of gossip, and the quality of placement.

It refuses a target on another machine, unless --target-is-mine is set. Every flag
can be set by the environment: --some-flag is USHER_SOME_FLAG.

` + process.ExitCodes + `
A lost or duplicated message, and a missed goal, is a failure.`

// cli is the command line. The defaults of all commands are in the tags.
type cli struct {
	process.LogFlags `embed:""`

	Login     loginCmd               `cmd:"" help:"Log in again and again, and measure how long it takes."`
	Connect   connectCmd             `cmd:"" help:"Log in, attach, send a message and wait for its echo, again and again."`
	Echo      echoCmd                `cmd:"" help:"Send messages from attached sessions to nodes that echo them (--app=echo)."`
	Resume    resumeCmd              `cmd:"" help:"Cut all sessions while they send, and resume them at the same time."`
	Fanout    fanoutCmd              `cmd:"" help:"Send from one session of each node to all sessions of that node (--app=fan)."`
	Soak      soakCmd                `cmd:"" help:"Run sessions of the Go SDK for a long time: they log in, send, are cut, resume and log out, and no message may be lost."`
	Memory    memoryCmd              `cmd:"" help:"Measure the resident memory of a node for each idle attached session."`
	Gossip    gossipCmd              `cmd:"" help:"Measure the gossip traffic of clusters of several sizes, all in this process."`
	Placement placementCmd           `cmd:"" help:"Compare the placement policies with an omniscient one, in a simulation."`
	Version   process.VersionCommand `cmd:"" help:"Print the version."`
	Node      nodeCmd                `cmd:"" hidden:"" help:"The process that usher-bench memory measures."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run runs the command and returns its exit code.
func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	var c cli
	return process.Command{
		Name: "usher-bench", Description: description, Flags: &c, NeedsCommand: true,
		Log: func(string) (process.LogFlags, slog.Level) { return c.LogFlags, slog.LevelInfo },
	}.Main(ctx, args, out, errOut)
}
