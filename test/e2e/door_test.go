package e2e

import (
	"io"
	"net"
	"sync"
	"testing"
)

// door is an address in front of a node that can be shut.
type door struct {
	t    *testing.T
	host string

	mu    sync.Mutex
	ln    net.Listener
	conns []net.Conn
}

func newDoor(t *testing.T) *door {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{t: t, host: ln.Addr().String()}
	ln.Close() // whoever takes the port meanwhile is noticed by open
	t.Cleanup(d.shut)
	return d
}

func (d *door) addr() string { return d.host }

// open leads to the address until shut.
func (d *door) open(to string) {
	d.t.Helper()
	ln, err := net.Listen("tcp", d.host)
	if err != nil {
		d.t.Fatal(err)
	}
	d.mu.Lock()
	d.ln = ln
	d.mu.Unlock()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go d.join(conn, to)
		}
	}()
}

func (d *door) join(a net.Conn, to string) {
	b, err := net.Dial("tcp", to)
	if err != nil {
		a.Close()
		return
	}
	d.mu.Lock()
	d.conns = append(d.conns, a, b)
	d.mu.Unlock()
	go func() {
		_, _ = io.Copy(a, b)
		a.Close()
	}()
	_, _ = io.Copy(b, a)
	b.Close()
}

func (d *door) shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ln != nil {
		d.ln.Close()
	}
	for _, c := range d.conns {
		c.Close()
	}
	d.ln, d.conns = nil, nil
}
