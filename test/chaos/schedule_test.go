package chaos

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/usher-broker/usher/broker/session"
	usher "github.com/usher-broker/usher/client-sdk/go"
	"github.com/usher-broker/usher/node"
	"github.com/usher-broker/usher/proto"
)

// traced shows what everybody in the world logs.
var traced = os.Getenv("USHER_CHAOS_TRACE") != ""

func TestMain(m *testing.M) {
	checks := "300"
	if os.Getenv("USHER_SLOW") != "" && !racing {
		checks = "10000"
	}
	_ = flag.Set("rapid.checks", checks) // the command line has the last word
	_ = flag.Set("rapid.nofailfile", "true")
	runtime.GOMAXPROCS(1) // so that a seed replays
	os.Exit(m.Run())
}

// step is one thing that happens.
type step struct {
	op   string
	who  int // player, or node
	n    int
	wait time.Duration // after it
}

func (s step) String() string { return fmt.Sprintf("%s(%d, %d) then %v", s.op, s.who, s.n, s.wait) }

const players = 3

// ops are what can happen, as often as they stand here.
var ops = []string{
	"send", "send", "send", "send", "push", "push",
	"cut", "cut", "mute", "network", "mute and network",
	"drain", "undrain", "restart", "shed", "hold", "release",
	"login", "take over", "unreachable",
}

func drawSchedule(t *rapid.T, more ...string) []step {
	names := append(slices.Clone(ops), more...)
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
		return step{
			op:  rapid.SampledFrom(names).Draw(t, "op"),
			who: rapid.IntRange(0, 5).Draw(t, "who"), n: rapid.IntRange(1, 12).Draw(t, "n"),
			wait: time.Duration(rapid.SampledFrom([]int{0, 1, 20, 150, 700, 3000, 9000}).Draw(t, "wait")) * time.Millisecond,
		}
	}), 1, 24).Draw(t, "schedule")
}

// TestSchedules: whatever the schedule of cuts, half-open wires, drains, moves,
// restarts and logins, each direction of a session delivers each message once
// and in order, one connection has it, and in the end every buffer is empty.
func TestSchedules(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		opts := options{
			Seed:  rapid.Uint64().Draw(rt, "seed"),
			Delay: time.Duration(rapid.SampledFrom([]int{1, 20, 200}).Draw(rt, "delay")) * time.Millisecond,
		}
		run(t, rt, opts, drawSchedule(rt))
	})
}

// TestCheckpointedSchedules: the same, and nodes are killed at any moment.
func TestCheckpointedSchedules(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		opts := options{
			Seed: rapid.Uint64().Draw(rt, "seed"), Checkpoint: true,
			Delay: time.Duration(rapid.SampledFrom([]int{1, 20, 200}).Draw(rt, "delay")) * time.Millisecond,
		}
		run(t, rt, opts, drawSchedule(rt, "kill", "kill"))
	})
}

// run plays the schedule in a world with a clock of its own.
func run(t *testing.T, rt *rapid.T, opts options, schedule []step) {
	var faults []string
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, opts, 3)
		g := &game{world: w}
		g.play(schedule)
		w.app.mu.Lock()
		faults = append(faults, w.app.faults...)
		w.app.mu.Unlock()
	})
	if len(faults) > 0 {
		rt.Fatalf("%s", strings.Join(faults, "\n"))
	}
}

// game is a schedule being played.
type game struct {
	*world
	players []*player
	others  []*player // whose sessions were taken from them
	drains  []*member
	born    int
}

