package load

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
)

// networkReason returns a short name for an error of the network, or the text of any
// other error.
func networkReason(err error) string {
	var network net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return "stopped"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return "timeout"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return "connection lost"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "out of files on this machine"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "out of ports on this machine"
	}
	return err.Error()
}
