package usher_test

import (
	"context"
	"fmt"
	"math"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	usher "github.com/usher-broker/usher/client-sdk/go"
	"github.com/usher-broker/usher/proto"
)

// Whatever happens to its connections while both sides send, a session loses no
// message, duplicates none, keeps the order, and at the end no message is
// unconfirmed. The test uses real sockets.
func TestNothingLost(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := newPair(rt, t)
		defer p.stop()
		for range rapid.IntRange(4, 10).Draw(rt, "steps") {
			sent := rapid.SampledFrom([]int{300, 100, 10, 1, 0}).Draw(rt, "sent")
			p.send(sent)
			p.node.send(sent)
			p.await(rapid.IntRange(0, 2*sent).Draw(rt, "arrived"))
			p.receives(rapid.SampledFrom([]int{math.MaxInt, math.MaxInt, 0, 6}).Draw(rt, "receives"))
			p.disturb(rapid.SampledFrom(disturbances).Draw(rt, "then"), rapid.IntRange(1, 30000).Draw(rt, "bytes"))
		}
		p.stopFaults()
		p.drain()
		p.check()
	})
}

var disturbances = []string{
	"nothing", "reset", "end", "half-open", "cut after reading", "cut after writing", "lost welcome",
	"close 1001", "close 4100", "close 4103", "close 4200", "close 4202", "goaway", "goaway and reset",
}

// pair is a session and its node.
type pair struct {
	t       *rapid.T
	log     *testing.T
	node    *loopNode
	session *usher.Session
	resets  atomic.Int32
	working sync.WaitGroup
	ctx     context.Context
	cancel  context.CancelFunc

	mu       sync.Mutex
	changed  sync.Cond
	link     *link // the latest to the node
	total    int   // messages to send
	got      int   // messages received, 1 to got, each once
	wrong    []string
	quota    int // number of messages that the application still receives before it is busy
	finished bool
}

func newPair(t *rapid.T, log *testing.T) *pair {
	p := &pair{t: t, log: log, node: newLoopNode(), quota: math.MaxInt}
	p.changed.L = &p.mu
	p.ctx, p.cancel = context.WithTimeout(context.Background(), 30*time.Second)
	var err error
	p.session, err = usher.Connect(p.ctx, usher.Config{
		Auth: p.node.auth.URL, Credentials: usher.Guest("ada"), Dial: p.dial, AttachTimeout: time.Second,
		OnReset: func(usher.Reset) { p.resets.Add(1) },
		Rand:    func() float64 { return 0.001 },
	})
	if err != nil {
		p.cancel()
		p.node.stop()
		t.Fatal(err)
	}
	p.working.Go(p.sender)
	p.working.Go(p.receiver)
	return p
}

func (p *pair) stop() {
	p.mu.Lock()
	p.finished = true
	p.changed.Broadcast()
	p.mu.Unlock()
	p.cancel()
	p.working.Wait()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = p.session.Close(ctx) // closed already, unless the test has failed
	p.node.stop()
}

// sender sends for the application of the client.
func (p *pair) sender() {
	for i := 1; ; i++ {
		p.mu.Lock()
		for i > p.total && !p.finished {
			p.changed.Wait()
		}
		done := p.finished
		p.mu.Unlock()
		if done {
			return
		}
		err := p.session.SendText(p.ctx, string(numbered("c", i)))
		if err == nil && i%5 == 0 {
			err = p.session.SendVolatileText(string(numbered("v", i)))
		}
		if err != nil {
			p.recordFault("sending %d: %v", i, err)
			return
		}
	}
}

// receiver receives for the application of the client.
func (p *pair) receiver() {
	for {
		m, err := p.session.Receive(p.ctx)
		p.mu.Lock()
		for p.quota == 0 && !p.finished {
			p.changed.Wait()
		}
		if p.finished {
			p.mu.Unlock()
			return
		}
		i, ok := number("n", m.Data)
		ok = ok && i == p.got+1
		p.got++
		p.quota--
		p.changed.Broadcast()
		p.mu.Unlock()
		if err != nil || !ok {
			p.recordFault("received %.20q, %v after %d", m.Data, err, p.got-1)
			return
		}
	}
}

// fail fails the test, and also logs the reason: rapid does not report the reason of
// a failure that it cannot repeat, and no schedule happens twice on real sockets.
func (p *pair) fail(format string, args ...any) {
	p.log.Logf(format, args...)
	p.t.Fatalf(format, args...)
}

func (p *pair) recordFault(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wrong = append(p.wrong, fmt.Sprintf(format, args...))
	p.changed.Broadcast()
}

func (p *pair) send(more int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total += more
	p.changed.Broadcast()
}

// receives sets the number of messages that the application receives before it is
// busy with the next one.
func (p *pair) receives(quota int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.quota = quota
	p.changed.Broadcast()
}

// awaitAll waits until all messages have arrived.
func (p *pair) awaitAll() { p.await(math.MaxInt) }

