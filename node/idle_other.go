//go:build !linux

package node

import "context"

// canPark says that connections cannot wait without a goroutine.
const canPark = false

// idlers is for Linux; elsewhere each connection has a goroutine.
type idlers struct{}

func newIdlers() *idlers            { return &idlers{} }
func (*idlers) add(*timedConn) bool { return false }
func (*idlers) forget(*timedConn)   {}
func (*idlers) run(context.Context) {}
