package main

import (
	"context"
	"fmt"
	"maps"
	"net"
	"sync"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
)

// settle is the time after a path for what it leaves to do: acknowledgements, reports
// of arrivals, removal of the old session.
const settle = time.Second

// measure takes a client through the paths and returns what each executed.
func measure(ctx context.Context, control time.Duration, noKey bool) ([]report, error) {
	c, err := startCluster(ctx, 4)
	defer c.close()
	if err != nil {
		return nil, err
	}
	p, err := login(ctx, c, "ada", noKey)
	if err != nil {
		return nil, err
	}
	other := "bob"
	paths := []path{
		{"login", func() error {
			_, err := login(ctx, c, other, noKey) // this client stays
			other = "eve"
			return err
		}},
		{"resume", p.resume},
		{"drain move", p.leave},
		{"node death", func() error { return p.survive(ctx) }},
	}
	for _, path := range paths {
		if err := path.run(); err != nil {
			return nil, fmt.Errorf("%s, before the measurement: %w", path.name, err)
		}
	}
	if err := p.undrain(); err != nil {
		return nil, err
	}
	idle, err := c.count(func() error { return sleep(ctx, control) })
	if err != nil {
		return nil, fmt.Errorf("control run: %w", err)
	}
	var reports []report
	for _, path := range paths {
		ran, err := c.count(func() error {
			if err := path.run(); err != nil {
				return err
			}
			return sleep(ctx, settle)
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path.name, err)
		}
		reports = append(reports, newReport(path.name, ran, idle))
		if err := p.undrain(); err != nil {
			return nil, err
		}
	}
	return reports, nil
}

type path struct {
	name string
	run  func() error
}

// player is an attached client.
type player struct {
	*usher.Session
	cluster *cluster
	drained string // the node that is drained now, or ""

	mu    sync.Mutex
	conns []net.Conn // all that were opened
}

// login logs in and returns when the first message has been echoed.
func login(ctx context.Context, c *cluster, name string, noKey bool) (p *player, err error) {
	p = &player{cluster: c}
	p.Session, err = usher.Connect(ctx, usher.Config{Auth: c.authURL, Credentials: usher.Guest(name), NoKey: noKey, Dial: p.dial})
	if err != nil {
		return nil, err
	}
	return p, p.echo(ctx)
}

func (p *player) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.conns = append(p.conns, conn)
	}
	return conn, err
}

// echo sends a message and waits until it comes back.
func (p *player) echo(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := p.SendText(ctx, "hello"); err != nil {
		return err
	}
	_, err := p.Receive(ctx)
	return err
}

// cut breaks all connections.
func (p *player) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.conns {
		conn.Close()
	}
	p.conns = nil
}

// resume cuts the connection and returns when the stream continues.
func (p *player) resume() error {
	before := p.Stats().Resumes
	p.cut()
	return await("the stream to resume", func() (bool, error) {
		return p.Stats().Resumes > before && p.State() == usher.Attached, nil
	})
}

// leave drains the node and returns when the client is attached to another one.
func (p *player) leave() error {
	if err := p.undrain(); err != nil {
		return err
	}
	from := p.Node()
	if _, err := p.cluster.auth.call("drain " + from); err != nil {
		return err
	}
	p.drained = from
	return p.arrive(from)
}

// undrain makes the drained node take sessions again.
func (p *player) undrain() error {
	if p.drained == "" {
		return nil
	}
	_, err := p.cluster.auth.call("undrain " + p.drained)
	if err != nil {
		return err
	}
	p.drained = ""
	return p.cluster.awaitNodes(len(p.cluster.nodes))
}

// survive kills the node and returns when the client is attached to another one.
func (p *player) survive(ctx context.Context) error {
	from := p.Node()
	if p.drained == from {
		return fmt.Errorf("the session is at the drained node %s", from)
	}
	p.cluster.kill(from)
	if err := p.arrive(from); err != nil {
		return err
	}
	return p.echo(ctx)
}

func (p *player) arrive(from string) error {
	return await("the session to leave "+from, func() (bool, error) {
		return p.Node() != from && p.State() == usher.Attached, nil
	})
}

// sleep waits for d.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// count returns what the members execute while f runs, by role. A member that f kills
// does not count.
func (c *cluster) count(f func() error) (map[string]profile, error) {
	for _, m := range c.members() {
		if _, err := m.call("clear"); err != nil {
			return nil, err
		}
	}
	if err := f(); err != nil {
		return nil, err
	}
	ran := map[string]profile{"auth": {}, "node": {}}
	for _, m := range c.members() {
		p, err := c.read(m)
		if err != nil {
			return nil, err
		}
		maps.Copy(ran[m.role()], p)
	}
	return ran, nil
}
