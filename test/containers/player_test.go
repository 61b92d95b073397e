package containers

import (
	"context"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
)

// player is a client on the host, attached to a node in a container.
type player struct {
	t       testing.TB
	session *usher.Session
	sent    int

	mu     sync.Mutex
	latest net.Conn // the connection opened last, to auth or a node
}

// waitLimit is how long the tests wait for one thing to happen.
const waitLimit = 30 * time.Second

// newPlayer logs in and attaches. The test's cleanup closes the session.
func newPlayer(t testing.TB, auth, name string) *player {
	t.Helper()
	p := &player{t: t}
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	s, err := usher.Connect(ctx, usher.Config{Auth: auth, Credentials: usher.Guest(name), Dial: p.dial})
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	p.session = s
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Close(ctx) // the cluster may be gone
	})
	return p
}

// newPlayers returns n players, named prefix1, prefix2 and so on.
func newPlayers(t testing.TB, auth string, n int, prefix string) []*player {
	t.Helper()
	list := make([]*player, n)
	for i := range list {
		list[i] = newPlayer(t, auth, prefix+strconv.Itoa(i+1))
	}
	return list
}

func (p *player) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, addr)
	if err == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.latest = c
	}
	return c, err
}

// cut breaks the connection with a TCP reset.
func (p *player) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if tcp, ok := p.latest.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = p.latest.Close()
}

// talk sends n messages and expects each echo once and in order. It calls disturb, if
// not nil, after half of them.
func (p *player) talk(n int, disturb func()) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	first := p.sent + 1
	for i := range n {
		if i == n/2 && disturb != nil {
			disturb()
		}
		p.sent++
		if err := p.session.SendText(ctx, strconv.Itoa(p.sent)); err != nil {
			p.t.Fatalf("%s: send: %v", p.session.Node(), err)
		}
	}
	for want := first; want <= p.sent; want++ {
		m, err := p.session.Receive(ctx)
		if err != nil {
			p.t.Fatalf("%s: waiting for the echo of %d: %v", p.session.Node(), want, err)
		}
		if string(m.Data) != strconv.Itoa(want) {
			p.t.Fatalf("%s: got the echo of %s, want %d", p.session.Node(), m.Data, want)
		}
	}
}

// nodes returns the number of players on each node.
func nodes(list []*player) map[string]int {
	count := map[string]int{}
	for _, p := range list {
		count[p.session.Node()]++
	}
	return count
}
