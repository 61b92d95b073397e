//go:build !unix

package node

import "net"

// waiter is for Unix; elsewhere connections wait in the WebSocket library.
type waiter struct{}

func newWaiter(net.Conn) *waiter { return nil }

func (*waiter) wait() (*[]byte, error) { panic("node: no waiter") }
