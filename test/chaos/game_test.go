package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/usher-broker/usher/broker/session"
	usher "github.com/usher-broker/usher/client-sdk/go"
	"github.com/usher-broker/usher/node"
	"github.com/usher-broker/usher/proto"
)

// game is a running schedule.
type game struct {
	*world
	players  []*player
	replaced []*player // another client of the user logged in, or took the session over
	drains   []*member
	lastID   int // of players and pushes
}

func (g *game) run(schedule []step) {
	defer g.close()
	time.Sleep(2 * time.Second) // the brokers learn of the nodes
	for i := range players {
		g.lastID++
		p, err := g.join(fmt.Sprint("player-", g.lastID), fmt.Sprint("user-", i), i%2, nil, nil)
		if err != nil {
			g.app.fault("login: %v", err)
			return
		}
		g.players = append(g.players, p)
	}
	defer g.leave()
	for _, s := range schedule {
		if traced {
			g.log.Info("STEP " + s.String())
		}
		g.do(s)
		time.Sleep(s.wait)
	}
	g.settle()
}

func (g *game) player(s step) *player { return g.players[s.target%len(g.players)] }

func (g *game) node(s step) *member {
	alive := g.alive()
	return alive[s.target%len(alive)]
}

// findSession returns the player's session on the node that holds it, or nil.
func (g *game) findSession(p *player) (found *node.Session) {
	for _, m := range g.alive() {
		m.node.Sessions(func(s *node.Session) bool {
			if s.ID == p.sid {
				found = s
			}
			return found == nil
		})
	}
	return found
}

func (g *game) do(s step) {
	p := g.player(s)
	switch s.op {
	case "send":
		p.sendMore(s.n)
	case "push":
		g.push(p)
	case "cut":
		g.net.each(p.name, "", (*wire).cut)
	case "block":
		g.net.each(p.name, "", (*wire).block)
	case "network":
		p.session.NetworkChanged()
	case "block and network":
		g.net.each(p.name, "", (*wire).block)
		p.session.NetworkChanged()
	case "drain":
		g.drain(g.node(s), s.n)
	case "undrain":
		m := g.node(s)
		m.node.Undrain()
		g.drains = slices.DeleteFunc(g.drains, func(d *member) bool { return d == m })
	case "restart": // a new node replaces the drained one
		g.restart(g.node(s))
	case "shed":
		g.node(s).node.Command(context.Background(), "broker", proto.Command{Op: proto.OpShed, Target: uint32(s.n % 2)})
	case "hold", "release":
		if held := g.findSession(p); held != nil && s.op == "hold" {
			held.Hold()
		} else if held != nil {
			held.Release()
		}
	case "unreachable": // the client's connections to its node stay blocked
		node := p.session.Node()
		g.net.each(p.name, node+":80", (*wire).block)
	case "login":
		g.login(s)
	case "take over":
		g.takeOver(s)
	case "kill":
		m := g.node(s)
		g.drains = slices.DeleteFunc(g.drains, func(d *member) bool { return d == m })
		g.ensureReady(m)
		g.kill(m)
	}
}

// ensureReady starts a node unless another node than m is ready, so that the sessions
// of m have a node to go to.
func (g *game) ensureReady(m *member) {
	for _, other := range g.alive() {
		if other != m && other.node.State() == proto.StateReady {
			return
		}
	}
	g.startNode()
	time.Sleep(200 * time.Millisecond) // the brokers learn of it
}

