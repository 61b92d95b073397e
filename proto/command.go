package proto

// Operations of a Command.
const (
	// OpEnd ends a session for good: the node closes its connection with the
	// code and forgets it.
	OpEnd = "end"
	// OpMoved tells a node that a session now belongs to another: it closes
	// the connection as moved and forgets the session.
	OpMoved = "moved"
)

// Command is an order from a member that places to a node. Carrying one out
// twice is the same as carrying it out once.
type Command struct {
	Op      string    `json:"op"`
	Session string    `json:"session"`
	Epoch   uint64    `json:"epoch,omitempty"` // OpMoved: the epoch of the new owner
	Code    CloseCode `json:"code,omitempty"`  // OpEnd: the close code the client gets
}

// CommandResult answers a Command.
type CommandResult struct {
	Found bool   `json:"found"`           // the node held the session
	Error string `json:"error,omitempty"` // why the command was not carried out
}