func (g *game) play(schedule []step) {
	defer g.close()
	time.Sleep(2 * time.Second) // the brokers hear of the nodes
	for i := range players {
		g.born++
		p, err := g.join(fmt.Sprint("player-", g.born), fmt.Sprint("user-", i), i%2, nil, nil)
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

func (g *game) player(s step) *player { return g.players[s.who%len(g.players)] }

func (g *game) node(s step) *member {
	alive := g.alive()
	return alive[s.who%len(alive)]
}

// held returns the session of the player where it is held.
func (g *game) held(p *player) (found *node.Session) {
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
		p.say(s.n)
	case "push":
		g.push(p)
	case "cut":
		g.net.each(p.wire, "", (*wire).cut)
	case "mute":
		g.net.each(p.wire, "", (*wire).mute)
	case "network":
		p.session.NetworkChanged()
	case "mute and network":
		g.net.each(p.wire, "", (*wire).mute)
		p.session.NetworkChanged()
	case "drain":
		g.drain(g.node(s), s.n)
	case "undrain":
		m := g.node(s)
		m.node.Undrain()
		g.drains = slices.DeleteFunc(g.drains, func(d *member) bool { return d == m })
	case "restart": // what drained is replaced by a new one
		g.restart(g.node(s))
	case "shed":
		g.node(s).node.Command(context.Background(), "broker", proto.Command{Op: proto.OpShed, Target: uint32(s.n % 2)})
	case "hold", "release":
		if held := g.held(p); held != nil && s.op == "hold" {
			held.Hold()
		} else if held != nil {
			held.Release()
		}
	case "unreachable": // the way from the client to its node is blocked for good
		node := p.session.Node()
		g.net.each(p.wire, node+":80", (*wire).mute)
	case "login":
		g.login(s)
	case "take over":
		g.takeOver(s)
	case "kill":
		m := g.node(s)
		g.drains = slices.DeleteFunc(g.drains, func(d *member) bool { return d == m })
		g.spare(m)
		g.kill(m)
	}
}

// spare sees to it that sessions have somewhere to go without the node.
func (g *game) spare(m *member) {
	for _, other := range g.alive() {
		if other != m && other.node.State() == proto.StateReady {
			return
		}
	}
	g.startNode()
	time.Sleep(200 * time.Millisecond) // the brokers hear of it
}

// push pushes a message until it is known to have been taken.
func (g *game) push(p *player) {
	g.born++
	key := fmt.Sprint(g.born)
	text := "p" + key
	p.mu.Lock()
	p.wanted[key] = true
	p.mu.Unlock()
	p.goes.Go(func() {
		deadline := time.Now().Add(2 * time.Minute)
		for i := 0; ; i++ {
			ctx, cancel := context.WithTimeout(context.Background(), 800*time.Millisecond)
			got, err := g.auths[i%2].broker.Push(ctx, p.sid, key, proto.Push{Text: &text})
			cancel()
			switch {
			case err == nil && (got.Result == proto.PushSent || got.Result == proto.PushBuffered):
				return
			case err == nil && got.Result == proto.PushEnded, p.isOver():
				return
			case time.Now().After(deadline):
				g.app.fault("%s: push %s: %+v, %v", p.wire, key, got, err)
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
}

func (p *player) isOver() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leaves
}

const drainTimeout = 20 * time.Second

func (g *game) drain(m *member, n int) {
	g.spare(m)
	m.node.Drain(node.DrainPlan{Window: time.Duration(n) * 200 * time.Millisecond, Timeout: drainTimeout})
	if !slices.Contains(g.drains, m) {
		g.drains = append(g.drains, m)
	}
}

// restart drains the node, waits, ends it, and starts another.
func (g *game) restart(m *member) {
	g.startNode()
	time.Sleep(200 * time.Millisecond) // the brokers hear of it
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
		g.app.fault("%s: drained, and holds %+v", m.id, d)
	}
	m.dead.Store(true)
	m.stop()
	for _, d := range g.auths {
		d.broker.Leave(m.id)
	}
	g.drains = slices.DeleteFunc(g.drains, func(d *member) bool { return d == m })
}

// login logs the user of a player in once more: the old session ends.
func (g *game) login(s step) {
	old := g.player(s)
	g.born++
	old.mayLeave()
	p, err := g.join(fmt.Sprint("player-", g.born), old.user, s.n%2, nil, nil)
	if err != nil {
		g.app.fault("login: %v", err)
		return
	}
	g.replace(old, p)
	if err := old.gone(2 * time.Minute); err != nil {
		g.app.fault("after another login: %v", err)
	}
	if _, err := g.store.Get(context.Background(), old.sid); !errors.Is(err, session.ErrEnded) {
		g.app.fault("%s: after another login the record is not over: %v", old.wire, err)
	}
	// A client whose way is blocked learns it from auth; the others from their node.
	var end *usher.EndedError
	if _, err := old.session.Receive(context.Background()); !errors.As(err, &end) {
		g.app.fault("%s: after another login: %v", old.wire, err)
	}
}

// takeOver attaches with the token of a player, as another process: the session
// is that one's, with a new stream.
func (g *game) takeOver(s step) {
	old := g.player(s)
	g.born++
	old.mayLeave()
	at := old.session.Assignment()
	// Of two that are there the later one has it; the old one is to be the earlier.
	old.leave()
	g.net.each(old.wire, "", (*wire).cut)
	p, err := g.join(fmt.Sprint("player-", g.born), old.user, s.n%2, &at, old.session.Key())
	if err != nil {
		g.app.fault("take-over: %v", err)
		return
	}
	g.replace(old, p)
	g.app.mu.Lock()
	defer g.app.mu.Unlock()
	for key := range g.app.delivered { // the numbers begin anew
		if strings.HasPrefix(key, p.sid+" ") {
			delete(g.app.delivered, key)
		}
	}
}

func (g *game) replace(old, p *player) {
	g.players[slices.Index(g.players, old)] = p
	g.others = append(g.others, old)
}

// settle ends all faults and waits until nothing is under way any more.
func (g *game) settle() {
	g.startNode()
	for _, p := range g.players {
		if held := g.held(p); held != nil {
			held.Release()
		}
	}
	for len(g.drains) > 0 {
		g.awaitDrained(g.drains[0])
	}
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		missing := g.missing()
		if missing == "" {
			break
		}
		if time.Now().After(deadline) {
			g.app.fault("not settled: %s", missing)
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

// missing says what is not yet as it must be in the end.
func (g *game) missing() string {
	for _, p := range g.players {
		if m := p.settled(); m != "" {
			return m
		}
	}
	var held, attached int
	for _, m := range g.alive() {
		_, live, with := m.node.Load()
		held, attached = held+int(live), attached+int(with)
	}
	if held != len(g.players) || attached != len(g.players) {
		return fmt.Sprintf("%d sessions are held, %d attached, of %d players", held, attached, len(g.players))
	}
	return ""
}

func (g *game) leave() {
	for _, p := range append(g.players, g.others...) {
		p.leave()
	}
}