// push repeats the push of a message until it is known to be sent or buffered.
func (g *game) push(p *player) {
	g.lastID++
	key := fmt.Sprint(g.lastID)
	text := "p" + key
	p.mu.Lock()
	p.expected[key] = true
	p.mu.Unlock()
	p.wg.Go(func() {
		deadline := time.Now().Add(2 * time.Minute)
		for i := 0; ; i++ {
			ctx, cancel := context.WithTimeout(context.Background(), 800*time.Millisecond)
			got, err := g.auths[i%2].broker.Push(ctx, p.sid, key, proto.Push{Text: &text})
			cancel()
			switch {
			case err == nil && (got.Result == proto.PushSent || got.Result == proto.PushBuffered):
				return
			case err == nil && got.Result == proto.PushEnded, p.endAllowed():
				return
			case time.Now().After(deadline):
				g.app.fault("%s: push %s: %+v, %v", p.name, key, got, err)
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
}

func (p *player) endAllowed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mayEnd
}

const drainTimeout = 20 * time.Second

func (g *game) drain(m *member, n int) {
	g.ensureReady(m)
	if err := m.node.Drain(node.DrainPlan{Window: time.Duration(n) * 200 * time.Millisecond, Timeout: drainTimeout}); err != nil {
		panic(err) // cannot happen: every member of the game runs
	}
	if !slices.Contains(g.drains, m) {
		g.drains = append(g.drains, m)
	}
}

// restart starts another node, drains this one, and stops it when it is drained.
func (g *game) restart(m *member) {
	g.startNode()
	time.Sleep(200 * time.Millisecond) // the brokers learn of it
	g.drain(m, 1)
	g.awaitDrained(m)
}

func (g *game) awaitDrained(m *member) {
	select {
	case <-m.node.Drained():
	case <-time.After(drainTimeout + 5*time.Second):
		g.app.fault("%s: not drained: %+v", m.id, m.node.Draining())
	}
	if d := m.node.Draining(); d != nil && d.Remaining > 0 {
		g.app.fault("%s: drained, but still has %+v", m.id, d)
	}
	m.dead.Store(true)
	m.stop()
	for _, a := range g.auths {
		a.broker.Leave(m.id)
	}
	g.drains = slices.DeleteFunc(g.drains, func(d *member) bool { return d == m })
}

// login logs the user of a player in again, which ends the old session.
func (g *game) login(s step) {
	old := g.player(s)
	g.lastID++
	old.allowEnd()
	p, err := g.join(fmt.Sprint("player-", g.lastID), old.user, s.n%2, nil, nil)
	if err != nil {
		g.app.fault("login: %v", err)
		return
	}
	g.replace(old, p)
	if err := old.awaitEnd(2 * time.Minute); err != nil {
		g.app.fault("after another login: %v", err)
	}
	if _, err := g.store.Get(context.Background(), old.sid); !errors.Is(err, session.ErrEnded) {
		g.app.fault("%s: after another login the record has not ended: %v", old.name, err)
	}
	// The node notifies its client; a client whose connection is blocked asks auth.
	var end *usher.EndedError
	if _, err := old.session.Receive(context.Background()); !errors.As(err, &end) {
		g.app.fault("%s: after another login: %v", old.name, err)
	}
}

// takeOver attaches with the token of a player, as another process would. The session
// then belongs to that process, with a new stream.
func (g *game) takeOver(s step) {
	old := g.player(s)
	g.lastID++
	old.allowEnd()
	at := old.session.Assignment()
	// The later of two clients keeps the session, so the old one must leave first.
	old.leave()
	g.net.each(old.name, "", (*wire).cut)
	p, err := g.join(fmt.Sprint("player-", g.lastID), old.user, s.n%2, &at, old.session.Key())
	if err != nil {
		g.app.fault("take-over: %v", err)
		return
	}
	g.replace(old, p)
	g.app.mu.Lock()
	defer g.app.mu.Unlock()
	for key := range g.app.delivered { // the new stream begins at 1 again
		if strings.HasPrefix(key, p.sid+" ") {
			delete(g.app.delivered, key)
		}
	}
}

func (g *game) replace(old, p *player) {
	g.players[slices.Index(g.players, old)] = p
	g.replaced = append(g.replaced, old)
}

// settle ends all faults and waits until all messages are delivered.
func (g *game) settle() {
	g.startNode()
	for _, p := range g.players {
		if held := g.findSession(p); held != nil {
			held.Release()
		}
	}
	for len(g.drains) > 0 {
		g.awaitDrained(g.drains[0])
	}
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		pending := g.unsettled()
		if pending == "" {
			break
		}
		if time.Now().After(deadline) {
			g.app.fault("not settled: %s", pending)
			return
		}
	}
	if !g.opts.Checkpoint {
		g.app.mu.Lock()
		defer g.app.mu.Unlock()
		for key, n := range g.app.delivered {
			if n != 1 {
				g.app.faults = append(g.app.faults, fmt.Sprintf("message %s was delivered %d times", key, n))
			}
		}
	}
}

// unsettled returns why the cluster is not in its final state, or "".
func (g *game) unsettled() string {
	for _, p := range g.players {
		if why := p.unsettled(); why != "" {
			return why
		}
	}
	var held, attached int
	for _, m := range g.alive() {
		_, live, with := m.node.Load()
		held, attached = held+int(live), attached+int(with)
	}
	if held != len(g.players) || attached != len(g.players) {
		return fmt.Sprintf("the nodes have %d sessions, %d attached, for %d players", held, attached, len(g.players))
	}
	return ""
}

func (g *game) leave() {
	for _, p := range append(g.players, g.replaced...) {
		p.leave()
	}
}
