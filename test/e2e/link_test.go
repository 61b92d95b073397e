package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// A network is what lies between one client and the nodes: TCP on both sides,
// and every connection breaks as the plan says until the plan is used up.
type network struct {
	direct string // an address to which nothing breaks: auth's
	silent func() // called when a connection goes silent on both sides

	mu    sync.Mutex
	plan  []cut
	done  int // connections broken so far
	links []*link
	goes  sync.WaitGroup
}

// cut says when and how a connection breaks.
type cut struct {
	after int64 // bytes, of both directions together
	how   how
}

// how a connection breaks.
type how int

const (
	reset    how = iota // both sides are told at once, and what is under way is lost
	fin                 // both sides read to the end of what was sent
	halfOpen            // the client is told; the node keeps a socket that nobody reads or closes
	late                // the same, and what the client had sent arrives when it is long gone
	silence             // nobody is told anything
)

func (h how) String() string {
	return [...]string{"reset", "fin", "half-open", "late", "silence"}[h]
}

// lateBy is how long a network may hold on to bytes.
const lateBy = 50 * time.Millisecond

// dial is for usher.Config.Dial.
func (n *network) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	if addr == n.direct {
		return d.DialContext(ctx, network, addr)
	}
	node, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	client, far, err := pair()
	if err != nil {
		_ = node.Close()
		return nil, err
	}
	l := &link{network: n, client: far, node: node.(*net.TCPConn)}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.plan) > 0 {
		l.cut, l.breaks = n.plan[0], true
		n.plan = n.plan[1:]
	}
	n.links = append(n.links, l)
	n.goes.Go(func() { l.pump(l.node, l.client, true) })
	n.goes.Go(func() { l.pump(l.client, l.node, false) })
	return client, nil
}

// broken returns how many connections have broken.
func (n *network) broken() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.done
}

// cutAll breaks every connection to a node that is open now.
func (n *network) cutAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.links {
		abort(l.client)
		abort(l.node)
	}
}

// close closes everything, also what was left open on purpose.
func (n *network) close() {
	n.mu.Lock()
	for _, l := range n.links {
		_ = l.client.Close()
		_ = l.node.Close()
	}
	n.mu.Unlock()
	n.goes.Wait()
}

// pair returns the two ends of a TCP connection.
func pair() (near, far *net.TCPConn, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer ln.Close()
	a, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	b, err := ln.Accept()
	if err == nil && b.RemoteAddr().String() != a.LocalAddr().String() {
		err = fmt.Errorf("a stranger connected: %v", b.RemoteAddr())
		_ = b.Close()
	}
	if err != nil {
		_ = a.Close()
		return nil, nil, err
	}
	return a.(*net.TCPConn), b.(*net.TCPConn), nil
}

// link is one connection, from the client's side to the node's.
type link struct {
	network      *network
	client, node *net.TCPConn // our ends of them

	mu     sync.Mutex
	cut    cut
	breaks bool // there is a cut to come
	broken bool
	ended  bool // one side has closed
}

// pump carries bytes from one end to the other until the link breaks or the
// sender closes.
func (l *link) pump(to, from *net.TCPConn, up bool) {
	buf := make([]byte, 2048)
	for {
		n, err := from.Read(buf)
		pass, broken := l.spend(n)
		if pass > 0 {
			_, _ = to.Write(buf[:pass])
		}
		switch {
		case broken:
			if up && l.cut.how == late {
				l.deliverLate(buf[pass:n])
			}
			return
		case err != nil:
			l.spare()
			_ = to.CloseWrite() // and the other direction goes on
			return
		}
	}
}

// spare gives the cut back of a link that ends without: its client has moved, or
// its node has gone away. The connection that carries the session by now gets it,
// or the next.
func (l *link) spare() {
	l.mu.Lock()
	spared := l.breaks && !l.broken
	l.breaks, l.ended = false, true
	l.mu.Unlock()
	if !spared {
		return
	}
	n := l.network
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, other := range slices.Backward(n.links) {
		if other.take(l.cut) {
			return
		}
	}
	n.plan = append(n.plan, l.cut)
}

// take gives a cut to a link that goes on and has none.
func (l *link) take(c cut) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || l.broken || l.breaks {
		return false
	}
	l.cut, l.breaks = c, true
	return true
}

// spend returns how many of n bytes pass. The link breaks with the last that
// does; whether that one arrives is a matter of luck.
func (l *link) spend(n int) (pass int, broken bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.broken:
		return 0, true
	case !l.breaks:
		return n, false
	case int64(n) < l.cut.after:
		l.cut.after -= int64(n)
		return n, false
	}
	l.broken = true
	l.network.goes.Go(l.end)
	return int(l.cut.after), true
}

// end breaks the link.
func (l *link) end() {
	switch l.cut.how {
	case reset:
		abort(l.client)
		abort(l.node)
	case fin:
		_ = l.client.CloseWrite()
		_ = l.node.CloseWrite()
	case halfOpen:
		abort(l.client)
	case late:
		_ = l.client.CloseWrite()
	case silence:
		l.network.silent()
	}
	l.network.mu.Lock()
	defer l.network.mu.Unlock()
	l.network.done++
}

func abort(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// deliverLate hands the node what the client had sent, after the client has
// had the time to be back on another connection.
func (l *link) deliverLate(b []byte) {
	_ = l.client.SetReadDeadline(time.Now().Add(lateBy))
	rest, _ := io.ReadAll(l.client)
	time.Sleep(lateBy)
	_, _ = l.node.Write(append(append([]byte(nil), b...), rest...))
}
