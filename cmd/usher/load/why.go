package load

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
)

// whyNot is an error of the network in a word or two.
func whyNot(err error) string {
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
		return "no more files here"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "no more ports here"
	}
	return err.Error()
}
