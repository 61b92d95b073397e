package usher

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// network is a network in memory that works under testing/synctest: hosts that listen,
// and wires that can be cut.
type network struct {
	mu    sync.Mutex
	hosts map[string]*host
	wires []*wire
	down  bool // nothing can be reached
}

type host struct {
	net    *network
	addr   string
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
}

var errRefused = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}

// listen makes the address reachable.
func (n *network) listen(addr string) *host {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := &host{net: n, addr: addr, accept: make(chan net.Conn), closed: make(chan struct{})}
	if n.hosts == nil {
		n.hosts = make(map[string]*host)
	}
	n.hosts[addr] = h
	return h
}

func (h *host) Accept() (net.Conn, error) {
	select {
	case c := <-h.accept:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *host) Addr() net.Addr { return address(h.addr) }

func (h *host) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }

// Dial has the signature of Config.Dial.
func (n *network) Dial(ctx context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	h, down := n.hosts[addr], n.down
	n.mu.Unlock()
	if h == nil || down {
		return nil, errRefused
	}
	w := newWire(addr)
	n.mu.Lock()
	n.wires = append(n.wires, w)
	n.mu.Unlock()
	select {
	case h.accept <- w.ends[1]:
		return w.ends[0], nil
	case <-h.closed:
		w.cut()
		return nil, errRefused
	case <-ctx.Done():
		w.cut()
		return nil, ctx.Err()
	}
}

// setDown makes everything unreachable, or reachable again.
func (n *network) setDown(down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = down
}

// to returns the latest wire to the address.
func (n *network) to(addr string) *wire {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := len(n.wires) - 1; i >= 0; i-- {
		if n.wires[i].addr == addr {
			return n.wires[i]
		}
	}
	return nil
}

// cut cuts all wires.
func (n *network) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, w := range n.wires {
		w.cut()
	}
}

// wire is a connection between two ends, with buffers like those of a network.
type wire struct {
	addr string
	ends [2]*end
}

func newWire(addr string) *wire {
	there, here := net.Pipe()
	back, forth := net.Pipe()
	w := &wire{addr: addr}
	w.ends[0], w.ends[1] = newEnd(there, forth), newEnd(back, here)
	return w
}

// cut breaks the wire: data in transit is lost, and both ends notice.
func (w *wire) cut() {
	for _, e := range w.ends {
		e.stop(true)
	}
}

// lose makes the wire half-open: nothing arrives any more, and neither end notices.
func (w *wire) lose() {
	for _, e := range w.ends {
		e.mu.Lock()
		e.lost = true
		e.mu.Unlock()
	}
}

// end is one end of a wire. It embeds the pipe it reads from.
type end struct {
	net.Conn
	out net.Conn

	mu      sync.Mutex
	changed sync.Cond
	queue   []byte
	lost    bool
	closed  bool
	paced   bool
}

const wireBuffer = 256 << 10

func newEnd(in, out net.Conn) *end {
	e := &end{Conn: in, out: out}
	e.changed.L = &e.mu
	go e.pump()
	return e
}

func (e *end) Write(b []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.queue) > wireBuffer && !e.closed {
		e.changed.Wait()
	}
	if e.closed {
		return 0, errors.New("write on a closed wire")
	}
	e.queue = append(e.queue, b...)
	e.changed.Broadcast()
	return len(b), nil
}

// pump carries the written data to the other end.
func (e *end) pump() {
	defer func() {
		e.mu.Lock()
		lost := e.lost
		e.mu.Unlock()
		if !lost {
			_ = e.out.Close()
		}
	}()
	for {
		e.mu.Lock()
		for len(e.queue) == 0 && !e.closed {
			e.changed.Wait()
		}
		b, lost := e.queue, e.lost
		if e.paced {
			b = b[:min(len(b), 100)]
		}
		e.queue = e.queue[len(b):]
		paced := e.paced
		e.changed.Broadcast()
		e.mu.Unlock()
		if len(b) == 0 {
			return
		}
		if lost {
			continue
		}
		if paced {
			time.Sleep(30 * time.Millisecond)
		}
		if _, err := e.out.Write(b); err != nil {
			return
		}
	}
}

// slow limits the rate at which the written data arrives to 3.3 kB/s.
func (e *end) slow() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.paced = true
}

// Close closes the end. The data that was written before still arrives.
func (e *end) Close() error {
	e.stop(false)
	return nil
}

func (e *end) stop(now bool) {
	e.mu.Lock()
	e.closed = true
	if now {
		e.queue, e.lost = nil, false
	}
	e.changed.Broadcast()
	e.mu.Unlock()
	_ = e.Conn.Close()
	if now {
		_ = e.out.Close()
	}
}

func (e *end) SetDeadline(t time.Time) error    { return e.SetReadDeadline(t) }
func (e *end) SetWriteDeadline(time.Time) error { return nil }
func (e *end) LocalAddr() net.Addr              { return address("here:1") }
func (e *end) RemoteAddr() net.Addr             { return address("there:1") }
