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

// faultyNet is the network between one client and the nodes. It relays TCP
// connections and breaks each of them as the plan says, until all cuts of the
// plan have happened.
type faultyNet struct {
	direct string // address of auth; connections to it are not relayed
	silent func() // called after a cut of the kind silence

	mu    sync.Mutex
	plan  []cut
	cuts  int // connections broken so far
	links []*link
	wg    sync.WaitGroup
}

// cut says when and how a connection breaks.
type cut struct {
	after int64 // bytes, of both directions together
	how   breakKind
}

// breakKind is the way in which a connection breaks.
type breakKind int

const (
	reset    breakKind = iota // both sides get a RST; data in flight is lost
	fin                       // both sides get a FIN after the data relayed so far
	halfOpen                  // the client gets a RST; the node's connection stays open and silent
	late                      // the client gets a FIN; the node gets the client's last data after lateDelay and no FIN
	silence                   // no side gets anything; both connections stay open
)

func (k breakKind) String() string {
	return [...]string{"reset", "fin", "half-open", "late", "silence"}[k]
}

// lateDelay is how long a cut of the kind late holds data back.
const lateDelay = 50 * time.Millisecond

// dial implements usher.Config.Dial.
func (n *faultyNet) dial(ctx context.Context, network, addr string) (net.Conn, error) {
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
	n.wg.Go(func() { l.pump(l.node, l.client, true) })
	n.wg.Go(func() { l.pump(l.client, l.node, false) })
	return client, nil
}

// broken returns how many cuts have happened.
func (n *faultyNet) broken() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cuts
}

// cutAll resets every relayed connection that is open now.
func (n *faultyNet) cutAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.links {
		abort(l.client)
		abort(l.node)
	}
}

// close closes all connections, also those that a cut left open, and waits for
// the goroutines.
func (n *faultyNet) close() {
	n.mu.Lock()
	for _, l := range n.links {
		_ = l.client.Close()
		_ = l.node.Close()
	}
	n.mu.Unlock()
	n.wg.Wait()
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
		err = fmt.Errorf("accepted a connection from %v, want %v", b.RemoteAddr(), a.LocalAddr())
		_ = b.Close()
	}
	if err != nil {
		_ = a.Close()
		return nil, nil, err
	}
	return a.(*net.TCPConn), b.(*net.TCPConn), nil
}

// link is one relayed connection between the client and a node.
type link struct {
	network      *faultyNet
	client, node *net.TCPConn // the relay's ends of the two TCP connections

	mu     sync.Mutex
	cut    cut
	breaks bool // cut is set and has not happened
	broken bool
	ended  bool // one side has closed
}

// pump copies bytes from one end to the other until the link breaks or the sender
// closes its connection.
func (l *link) pump(to, from *net.TCPConn, up bool) {
	buf := make([]byte, 2048)
	for {
		n, err := from.Read(buf)
		pass, broken := l.consume(n)
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
			l.returnCut()
			_ = to.CloseWrite() // the other direction stays open
			return
		}
	}
}

// returnCut takes the unused cut of a link that ended otherwise, because its
// client moved or its node left. It gives the cut to the newest open link without
// one, or else returns it to the plan.
func (l *link) returnCut() {
	l.mu.Lock()
	unused := l.breaks && !l.broken
	l.breaks, l.ended = false, true
	l.mu.Unlock()
	if !unused {
		return
	}
	n := l.network
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, other := range slices.Backward(n.links) {
		if other.addCut(l.cut) {
			return
		}
	}
	n.plan = append(n.plan, l.cut)
}

// addCut gives the link a cut and reports whether it did: the link must be open
// and have no cut.
func (l *link) addCut(c cut) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || l.broken || l.breaks {
		return false
	}
	l.cut, l.breaks = c, true
	return true
}

// consume counts n bytes against the cut, and returns how many of them pass and
// whether the link is broken. It breaks the link after the last byte that passes;
// that byte may or may not arrive.
func (l *link) consume(n int) (pass int, broken bool) {
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
	l.network.wg.Go(l.end)
	return int(l.cut.after), true
}

// end breaks the link as its cut says.
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
	l.network.cuts++
}

// abort closes the connection with a RST.
func abort(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// deliverLate delivers the client's last data to the node, after the client has
// had time to attach on another connection.
func (l *link) deliverLate(b []byte) {
	_ = l.client.SetReadDeadline(time.Now().Add(lateDelay))
	rest, _ := io.ReadAll(l.client)
	time.Sleep(lateDelay)
	_, _ = l.node.Write(append(append([]byte(nil), b...), rest...))
}
