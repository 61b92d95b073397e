package cluster

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// dialTimeout is less than memberlist's own, because members to join are tried
// one after another.
const dialTimeout = 3 * time.Second

// transport is memberlist's, but what it dials ends with ctx: nobody waits for
// a dead peer when this member closes.
type transport struct {
	*memberlist.NetTransport
	ctx   context.Context
	guard *guard // nil where everybody may gossip
	sent  *traffic
}

// traffic counts the bytes that a member has sent, above UDP and TCP.
type traffic struct{ packets, streams atomic.Uint64 }

// Traffic returns how many bytes this member has sent since it joined: in packets,
// and in both directions of the streams that it opened.
func (c *Cluster) Traffic() (packets, streams uint64) {
	return c.sent.packets.Load(), c.sent.streams.Load()
}

func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	t.sent.packets.Add(uint64(len(b)))
	return t.NetTransport.WriteTo(b, addr)
}

func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	t.sent.packets.Add(uint64(len(b)))
	return t.NetTransport.WriteToAddress(b, a)
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: min(timeout, dialTimeout)}
	conn, err := d.DialContext(t.ctx, "tcp", a.Addr)
	if err != nil {
		return nil, err
	}
	return &boundConn{conn, context.AfterFunc(t.ctx, func() { conn.Close() }), t.sent}, nil
}

type boundConn struct {
	net.Conn
	unbind func() bool
	sent   *traffic
}

func (c *boundConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.sent.streams.Add(uint64(n))
	return n, err
}

func (c *boundConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.sent.streams.Add(uint64(n))
	return n, err
}

func (c *boundConn) Close() error {
	c.unbind()
	return c.Conn.Close()
}

// abandon shuts the transport down when there is no memberlist that takes what
// comes in, which it waits for.
func (t *transport) abandon() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = t.Shutdown()
	}()
	for {
		select {
		case <-t.PacketCh():
		case conn := <-t.StreamCh():
			conn.Close()
		case <-done:
			return
		}
	}
}
