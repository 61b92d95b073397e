package main

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
)

// faultyNetwork opens the network connections of the client, and can break the
// latest one to an address. The zero value is ready to use. It is safe for concurrent
// use.
type faultyNetwork struct {
	mu     sync.Mutex
	latest map[string]*faultyConn // by address
}

func (f *faultyNetwork) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	inner, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c := &faultyConn{Conn: inner}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.latest == nil {
		f.latest = make(map[string]*faultyConn)
	}
	f.latest[addr] = c
	return c, nil
}

func (f *faultyNetwork) latestTo(addr string) *faultyConn {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.latest[addr]
}

// cut resets the connection. Data in flight is lost.
func (f *faultyNetwork) cut(addr string) {
	c := f.latestTo(addr)
	if c == nil {
		return
	}
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Conn.Close()
}

// block drops all further data in both directions and leaves the connection open.
// The node sees a silent client.
func (f *faultyNetwork) block(addr string) {
	if c := f.latestTo(addr); c != nil {
		c.blocked.Store(true)
	}
}

type faultyConn struct {
	net.Conn
	blocked atomic.Bool
}

func (c *faultyConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if err != nil || !c.blocked.Load() {
			return n, err
		}
	}
}

func (c *faultyConn) Write(p []byte) (int, error) {
	if c.blocked.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// CloseWrite is called by TLS and HTTP.
func (c *faultyConn) CloseWrite() error {
	if tcp, ok := c.Conn.(*net.TCPConn); ok && !c.blocked.Load() {
		return tcp.CloseWrite()
	}
	return nil
}
