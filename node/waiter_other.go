//go:build !unix

package node

import (
	"crypto/tls"
	"net"
)

// waiter exists on Unix only. On other systems connections wait in the WebSocket library.
type waiter struct{ tls *tls.Conn }

func newWaiter(net.Conn) *waiter { return nil }

func (*waiter) wait() (*[]byte, error) { panic("node: no waiter on this system") }

func (*waiter) write([]byte) (int, error) { panic("node: no waiter on this system") }
