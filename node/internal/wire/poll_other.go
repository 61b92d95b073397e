//go:build !linux

package wire

import (
	"context"
	"log/slog"
)

// canPoll reports whether connections can wait without a goroutine on this system.
const canPoll = false

// poller does nothing on systems without epoll: each connection keeps its goroutine.
type poller struct{}

func newPoller(*slog.Logger) *poller { return &poller{} }
func (*poller) add(*Conn) bool       { return false }
func (*poller) remove(*Conn)         {}
func (*poller) run(context.Context)  {}
