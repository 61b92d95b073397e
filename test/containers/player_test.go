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
	latest net.Conn // opened last, to whatever it is
}

const patience = 30 * time.Second

func play(t testing.TB, auth, name string) *player {
	t.Helper()
	p := &player{t: t}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
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

// players logs in so many.
func players(t testing.TB, auth string, n int, prefix string) []*player {
	t.Helper()
	list := make([]*player, n)
	for i := range list {
		list[i] = play(t, auth, prefix+strconv.Itoa(i+1))
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

// cut breaks the connection without a farewell.
func (p *player) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if tcp, ok := p.latest.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = p.latest.Close()
}

// talk sends n messages and, with disturb half way, expects each echo once and
// in order.
func (p *player) talk(n int, disturb func()) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
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

// nodes counts the players on each node.
func nodes(list []*player) map[string]int {
	count := map[string]int{}
	for _, p := range list {
		count[p.session.Node()]++
	}
	return count
}
