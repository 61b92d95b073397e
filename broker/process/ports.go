package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
)

// MaxPortRange bounds the ports of a range: all of them may have to be tried.
const MaxPortRange = 1000

// ListenTCP binds host:port, or the first free port of host:first-last.
func ListenTCP(addr string) (net.Listener, error) {
	i := strings.LastIndexByte(addr, ':')
	from, to, ranged := strings.Cut(addr[i+1:], "-")
	if !ranged {
		return listenPlain(addr)
	}
	first, err1 := strconv.ParseUint(from, 10, 16)
	last, err2 := strconv.ParseUint(to, 10, 16)
	if err1 != nil || err2 != nil || first == 0 || first > last || last-first >= MaxPortRange {
		return nil, fmt.Errorf("%q: %q is not a range of at most %d ports", addr, addr[i+1:], MaxPortRange)
	}
	for port := first; port <= last; port++ {
		ln, err := listenPlain(addr[:i+1] + strconv.FormatUint(port, 10))
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) {
			return ln, err
		}
	}
	return nil, fmt.Errorf("listen on %s: every port of the range is in use: %w", addr, syscall.EADDRINUSE)
}

// ListenFrom binds the first free port of the host, from *port on, and sets *port
// to the one after it. Port 0 means any free port.
func ListenFrom(host string, port *int) (net.Listener, error) {
	var err error
	for range MaxPortRange {
		var ln net.Listener
		ln, err = listenPlain(net.JoinHostPort(host, strconv.Itoa(*port)))
		if *port > 0 {
			*port++
		}
		if err == nil {
			return ln, nil
		}
		if *port > 65535 {
			break
		}
	}
	return nil, fmt.Errorf("no free port: %w", err)
}

// listenPlain leaves TCP keep-alives off: nodes check their connections
// themselves, and switching keep-alives on takes four system calls for each
// connection.
func listenPlain(addr string) (net.Listener, error) {
	l := net.ListenConfig{KeepAlive: -1}
	return l.Listen(context.Background(), "tcp", addr)
}
