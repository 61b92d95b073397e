package cluster

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// dialTimeout is less than memberlist's default, because members to join are
// tried one after another.
const dialTimeout = 3 * time.Second

// transport is memberlist's transport. What it dials ends with ctx, so that Close
// does not wait for a dead peer.
type transport struct {
	*memberlist.NetTransport
	ctx    context.Context
	filter *networkFilter // nil if members may gossip from anywhere
	sent   *traffic
}

// traffic counts the bytes that this member has sent, without UDP and TCP
// headers.
type traffic struct{ packets, streams atomic.Uint64 }

// Traffic returns the number of bytes since the member joined: sent in packets,
// and sent and received on the streams that it opened.
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

// abandon shuts down a transport that no memberlist reads from. Shutdown waits
// until its input is read.
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
