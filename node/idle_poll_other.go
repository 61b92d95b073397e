//go:build !linux

package node

import "context"

// canIdlePoll reports whether connections can wait without a goroutine on this system.
const canIdlePoll = false

// idlePoller does nothing on systems other than Linux: each connection keeps its goroutine.
type idlePoller struct{}

func newIdlePoller() *idlePoller        { return &idlePoller{} }
func (*idlePoller) add(*timedConn) bool { return false }
func (*idlePoller) remove(*timedConn)   {}
func (*idlePoller) run(context.Context) {}
