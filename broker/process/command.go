package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/alecthomas/kong"
)

// ExitCodes describes the exit codes of a command, for its help text.
const ExitCodes = `Exit codes: 0 success; 1 failure; 2 wrong command line or flag value.`

// Command is a command line program.
type Command struct {
	Name        string
	Description string
	// Flags is a pointer to the struct of flags and commands, as kong reads it.
	Flags any
	// Log returns the log flags, and the level to use when none is given. command
	// is the name of the parsed command, "" if there are none.
	Log func(command string) (LogFlags, slog.Level)
	// Check refuses flag values that no tag can. Optional.
	Check func() error
	// Run runs the program. nil means the Run method of the parsed command.
	Run func(context.Context, *Env) error
	// NeedsCommand prints the help when the command line is empty.
	NeedsCommand bool
}

// Env is what a command runs in; tests replace it.
type Env struct {
	Name string // of the program
	Out  io.Writer
	Err  io.Writer
	Log  *slog.Logger
	Args []string // of the command line
}

// Main parses the command line and the USHER_* environment and runs the command.
// It returns the exit code: 0 for success, 1 for a failure, 2 for a wrong command
// line or flag value, or the ExitCode that the command returned.
func (c Command) Main(ctx context.Context, args []string, out, errOut io.Writer) int {
	exited, code := false, 0
	parser, err := kong.New(c.Flags,
		kong.Name(c.Name), kong.Description(c.Description), kong.UsageOnError(),
		kong.DefaultEnvars("USHER"),
		kong.ValueFormatter(helpWithDefault),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.Writers(out, errOut),
		kong.Exit(func(n int) { exited, code = true, n }), // after --help
		kong.BindTo(ctx, (*context.Context)(nil)),
	)
	if err != nil {
		panic(err) // c.Flags is no struct that kong can read
	}
	if len(args) == 0 && c.NeedsCommand {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if exited {
		return code
	}
	if err != nil {
		fmt.Fprintf(errOut, "%s: %v\n", c.Name, err)
		command := c.Name
		if p, ok := errors.AsType[*kong.ParseError](err); ok && p.Context.Selected() != nil {
			command = p.Context.Selected().FullPath()
		}
		fmt.Fprintf(errOut, "Run \"%s --help\" for the flags.\n", command)
		return 2
	}
	command := parsed.Command()
	flags, level := c.Log(command)
	e := &Env{Name: c.Name, Out: out, Err: errOut, Log: flags.NewLogger(errOut, level), Args: args}
	if c.Check != nil {
		err = c.Check()
	}
	if err == nil {
		if c.Run != nil {
			err = c.Run(ctx, e)
		} else {
			err = parsed.Run(ctx, e)
		}
	}
	var exit ExitCode
	var flag FlagError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return int(exit)
	case errors.As(err, &flag):
		fmt.Fprintf(errOut, "%s: %v\n", c.Name, err)
		return 2
	}
	fmt.Fprintf(errOut, "%s: %v\n", c.Name, err)
	return 1
}

// helpWithDefault returns the help of a flag with its default, which kong leaves
// out where there is a placeholder, and its environment variable.
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
