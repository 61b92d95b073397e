package node

import "context"

// callbackLock serializes the calls of the App for one session. Unlike a sync.Mutex
// it can be waited for until a context ends, because a call may take long.
type callbackLock chan struct{}

func newCallbackLock() callbackLock { return make(callbackLock, 1) }

func (l callbackLock) Lock()   { l <- struct{}{} }
func (l callbackLock) Unlock() { <-l }

func (l callbackLock) TryLock() bool {
	select {
	case l <- struct{}{}:
		return true
	default:
		return false
	}
}

// LockUntil locks l and returns true, or returns false when ctx ends first.
func (l callbackLock) LockUntil(ctx context.Context) bool {
	if l.TryLock() {
		return true
	}
	select {
	case l <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}
