// Usher is the one binary of the project: every role, the developer's
// one-process cluster, a client that tries it, and the tools around them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

const description = `Usher tells every client of a game where to go, then stays out of the way.

A client logs in over HTTP and gets a signed token and the address of the
least-loaded node; it connects straight to that node by WebSocket, and after a
cut comes back to it with the same token and resumes, nothing lost.

Start with «usher dev» in one terminal and «usher try» in another.

Every flag can also be set by the environment: --some-flag is USHER_SOME_FLAG.`

// cli is the command line. Every default of the commands is in the tags.
type cli struct {
	LogLevel  string `help:"Log lines of this level and above: debug, info, warn or error. Default: info, and warn for «usher dev»." enum:",debug,info,warn,error" default:"" placeholder:"LEVEL"`
	LogFormat string `help:"How log lines look: text or json." enum:"text,json" default:"text" placeholder:"FORMAT"`

	Dev         devCmd         `cmd:"" help:"Run a whole cluster in this process: auth, broker and some nodes, nothing else needed."`
	Try         tryCmd         `cmd:"" help:"Play the whole journey as a client and tell it line by line."`
	Auth        authCmd        `cmd:"" help:"Run the login door: who are you, where do you go?"`
	Node        nodeCmd        `cmd:"" help:"Run a node: clients attach to it and it keeps their sessions."`
	Broker      brokerCmd      `cmd:"" help:"Run the private API, for operators and backends."`
	Nodes       nodesCmd       `cmd:"" help:"List the nodes: how full they are, and why one gets no sessions."`
	Sessions    sessionsCmd    `cmd:"" help:"Show a session, or those of a user."`
	Top         topCmd         `cmd:"" help:"Watch the cluster: nodes, sessions, arrivals, balance."`
	Explain     explainCmd     `cmd:"" help:"Say where a login would go now, and why not elsewhere."`
	Drain       drainCmd       `cmd:"" help:"Have a node give its sessions away, or take that back."`
	Kick        kickCmd        `cmd:"" help:"Throw a session, or a user, out."`
	Push        pushCmd        `cmd:"" help:"Send a message to a session, or a user."`
	Keys        keysCmd        `cmd:"" help:"Make keys and credentials."`
	Conformance conformanceCmd `cmd:"" help:"Test a client SDK: a scripted server that does what networks do, and judges."`
	Doctor      doctorCmd      `cmd:"" help:"Look at this machine, or a cluster that runs: what is wrong, and how to mend it."`
	Bench       benchCmd       `cmd:"" help:"Measure."`
	Healthcheck healthcheckCmd `cmd:"" help:"Ask a process on this machine whether it is ready; for containers without a shell."`
	Version     versionCmd     `cmd:"" help:"Print the version."`
}

// env is what commands run in; tests replace it.
type env struct {
	out io.Writer
	err io.Writer
	log *slog.Logger

	args []string // of the command line
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// exitCode is an error that says with what code the process ends.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// run is the program, but for the process around it. It returns the exit code:
// 0, 1 for a failure, 2 for a command line or value that cannot be.
func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	var c cli
	exited, code := false, 0
	parser, err := kong.New(&c,
		kong.Name("usher"), kong.Description(description), kong.UsageOnError(),
		kong.DefaultEnvars("USHER"),
		kong.ValueFormatter(helpWithDefault),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.Writers(out, errOut),
		kong.Exit(func(n int) { exited, code = true, n }), // after --help
		kong.BindTo(ctx, (*context.Context)(nil)),
	)
	if err != nil {
		panic(err) // the struct above is wrong
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	kctx, err := parser.Parse(args)
	if exited {
		return code
	}
	if err != nil {
		fmt.Fprintf(errOut, "usher: %v\n", err)
		fmt.Fprintln(errOut, "Run «usher --help», or «usher COMMAND --help».")
		return 2
	}
	if c.LogLevel == "" {
		c.LogLevel = "info"
		if kctx.Command() == "dev" { // its output is for a person
			c.LogLevel = "warn"
		}
	}
	e := &env{out: out, err: errOut, log: newLogger(errOut, c.LogLevel, c.LogFormat), args: args}
	err = kctx.Run(ctx, e)
	var exit exitCode
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return int(exit)
	case errors.As(err, &usage):
		fmt.Fprintf(errOut, "usher: %v\n", err)
		return 2
	}
	fmt.Fprintf(errOut, "usher: %v\n", err)
	return 1
}

// helpWithDefault is the help of a flag with its default, which kong leaves
// out where there is a placeholder.
func helpWithDefault(v *kong.Value) string {
	help := v.Help
	if v.HasDefault && v.Default != "" {
		help += " Default: " + v.Default + "."
	}
	if v.Flag != nil && len(v.Flag.Envs) > 0 {
		help += " ($" + strings.Join(v.Flag.Envs, ", $") + ")"
	}
	return help
}

// usageError says that a flag's value cannot be.
type usageError struct {
	flag string
	err  error
}

func (e usageError) Error() string { return e.flag + ": " + e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func newLogger(w io.Writer, level, format string) *slog.Logger {
	var l slog.Level
	_ = l.UnmarshalText([]byte(level)) // kong has checked it
	opts := &slog.HandlerOptions{Level: l}
	if format == "json" {
		// Nanoseconds as a number are for nobody.
		opts.ReplaceAttr = func(_ []string, a slog.Attr) slog.Attr {
			if a.Value.Kind() == slog.KindDuration {
				a.Value = slog.StringValue(a.Value.Duration().String())
			}
			return a
		}
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}
