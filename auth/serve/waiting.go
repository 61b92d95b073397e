package serve

import (
	"fmt"

	"github.com/usher-broker/usher/broker/process"
)

// WaitingFlags are the flags of the waiting room.
type WaitingFlags struct {
	WaitingRoom  bool `help:"Have logins wait in a queue when every node is full, instead of refusing them. Must be the same on every auth."`
	WaitingLimit int  `help:"Logins that may wait in one queue." default:"100000" placeholder:"N"`
}

// Check reports a value that is out of range.
func (f WaitingFlags) Check() error {
	if f.WaitingLimit < 1 || f.WaitingLimit > 10_000_000 {
		return process.FlagError{Flag: "--waiting-limit", Err: fmt.Errorf("%d: must be 1 to 10000000", f.WaitingLimit)}
	}
	return nil
}