// await waits until the given number of further messages, or all messages, have
// arrived at the two sides. It does not wait for an application that is busy.
func (p *pair) await(more int) {
	const most = 20 * time.Second
	before := -1
	for deadline := time.Now().Add(most); ; time.Sleep(100 * time.Microsecond) {
		p.mu.Lock()
		total, got, busy, wrong := p.total, p.got, p.quota == 0, p.wrong
		p.mu.Unlock()
		p.node.mu.Lock()
		toClient, toNode := p.node.total, len(p.node.got)
		p.node.mu.Unlock()
		if before < 0 {
			before = got + toNode
		}
		switch {
		case busy && time.Until(deadline) < most-20*time.Millisecond: // gives time to attach again and to fill the buffers
			return
		case got+toNode-before >= more || got == toClient && total == toNode:
			return
		case len(wrong) > 0 || time.Now().After(deadline):
			p.fail("%d of %d at the client, %d of %d at the node; %v; %s, %+v, %q",
				got, toClient, toNode, total, p.session.State(), p.session.Node(), p.session.Stats(), wrong)
		}
	}
}

// stopFaults ends all faults. Messages that are sent afterwards arrive on a working
// connection.
func (p *pair) stopFaults() {
	p.node.mu.Lock()
	p.node.loseWelcomes = 0
	p.node.mu.Unlock()
	p.disturb("reset", 0)
	p.receives(math.MaxInt)
	p.send(1)
	p.node.send(1)
	p.awaitAll()
}

// drain waits until the node has no unconfirmed message.
func (p *pair) drain() {
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		p.node.mu.Lock()
		left := len(p.node.stream.Unacked())
		p.node.mu.Unlock()
		switch {
		case left == 0:
			return
		case time.Now().After(deadline):
			p.fail("the node keeps %d messages, the session is %s", left, p.session.State())
		}
	}
}

// disturb injects a fault into the present connection, if there is one.
func (p *pair) disturb(how string, bytes int) {
	p.mu.Lock()
	l := p.link
	p.mu.Unlock()
	code := 0
	switch how {
	case "reset":
		l.reset()
	case "end":
		p.node.end(0)
	case "half-open":
		l.blackhole.Store(true)
	case "cut after reading":
		l.toRead.CompareAndSwap(0, int64(bytes))
	case "cut after writing":
		l.toWrite.CompareAndSwap(0, int64(bytes))
	case "lost welcome":
		p.node.mu.Lock()
		p.node.loseWelcomes++
		p.node.mu.Unlock()
		l.reset()
	case "goaway", "goaway and reset":
		p.node.control(proto.Control{Type: proto.TypeGoAway, GoAway: proto.GoAway{Reason: proto.GoAwayDrain, ByMS: 5}})
		if how != "goaway" {
			l.reset()
		}
	default:
		if n, _ := fmt.Sscanf(how, "close %d", &code); n == 1 {
			p.node.end(proto.CloseCode(code))
		}
	}
}

// check closes the session, and checks the messages that both applications received.
func (p *pair) check() {
	// Close fails if the node has not confirmed all messages.
	if err := p.session.Close(p.ctx); err != nil {
		p.fail("close: %v", err)
	}
	n := p.node
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, m := range n.got {
		if j, ok := number("c", []byte(m)); !ok || j != i+1 {
			p.fail("the node has %.20q after %d", m, i)
		}
	}
	st := p.session.Stats()
	if p.resets.Load() > 0 || st.Resets+st.Lost > 0 || int(st.Sent) != p.total || int(st.Received) != n.total {
		p.fail("%d and %d messages were sent, and the session counts %+v", p.total, n.total, st)
	}
	if len(n.faults) > 0 {
		p.fail("the client %s", strings.Join(n.faults, "; "))
	}
}

// dial is the Config.Dial of the session.
func (p *pair) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, addr)
	if err != nil || addr != p.node.web.Listener.Addr().String() {
		return c, err
	}
	l := &link{Conn: c.(*net.TCPConn)}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.link = l
	return l, nil
}

// link is a TCP connection with faults.
type link struct {
	net.Conn
	blackhole       atomic.Bool  // drops all data silently
	toRead, toWrite atomic.Int64 // bytes until it breaks; 0 for never
}

// reset breaks the connection at once; data in transit is lost.
func (l *link) reset() {
	_ = l.Conn.(*net.TCPConn).SetLinger(0)
	_ = l.Close()
}

func (l *link) Read(b []byte) (int, error) {
	for {
		n, err := l.Conn.Read(b)
		if err == nil && l.blackhole.Load() {
			continue
		}
		if n = l.allow(&l.toRead, n); n < 0 {
			return 0, syscall.ECONNRESET
		}
		return n, err
	}
}

func (l *link) Write(b []byte) (int, error) {
	if l.blackhole.Load() {
		return len(b), nil
	}
	n := l.allow(&l.toWrite, len(b))
	if n < 0 {
		return 0, syscall.EPIPE
	}
	m, err := l.Conn.Write(b[:n])
	if err == nil && m < len(b) {
		err = syscall.EPIPE
	}
	return m, err
}

// allow returns how many of n bytes may still pass. If the budget is exhausted, it
// breaks the link and returns -1. A budget is set once and then stays at -1, because
// data that passed after the cut would follow a gap.
func (l *link) allow(budget *atomic.Int64, n int) int {
	left := budget.Load()
	switch {
	case left == 0:
		return n
	case left < 0:
		l.reset()
		return -1
	case int64(n) >= left:
		budget.Store(-1)
		return int(left)
	}
	budget.Add(-int64(n))
	return n
}
