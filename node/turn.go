package node

import "context"

// turn is whose turn it is to call the App for a session. It is a lock that can
// be waited for until a context ends: a call may take long.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

func (t turn) Lock()   { t <- struct{}{} }
func (t turn) Unlock() { <-t }

func (t turn) TryLock() bool {
	select {
	case t <- struct{}{}:
		return true
	default:
		return false
	}
}

// LockUntil locks unless ctx ends before.
func (t turn) LockUntil(ctx context.Context) bool {
	if t.TryLock() {
		return true
	}
	select {
	case t <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}
