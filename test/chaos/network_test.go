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

// network connects dialers to listeners by name. What is written arrives some
// time later, in order; a wire can be cut, or muted.
type network struct {
	seed  uint64
	worst time.Duration // delay of one chunk
	pumps sync.WaitGroup

	mu        sync.Mutex
	listeners map[string]*listener
	wires     map[*wire]bool
	dials     map[string]int // by wire
}

func newNetwork(seed uint64, worst time.Duration) *network {
	return &network{seed: seed, worst: worst, listeners: map[string]*listener{}, wires: map[*wire]bool{}, dials: map[string]int{}}
}

// chance is the randomness of one part of the world. Each has its own, so that
// what befalls one does not depend on the order in which goroutines run.
type chance struct {
	mu    sync.Mutex
	rng   *rand.Rand
	worst time.Duration
}

func (n *network) chance(of string) *chance {
	h := fnv.New64a()
	_, _ = h.Write([]byte(of))
	return &chance{rng: rand.New(rand.NewPCG(n.seed, h.Sum64())), worst: n.worst}
}

func (c *chance) float() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rng.Float64()
}

func (c *chance) delay() time.Duration { return time.Duration(c.float() * float64(c.worst)) }

// listener is an address.
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

// dial connects to a listener. The wire is known by the name of the dialer.
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

// each calls f for the open wires that match.
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

// wire is one connection: two pipes, and between them what delays and spoils.
type wire struct {
	net      *network
	from, to string
	chance   *chance
	near     net.Conn // the dialer's
	far      net.Conn // the listener's
	inner    [2]net.Conn
	once     sync.Once

	mu    sync.Mutex
	muted bool
}

func newWire(n *network, from, to string) *wire {
	w := &wire{net: n, from: from, to: to}
	w.near, w.inner[0] = net.Pipe()
	w.far, w.inner[1] = net.Pipe()
	n.mu.Lock()
	n.wires[w] = true
	n.dials[from+" "+to]++
	w.chance = n.chance(fmt.Sprint(from, " ", to, " ", n.dials[from+" "+to]))
	n.mu.Unlock()
	n.pumps.Go(func() { w.pump(w.inner[0], w.inner[1]) })
	n.pumps.Go(func() { w.pump(w.inner[1], w.inner[0]) })
	return w
}

// pump carries what one end writes to the other, in order, each chunk after a
// delay. A writer never waits for a reader, as with the buffers of a kernel.
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
			if w.isMuted() {
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
			if t := time.Now().Add(w.chance.delay()); t.After(at) {
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
	if !w.isMuted() { // the end of a muted wire does not show either
		w.cut()
	}
}

// cut ends the wire at once; what is under way is lost.
func (w *wire) cut() {
	w.once.Do(func() {
		w.net.mu.Lock()
		delete(w.net.wires, w)
		w.net.mu.Unlock()
		w.inner[0].Close()
		w.inner[1].Close()
	})
}

// mute lets nothing through any more; both ends stay open.
func (w *wire) mute() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.muted = true
}

func (w *wire) isMuted() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.muted
}
