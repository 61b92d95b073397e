// Package lock has the mutexes of a node. Each belongs to a rank. A goroutine that
// holds a lock may lock only locks of a higher rank, so no two goroutines can wait for
// each other.
//
// Built with the tag lockorder, the locks check that order and panic with both ranks
// if it is violated. Without the tag they are the mutexes of package sync and cost
// nothing.
package lock

// Rank names a rank. Its type is the parameter of a lock, so that the zero value of a
// lock is ready to use.
type Rank interface {
	// Rank returns the position in the order, and the name for messages.
	Rank() (order int, name string)
}

// The ranks of a node, in the order in which they are locked.
type (
	// Callbacks is held during a call of the application, for one session.
	Callbacks struct{}
	// Node protects the sessions that a node holds.
	Node struct{}
	// Session protects one session and its connection.
	Session struct{}
	// Leases protects the leases of a node.
	Leases struct{}
	// Leaf is for a lock under which no other is locked.
	Leaf struct{}
)

// Rank implements Rank.
func (Callbacks) Rank() (int, string) { return 1, "Callbacks" }

// Rank implements Rank.
func (Node) Rank() (int, string) { return 2, "Node" }

// Rank implements Rank.
func (Session) Rank() (int, string) { return 3, "Session" }

// Rank implements Rank.
func (Leases) Rank() (int, string) { return 4, "Leases" }

// Rank implements Rank.
func (Leaf) Rank() (int, string) { return 5, "Leaf" }
