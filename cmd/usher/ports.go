package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
)

// maxRange bounds a range of ports: all of them may have to be tried.
const maxRange = 1000

// listenTCP binds host:port, or of host:first-last the first port that is free.
func listenTCP(addr string) (net.Listener, error) {
	i := strings.LastIndexByte(addr, ':')
	from, to, ranged := strings.Cut(addr[i+1:], "-")
	if !ranged {
		return listenPlainly(addr)
	}
	first, err1 := strconv.ParseUint(from, 10, 16)
	last, err2 := strconv.ParseUint(to, 10, 16)
	if err1 != nil || err2 != nil || first == 0 || first > last || last-first >= maxRange {
		return nil, fmt.Errorf("%q: %q is not a range of at most %d ports", addr, addr[i+1:], maxRange)
	}
	for port := first; port <= last; port++ {
		ln, err := listenPlainly(addr[:i+1] + strconv.FormatUint(port, 10))
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) {
			return ln, err
		}
	}
	return nil, fmt.Errorf("listen on %s: every port of the range is taken: %w", addr, syscall.EADDRINUSE)
}

// listenPlainly does not have the kernel keep connections alive: nodes look after
// theirs themselves, and asking for it takes four system calls for each.
func listenPlainly(addr string) (net.Listener, error) {
	l := net.ListenConfig{KeepAlive: -1}
	return l.Listen(context.Background(), "tcp", addr)
}
