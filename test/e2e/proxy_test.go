package e2e

import (
	"io"
	"net"
	"sync"
	"testing"
)

// tcpProxy forwards TCP connections from a fixed address to a node. It can be
// stopped and started again.
type tcpProxy struct {
	t    *testing.T
	host string

	mu    sync.Mutex
	ln    net.Listener
	conns []net.Conn
}

func newTCPProxy(t *testing.T) *tcpProxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tcpProxy{t: t, host: ln.Addr().String()}
	ln.Close() // if another process binds the port in between, start fails
	t.Cleanup(p.stop)
	return p
}

func (p *tcpProxy) addr() string { return p.host }

// start listens and forwards connections to the address until stop.
func (p *tcpProxy) start(to string) {
	p.t.Helper()
	ln, err := net.Listen("tcp", p.host)
	if err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	p.ln = ln
	p.mu.Unlock()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go p.forward(conn, to)
		}
	}()
}

func (p *tcpProxy) forward(a net.Conn, to string) {
	b, err := net.Dial("tcp", to)
	if err != nil {
		a.Close()
		return
	}
	p.mu.Lock()
	p.conns = append(p.conns, a, b)
	p.mu.Unlock()
	go func() {
		_, _ = io.Copy(a, b)
		a.Close()
	}()
	_, _ = io.Copy(b, a)
	b.Close()
}

func (p *tcpProxy) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ln != nil {
		p.ln.Close()
	}
	for _, c := range p.conns {
		c.Close()
	}
	p.ln, p.conns = nil, nil
}
