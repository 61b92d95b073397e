package process

import "fmt"

// FlagError says that the value of a flag, or of the Config field of the same
// name, is wrong. A command that returns one ends with exit code 2.
type FlagError struct {
	Flag string // with its dashes: --listen
	Err  error
}

func (e FlagError) Error() string { return e.Flag + ": " + e.Err.Error() }
func (e FlagError) Unwrap() error { return e.Err }

// ExitCode is an error that ends a command with this exit code and prints
// nothing.
type ExitCode int

func (e ExitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }
