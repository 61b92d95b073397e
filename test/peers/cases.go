package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/usher-broker/usher/cmd/usher-bench/load"
)

// values holds the metrics of one subject in one run of a case, by metric.
type values map[string]float64

// benchCase is one case. Its subjects run alternately.
type benchCase struct {
	name     string
	title    string
	how      string // what the case does
	subjects []subject
	run      func(ctx context.Context, s *server, sub subject) (values, error)
	goals    []goal
}

// goal limits the ratio of a metric of one subject to that of another.
type goal struct {
	metric, of, to string
	most           float64 // the ratio's maximum; 0 for none
	least          float64 // the ratio's minimum; 0 for none
}

// cases returns all cases.
func cases() []benchCase {
	withPlain := func(kinds ...string) []subject {
		list := []subject{node}
		for _, k := range kinds {
			list = append(list, plain(k))
		}
		return list
	}
	return []benchCase{
		{
			name: "memory", title: "Memory of an idle session", how: fmt.Sprintf("%d clients attach, get one message of 128 bytes echoed, and idle for 6 s. Then the server returns unused memory to the system. Resident bytes of the process, per client.", idleClients),
			subjects: append(withPlain("gorilla", "gws", "coder"), colyseus),
			run:      runMemory,
			goals: []goal{
				{metric: "bytes", of: "usher", to: "gorilla", most: 0.55},
				{metric: "bytes", of: "usher", to: "gws", most: 0.80},
				{metric: "bytes", of: "usher", to: "Colyseus", most: 1},
			},
		},
		{
			name: "handshake", title: "Handshake with a token", how: fmt.Sprintf("%d clients attach, 8 at a time, each with its own token, which the server verifies (Ed25519). Then every connection is cut, and every client attaches again with the same token. Processor time of the server.", handshakeClients),
			subjects: withPlain("coder", "gorilla"),
			run:      runHandshake,
			goals: []goal{
				{metric: "attach_us", of: "usher", to: "coder", most: 1},
				{metric: "resume_us", of: "usher", to: "coder:attach_us", most: 1 / 1.6},
			},
		},
		{
			name: "echo", title: "A message there and back", how: fmt.Sprintf("%d clients each send the next message of 128 bytes when the last one is echoed, for %v. Before that (\"paced\") they send %d messages per second in total, on a schedule that does not wait for echoes. Usher counts and acknowledges its messages in both directions. Processor time of the server.", echoClients, echoTime, echoRate),
			subjects: withPlain("coder", "gws", "gorilla"),
			run:      runEcho,
			goals:    []goal{{metric: "cpu_us", of: "usher", to: "coder", most: 1.1}},
		},
		{
			name: "journey", title: "From login to the first message", how: fmt.Sprintf("%d clients at a time each get an address, attach, send a message, receive its echo, disconnect, and start again, for %v. Each subject is one server process; Usher's process is a cluster with one node.", journeyClients, journeyTime),
			subjects: []subject{cluster, colyseus, plainGo},
			run:      runJourney,
			goals: []goal{
				{metric: "per_second", of: "usher", to: "Colyseus", least: 2.5},
				{metric: "cpu_us", of: "usher", to: "Colyseus", most: 0.45},
			},
		},
		{
			name: "resume", title: "Back after a cut", how: fmt.Sprintf("The connection of one client is cut and the client resumes its session, %d times, without other load. Time from dialing until the server confirms the resume.", resumes),
			subjects: []subject{cluster, colyseus, socketio},
			run:      runResume,
			goals: []goal{
				{metric: "p50_ms", of: "usher", to: "Colyseus", most: 0.9},
				{metric: "p50_ms", of: "usher", to: "Socket.IO", most: 1},
			},
		},
		{
			name: "proxy", title: "Straight, or through a proxy", how: fmt.Sprintf("The same node, reached directly (\"straight\") and through HAProxy and nginx with one thread. %d clients each send the next message when the last one is echoed, for %v. Then clients attach, 16 at a time. Processor time of node and proxy.", proxyClients, proxyTime),
			subjects: proxies(),
			run:      runProxy,
		},
		{
			name: "login", title: "Login", how: fmt.Sprintf("%d clients log in as guests, each one login after the other, for %v. For comparison: \"reference\" does the minimum of a login (JSON, a token signed with Ed25519, and one Redis script over a pipelining client), and \"bare\" does only the JSON.", loginWorkers, loginTime),
			subjects: []subject{usherLogin, plainLogin("reference"), plainLogin("bare")},
			run:      runLogin,
			goals:    []goal{{metric: "per_second", of: "usher", to: "reference", least: 0.85}},
		},
		{
			name: "password", title: "Login with a password", how: fmt.Sprintf("%d clients log in with a password (argon2id with 19 MiB, 2 passes), for %v. For comparison: \"hash\" is a server that only checks the hash and signs a token. In addition, 50 attached sessions send 200 messages per second in total, before the logins and during them.", hashWorkers, hashTime),
			subjects: []subject{usherPasswordLogin, plainLogin("hash")},
			run:      runPassword,
			goals:    []goal{{metric: "per_second", of: "usher", to: "hash", least: 0.9}},
		},
	}
}

const (
	idleClients      = 8000
	warmUp           = 200
	handshakeClients = 5000
	echoClients      = 1000
	echoRate         = 8000 // messages per second
	echoTime         = 5 * time.Second
	journeyClients   = 64
	journeyTime      = 4 * time.Second
	resumes          = 300
	proxyClients     = 100
	proxyTime        = 4 * time.Second
	loginWorkers     = 64
	loginTime        = 4 * time.Second
	hashWorkers      = 4
	hashTime         = 6 * time.Second
	messageSize      = 128 // bytes
)

// joinPlayers joins n players, width at a time. onMessage(i) handles the messages of
// player i.
func joinPlayers(ctx context.Context, s *server, sub subject, n, width int, onMessage func(i int) func([]byte)) ([]player, error) {
	list := make([]player, n)
	return list, inParallel(n, width, func(i int) (err error) {
		list[i], err = sub.join(ctx, s, onMessage(i))
		return err
	})
}

// inParallel calls f for 0 to n-1, width calls at a time, and returns the first error.
func inParallel(n, width int, f func(i int) error) error {
	var next atomic.Int64
	var g errgroup.Group
	for range width {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return nil
				}
				if err := f(i); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// discard ignores the messages of all players.
func discard(int) func([]byte) { return func([]byte) {} }

// message returns a message of messageSize bytes, stamped with the time at.
func message(at time.Time) []byte {
	b := make([]byte, messageSize)
	load.Stamp(b, at)
	return b
}

func runMemory(ctx context.Context, s *server, sub subject) (values, error) {
	idle := func(n int) (int, error) {
		var echoed atomic.Int64
		list, err := joinPlayers(ctx, s, sub, n, 16, func(int) func([]byte) { return func([]byte) { echoed.Add(1) } })
		if err != nil {
			return 0, err
		}
		for _, p := range list {
			if err := p.send(message(time.Now())); err != nil {
				return 0, err
			}
		}
		if err := until(10*time.Second, func() bool { return echoed.Load() == int64(n) }); err != nil {
			return 0, fmt.Errorf("%d of %d messages were echoed: %w", echoed.Load(), n, err)
		}
		time.Sleep(6 * time.Second)
		if s.login != nil {
			s.login.Close()
		}
		if err := s.freeMemory(ctx); err != nil {
			return 0, err
		}
		return s.procs[0].resident()
	}
	before, err := idle(warmUp)
	if err != nil {
		return nil, err
	}
	after, err := idle(idleClients)
	return values{"bytes": float64(after-before) / idleClients}, err
}

// until polls until ok returns true, for at most d.
func until(d time.Duration, ok func() bool) error {
	for deadline := time.Now().Add(d); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("timeout after %v", d)
		}
	}
	return nil
}

func runHandshake(ctx context.Context, s *server, sub subject) (values, error) {
	if _, err := joinPlayers(ctx, s, sub, warmUp, 8, discard); err != nil {
		return nil, err
	}
	waitProfile := s.profile("attach", 2*time.Second)
	began := s.cpu()
	list, err := joinPlayers(ctx, s, sub, handshakeClients, 8, discard)
	if err != nil {
		return nil, err
	}
	attached := s.cpu()
	waitProfile()
	for _, p := range list {
		p.cut()
	}
	time.Sleep(time.Second)
	waitProfile = s.profile("resume", 2*time.Second)
	cut := s.cpu()
	if err := inParallel(len(list), 8, func(i int) error { return list[i].resume(ctx) }); err != nil {
		return nil, err
	}
	resumed := s.cpu()
	waitProfile()
	us := func(d time.Duration) float64 { return float64(d.Microseconds()) / handshakeClients }
	return values{"attach_us": us(attached - began), "resume_us": us(resumed - cut)}, nil
}

// runEcho measures twice: at a fixed rate, which leaves the server idle in between, and
// as fast as the server echoes.
func runEcho(ctx context.Context, s *server, sub subject) (values, error) {
	e, err := joinEchoes(ctx, s, sub, echoClients, 16)
	if err != nil {
		return nil, err
	}
	list := e.players
	time.Sleep(500 * time.Millisecond)
	began, sent := s.cpu(), int64(0)
	load.Plan{N: echoRate * int(echoTime/time.Second), Rate: echoRate}.Run(ctx, func(i int, planned time.Time) {
		if list[i%len(list)].send(message(planned)) == nil {
			sent++
		}
	})
	if err := until(10*time.Second, func() bool { return e.echoed.Load() >= sent }); err != nil {
		return nil, fmt.Errorf("%d of %d messages were echoed: %w", e.echoed.Load(), sent, err)
	}
	time.Sleep(300 * time.Millisecond) // the last acknowledgements
	sum := e.tally.Load().Summary(0)
	v := values{"paced_cpu_us": float64((s.cpu() - began).Microseconds()) / float64(sent), "paced_p50_ms": sum.P50MS, "paced_p99_ms": sum.P99MS}

	sum, used, err := e.loop(s, echoTime)
	v["cpu_us"], v["p50_ms"], v["p99_ms"], v["per_second"] = float64(used.Microseconds())/float64(sum.Done), sum.P50MS, sum.P99MS, sum.PerSecond
	return v, err
}

// echoes holds players whose messages are echoed.
type echoes struct {
	players []player
	tally   atomic.Pointer[load.Tally]
	echoed  atomic.Int64 // messages
	looping atomic.Bool  // a player that receives an echo sends the next message
}

// joinEchoes joins n players, width at a time. They do not send until loop is called.
func joinEchoes(ctx context.Context, s *server, sub subject, n, width int) (e *echoes, err error) {
	e = &echoes{}
	e.tally.Store(load.NewTally())
	e.players, err = joinPlayers(ctx, s, sub, n, width, e.onMessage)
	return e, err
}

func (e *echoes) onMessage(i int) func([]byte) {
	return func(b []byte) {
		e.tally.Load().Lasted(load.Age(b))
		e.echoed.Add(1)
		if e.looping.Load() {
			_ = e.players[i].send(message(time.Now()))
		}
	}
}

// loop makes every player send the next message when the last one is echoed, for d. It
// returns the round-trip times and the processor time of the server.
func (e *echoes) loop(s *server, d time.Duration) (load.Summary, time.Duration, error) {
	e.looping.Store(true)
	for _, p := range e.players {
		if err := p.send(message(time.Now())); err != nil {
			return load.Summary{}, 0, err
		}
	}
	time.Sleep(500 * time.Millisecond)
	e.tally.Store(load.NewTally())
	waitProfile := s.profile("echo", d)
	began, start := s.cpu(), time.Now()
	time.Sleep(d)
	waitProfile()
	used, took := s.cpu()-began, time.Since(start)
	sum := e.tally.Load().Summary(took)
	e.looping.Store(false)
	time.Sleep(300 * time.Millisecond)
	return sum, used, nil
}

func runJourney(ctx context.Context, s *server, sub subject) (values, error) {
	t := load.NewTally()
	one := func() error {
		start := time.Now()
		echoed := make(chan struct{}, 1)
		p, err := sub.join(ctx, s, func([]byte) {
			select {
			case echoed <- struct{}{}:
			default:
			}
		})
		if err != nil {
			return err
		}
		if err := p.send(message(start)); err != nil {
			return err
		}
		select {
		case <-echoed:
		case <-time.After(10 * time.Second):
			return fmt.Errorf("no echo of the first message within 10 s")
		}
		t.Took(start)
		p.close()
		return nil
	}
	if _, err := closedLoop(journeyClients, time.Second, one); err != nil { // warm up
		return nil, err
	}
	waitProfile := s.profile("journey", journeyTime)
	began, start := s.cpu(), time.Now()
	n, err := closedLoop(journeyClients, journeyTime, one)
	waitProfile()
	if err != nil {
		return nil, err
	}
	took := time.Since(start)
	return values{
		"per_second": float64(n) / took.Seconds(), "cpu_us": float64((s.cpu() - began).Microseconds()) / float64(n), "p50_ms": t.Summary(0).P50MS,
	}, nil
}

// closedLoop calls f repeatedly in width goroutines, for d. It returns the number of
// calls that succeeded, and the first error.
func closedLoop(width int, d time.Duration, f func() error) (int64, error) {
	var n atomic.Int64
	var g errgroup.Group
	end := time.Now().Add(d)
	for range width {
		g.Go(func() error {
			for time.Now().Before(end) {
				if err := f(); err != nil {
					return err
				}
				n.Add(1)
			}
			return nil
		})
	}
	err := g.Wait()
	return n.Load(), err
}

func runResume(ctx context.Context, s *server, sub subject) (values, error) {
	echoed := make(chan struct{}, 1)
	p, err := sub.join(ctx, s, func([]byte) { echoed <- struct{}{} })
	if err != nil {
		return nil, err
	}
	t := load.NewTally()
	for i := range resumes + 20 {
		if err := p.send(message(time.Now())); err != nil { // so that the session has a message to continue after
			return nil, err
		}
		<-echoed
		p.cut()
		time.Sleep(5 * time.Millisecond) // so that the server sees the cut
		start := time.Now()
		if err := p.resume(ctx); err != nil {
			return nil, err
		}
		if i >= 20 {
			t.Took(start)
		}
	}
	p.close()
	sum := t.Summary(0)
	return values{"p50_ms": sum.P50MS, "p99_ms": sum.P99MS}, nil
}
