package proto

// Operations of a Command.
const (
	// OpEnd ends a session for good: the node closes its connection with the
	// code and the reason and forgets it.
	OpEnd = "end"
	// OpMoved tells a node that a session now belongs to another: it closes
	// the connection as moved and forgets the session.
	OpMoved = "moved"
	// OpMove has a node hand a session at the epoch over to the node To, with
	// its stream and what its application knows. Where the node refuses, the
	// session stays.
	OpMove = "move"
	// OpPush has a node send a message to the client of a session.
	OpPush = "push"
	// OpDrain has a node give all its sessions away; OpUndrain takes that back.
	OpDrain   = "drain"
	OpUndrain = "undrain"
	// OpShed has a node ask sessions to leave until it holds no more than
	// Target. It is good for a few seconds and is repeated as long as it holds.
	OpShed = "shed"
)

// Command is an order from a member that places to a node. Carrying one out
// twice is the same as carrying it out once.
type Command struct {
	Op      string    `json:"op"`
	Session string    `json:"session,omitempty"`
	Epoch   uint64    `json:"epoch,omitempty"`  // OpMoved: of the new owner; OpMove: of this one
	Code    CloseCode `json:"code,omitempty"`   // OpEnd: the close code the client gets
	Reason  string    `json:"reason,omitempty"` // OpEnd: the word that goes with it, if not that of the code
	To      string    `json:"to,omitempty"`     // OpMove

	Push   *Push         `json:"push,omitempty"`   // OpPush
	Key    string        `json:"key,omitempty"`    // OpPush: a message with a key the session has had is not sent again
	Drain  *DrainRequest `json:"drain,omitempty"`  // OpDrain
	Target uint32        `json:"target,omitempty"` // OpShed
}

// CommandResult answers a Command.
type CommandResult struct {
	Found bool   `json:"found"`           // the node held the session
	Error string `json:"error,omitempty"` // why the command was not carried out
	// Result is, of OpPush, one of the Push results; of OpMove, one of the Move
	// results.
	Result string `json:"result,omitempty"`
}

// Results of OpMove.
const (
	MoveDone = "done" // the session belongs to the other node now
	MoveHeld = "held" // the application holds it back
	MoveBusy = "busy" // it could not be decided in time; asking again is safe
)
