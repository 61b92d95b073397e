// Usher is the command of the project. It has every role of a cluster, a development
// cluster, a client that tests it, and the tools for operators.
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

const description = `Usher assigns the clients of a game to nodes. No proxy is between a client and its
node.

A client logs in over HTTP. It gets a signed token and the address of the
least loaded node, and connects directly to that node by WebSocket. After a cut
it connects to the same node with the same token, and no message is lost.

Start with "usher dev" in one terminal and "usher try" in another.

Flags can be set by the environment: --some-flag is USHER_SOME_FLAG. The help of a
command shows for which of its flags.

` + process.ExitCodes + `
The help of a command lists its further cases.`

// cli is the command line. The defaults of all commands are in the tags.
type cli struct {
	process.LogFlags `embed:""`

	Dev         devCmd                 `cmd:"" help:"Run a cluster in this process, for development: auth, broker and nodes. It needs nothing else."`
	Try         tryCmd                 `cmd:"" help:"Act as a client: log in, send messages, lose the connection, resume, and report."`
	Auth        authCmd                `cmd:"" help:"Run an auth: the login API for game clients."`
	Node        nodeCmd                `cmd:"" help:"Run a node: clients attach to it, and it holds their sessions."`
	Broker      brokerCmd              `cmd:"" help:"Run a broker: the private API, for operators and backends."`
	Nodes       nodesCmd               `cmd:"" help:"List the nodes: how full they are, and why a node gets no sessions."`
	Sessions    sessionsCmd            `cmd:"" help:"Show one session, or the sessions of a user."`
	Top         topCmd                 `cmd:"" help:"Watch nodes, sessions, arrivals and balance."`
	Explain     explainCmd             `cmd:"" help:"Show which node a login would get now, and the reason for each node."`
	Drain       drainCmd               `cmd:"" help:"Move the sessions of a node to other nodes, or cancel that."`
	Kick        kickCmd                `cmd:"" help:"End a session, or all sessions of a user."`
	Push        pushCmd                `cmd:"" help:"Send a message to a session, or to all sessions of a user."`
	Keys        keysCmd                `cmd:"" help:"Make keys and credentials."`
	Conformance conformanceCmd         `cmd:"" help:"Test a client SDK against a scripted server."`
	Doctor      doctorCmd              `cmd:"" help:"Check this machine, or a running cluster, and print how to fix each fault."`
	Healthcheck healthcheckCmd         `cmd:"" help:"Ask a process on this machine whether it is ready, for containers without a shell."`
	Version     process.VersionCommand `cmd:"" help:"Print the version."`
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
		Name: "usher", Description: description, Flags: &c, NeedsCommand: true,
		Log: func(command string) (process.LogFlags, slog.Level) {
			if command == "dev" { // its output is for people
				return c.LogFlags, slog.LevelWarn
			}
			return c.LogFlags, slog.LevelInfo
		},
	}.Main(ctx, args, out, errOut)
}
