package proto

// Operations of a Command.
const (
	// OpEnd ends a session: the node closes its connection with Code and Reason
	// and forgets the session.
	OpEnd = "end"
	// OpMoved notifies a node that a session now belongs to another node: it
	// closes the connection as moved and forgets the session.
	OpMoved = "moved"
	// OpMove moves the session with the epoch to the node To, with its stream and
	// the snapshot of its application. If the node refuses, the session stays.
	OpMove = "move"
	// OpPush makes the node send a message to the client of a session.
	OpPush = "push"
	// OpDrain makes the node move all its sessions to other nodes. OpUndrain
	// cancels that.
	OpDrain   = "drain"
	OpUndrain = "undrain"
	// OpShed makes the node ask clients to leave until it holds no more than
	// Target sessions. It is valid for a few seconds; the sender repeats it as
	// long as it applies.
	OpShed = "shed"
)

// Command is an order to a node from a member that places sessions. Commands
// are idempotent: to carry one out twice has the same effect as once.
type Command struct {
	Op      string    `json:"op"`
	Session string    `json:"session,omitempty"`
	Epoch   uint64    `json:"epoch,omitempty"`  // OpMoved: the epoch of the new owner; OpMove: of this node
	Code    CloseCode `json:"code,omitempty"`   // OpEnd: the close code for the client
	Reason  string    `json:"reason,omitempty"` // OpEnd: the close reason; "" for that of Code
	To      string    `json:"to,omitempty"`     // OpMove: the node that gets the session

	Push   *Push         `json:"push,omitempty"`   // OpPush
	Key    string        `json:"key,omitempty"`    // OpPush: a message with a key that the session has seen is not sent again
	Drain  *DrainRequest `json:"drain,omitempty"`  // OpDrain
	Target uint32        `json:"target,omitempty"` // OpShed
}

// CommandResult answers a Command.
type CommandResult struct {
	Found bool   `json:"found"`           // the node held the session
	Error string `json:"error,omitempty"` // why the command was not carried out
	// Result is one of the Push results for OpPush, and one of the Move results
	// for OpMove.
	Result string `json:"result,omitempty"`
}

// Results of OpMove.
const (
	MoveDone = "done" // the session now belongs to the other node
	MoveHeld = "held" // the application holds the session back
	MoveBusy = "busy" // the node could not decide in time; repeating the command is safe
)
