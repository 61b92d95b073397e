package main

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
)

// wire opens the client's network connections and can spoil the latest one to
// an address, as the world does.
type wire struct {
	mu     sync.Mutex
	latest map[string]*wireConn // by address
}

func (w *wire) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	inner, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c := &wireConn{Conn: inner}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.latest == nil {
		w.latest = make(map[string]*wireConn)
	}
	w.latest[addr] = c
	return c, nil
}

func (w *wire) to(addr string) *wireConn {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.latest[addr]
}

// cut breaks the connection at once and without a farewell; what is under way
// is lost.
func (w *wire) cut(addr string) {
	c := w.to(addr)
	if c == nil {
		return
	}
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Conn.Close()
}

// mute lets nothing through any more, either way, and leaves the connection
// open: the node sees a client that has gone silent.
func (w *wire) mute(addr string) {
	if c := w.to(addr); c != nil {
		c.muted.Store(true)
	}
}

type wireConn struct {
	net.Conn
	muted atomic.Bool
}

func (c *wireConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if err != nil || !c.muted.Load() {
			return n, err
		}
	}
}

func (c *wireConn) Write(p []byte) (int, error) {
	if c.muted.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// CloseWrite is what TLS and HTTP look for.
func (c *wireConn) CloseWrite() error {
	if tcp, ok := c.Conn.(*net.TCPConn); ok && !c.muted.Load() {
		return tcp.CloseWrite()
	}
	return nil
}
