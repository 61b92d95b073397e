package chaos

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// network connects dialers to listeners by name. Written data arrives after a random
// delay, in order. A wire can be cut, or blocked.
type network struct {
	seed     uint64
	maxDelay time.Duration // of one chunk
	pumps    sync.WaitGroup

	mu        sync.Mutex
	listeners map[string]*listener
	wires     map[*wire]bool
	dials     map[string]int // by wire
}

func newNetwork(seed uint64, maxDelay time.Duration) *network {
	return &network{seed: seed, maxDelay: maxDelay, listeners: map[string]*listener{}, wires: map[*wire]bool{}, dials: map[string]int{}}
}

// random is the random source of one part of the cluster. Each part has its own, so
// that its faults do not depend on the order in which goroutines run.
type random struct {
	mu       sync.Mutex
	rng      *rand.Rand
	maxDelay time.Duration
}

// random returns a new source for the part with the name.
func (n *network) random(part string) *random {
	h := fnv.New64a()
	_, _ = h.Write([]byte(part))
	return &random{rng: rand.New(rand.NewPCG(n.seed, h.Sum64())), maxDelay: n.maxDelay}
}

func (r *random) float() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rng.Float64()
}

func (r *random) delay() time.Duration { return time.Duration(r.float() * float64(r.maxDelay)) }

// listener accepts the connections to one address.
type listener struct {
	name string
	net  *network
	in   chan net.Conn
	done chan struct{}
	once sync.Once
}

func (n *network) listen(name string) *listener {
	l := &listener{name: name, net: n, in: make(chan net.Conn), done: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listeners[name] = l
	return l
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.in:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		l.net.mu.Lock()
		if l.net.listeners[l.name] == l {
			delete(l.net.listeners, l.name)
		}
		l.net.mu.Unlock()
		close(l.done)
	})
	return nil
}

func (l *listener) Addr() net.Addr { return address(l.name) }

type address string

func (a address) Network() string { return "test" }
func (a address) String() string  { return string(a) }

var errRefused = errors.New("connection refused")

// dial connects the dialer from to the listener to.
func (n *network) dial(ctx context.Context, from, to string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[to]
	n.mu.Unlock()
	if l == nil {
		return nil, errRefused
	}
	w := newWire(n, from, to)
	select {
	case l.in <- w.far:
		return w.near, nil
	case <-l.done:
		w.cut()
		return nil, errRefused
	case <-ctx.Done():
		w.cut()
		return nil, ctx.Err()
	}
}

// each calls f for every open wire between from and to. An empty name matches all.
func (n *network) each(from, to string, f func(*wire)) {
	n.mu.Lock()
	var list []*wire
	for w := range n.wires {
		if (from == "" || w.from == from) && (to == "" || w.to == to) {
			list = append(list, w)
		}
	}
	n.mu.Unlock()
	for _, w := range list {
		f(w)
	}
}

// wire is one connection: two pipes, and between them the delays and faults.
type wire struct {
	net      *network
	from, to string
	random   *random
	near     net.Conn // the dialer's
	far      net.Conn // the listener's
	inner    [2]net.Conn
	once     sync.Once

	mu      sync.Mutex
	blocked bool
}

func newWire(n *network, from, to string) *wire {
	w := &wire{net: n, from: from, to: to}
	w.near, w.inner[0] = net.Pipe()
	w.far, w.inner[1] = net.Pipe()
	n.mu.Lock()
	n.wires[w] = true
	n.dials[from+" "+to]++
	w.random = n.random(fmt.Sprint(from, " ", to, " ", n.dials[from+" "+to]))
	n.mu.Unlock()
	n.pumps.Go(func() { w.pump(w.inner[0], w.inner[1]) })
	n.pumps.Go(func() { w.pump(w.inner[1], w.inner[0]) })
	return w
}

// pump copies data from one end to the other, in order, each chunk after a delay. A
// writer never waits for a reader, as with kernel buffers.
func (w *wire) pump(from, to net.Conn) {
	type chunk struct {
		data []byte
		at   time.Time
	}
	chunks := make(chan chunk, 4096)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for c := range chunks {
			time.Sleep(time.Until(c.at))
			if w.isBlocked() {
				continue
			}
			if _, err := to.Write(c.data); err != nil {
				break
			}
		}
		for range chunks {
		}
	}()
	at := time.Now()
	for {
		b := make([]byte, 4096)
		n, err := from.Read(b)
		if n > 0 {
			if t := time.Now().Add(w.random.delay()); t.After(at) {
				at = t
			}
			chunks <- chunk{b[:n], at}
		}
		if err != nil {
			break
		}
	}
	close(chunks)
	<-done
	if !w.isBlocked() { // a blocked wire does not pass on the end of the connection either
		w.cut()
	}
}

// cut closes both ends at once. Data in flight is lost.
func (w *wire) cut() {
	w.once.Do(func() {
		w.net.mu.Lock()
		delete(w.net.wires, w)
		w.net.mu.Unlock()
		w.inner[0].Close()
		w.inner[1].Close()
	})
}

// block discards all data from now on. Both ends stay open.
func (w *wire) block() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.blocked = true
}

func (w *wire) isBlocked() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.blocked
}
