package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/usher-broker/usher/cmd/usher/load"
)

// values is what one run of a case has measured of one subject.
type values map[string]float64

// bench is one case: its subjects take turns.
type benchCase struct {
	name     string
	title    string
	how      string // what is done
	subjects []subject
	run      func(ctx context.Context, s *server, sub subject) (values, error)
	bars     []bar // what is to hold
}

// bar is a goal: a metric of a subject in relation to that of another.
type bar struct {
	metric, of, to string
	most           float64 // of the ratio; 0 for none
	least          float64 // likewise
}

// cases is all of them.
func cases() []benchCase {
	beside := func(kinds ...string) []subject {
		list := []subject{node}
		for _, k := range kinds {
			list = append(list, plain(k))
		}
		return list
	}
	return []benchCase{
		{
			name: "memory", title: "Memory of an idle session", how: fmt.Sprintf("%d clients attach, have one message of 128 bytes echoed, and idle for 6 s; garbage is given back; resident bytes of the process, per client.", idlers),
			subjects: append(beside("gorilla", "gws", "coder"), colyseus),
			run:      runMemory,
			bars: []bar{
				{metric: "bytes", of: "usher", to: "gorilla", most: 0.55},
				{metric: "bytes", of: "usher", to: "gws", most: 0.80},
				{metric: "bytes", of: "usher", to: "Colyseus", most: 1},
			},
		},
		{
			name: "handshake", title: "Handshake with a token", how: fmt.Sprintf("%d clients attach, 8 at a time, each with a token of its own that is verified (Ed25519); then each is cut and comes back with the same. Processor time of the server.", shakers),
			subjects: beside("coder", "gorilla"),
			run:      runHandshake,
			bars: []bar{
				{metric: "attach_us", of: "usher", to: "coder", most: 1},
				{metric: "resume_us", of: "usher", to: "coder:attach_us", most: 1 / 1.6},
			},
		},
		{
			name: "echo", title: "A message there and back", how: fmt.Sprintf("%d clients each send the next message of 128 bytes when the last has come back, for %v; before that («paced») %d per second in all, on a schedule that does not wait. Usher's messages are counted and acknowledged both ways. Processor time of the server.", talkers, talkTime, talkRate),
			subjects: beside("coder", "gws", "gorilla"),
			run:      runEcho,
			bars:     []bar{{metric: "cpu_us", of: "usher", to: "coder", most: 1.1}},
		},
		{
			name: "journey", title: "From login to the first message", how: fmt.Sprintf("%d clients at a time ask where to go, attach, send a message and hear it back, leave, and begin anew, for %v. One server process each; Usher's is the whole cluster with one node.", travellers, journeyTime),
			subjects: []subject{whole, colyseus, reference},
			run:      runJourney,
			bars: []bar{
				{metric: "per_second", of: "usher", to: "Colyseus", least: 2.5},
				{metric: "cpu_us", of: "usher", to: "Colyseus", most: 0.45},
			},
		},
		{
			name: "resume", title: "Back after a cut", how: fmt.Sprintf("One client is cut and comes back, %d times, while nothing else happens: from dialing until it is told that its session goes on.", resumes),
			subjects: []subject{whole, colyseus, socketio},
			run:      runResume,
			bars: []bar{
				{metric: "p50_ms", of: "usher", to: "Colyseus", most: 0.9},
				{metric: "p50_ms", of: "usher", to: "Socket.IO", most: 1},
			},
		},
		{
			name: "proxy", title: "Straight, or through a proxy", how: fmt.Sprintf("The same node, attached to straight and through HAProxy and nginx of one thread: %d clients each send the next message when the last has come back, for %v; then clients attach, 16 at a time. Processor time of node and proxy.", loopers, loopTime),
			subjects: proxies(),
			run:      runProxy,
		},
		{
			name: "login", title: "Login", how: fmt.Sprintf("%d clients log in as guests, one login after the other, for %v. Beside it what a login does at least: JSON, a token signed with Ed25519, and one script in Redis over a client that pipelines; and JSON alone.", loginWorkers, loginTime),
			subjects: []subject{door, doorOf("reference"), doorOf("bare")},
			run:      runLogin,
			bars:     []bar{{metric: "per_second", of: "usher", to: "reference", least: 0.85}},
		},
		{
			name: "password", title: "Login with a password", how: fmt.Sprintf("%d clients log in with a password (argon2id of 19 MiB, 2 passes), for %v, beside a server that checks the hash and nothing else; 50 attached sessions then send 200 messages per second in all, before it and meanwhile.", hashWorkers, hashTime),
			subjects: []subject{passwordDoor, doorOf("hash")},
			run:      runPassword,
			bars:     []bar{{metric: "per_second", of: "usher", to: "hash", least: 0.9}},
		},
	}
}

const (
	idlers       = 8000
	warmUp       = 200
	shakers      = 5000
	talkers      = 1000
	talkRate     = 8000
	talkTime     = 5 * time.Second
	travellers   = 64
	journeyTime  = 4 * time.Second
	resumes      = 300
	loopers      = 100
	loopTime     = 4 * time.Second
	loginWorkers = 64
	loginTime    = 4 * time.Second
	hashWorkers  = 4
	hashTime     = 6 * time.Second
	messageSize  = 128
)

// crowd joins n players, a few at a time.
func crowd(ctx context.Context, s *server, sub subject, n, width int, heard func(i int) func([]byte)) ([]player, error) {
	list := make([]player, n)
	return list, abreast(n, width, func(i int) (err error) {
		list[i], err = sub.join(ctx, s, heard(i))
		return err
	})
}

// abreast does n things, a few at a time, and returns the first error.
func abreast(n, width int, f func(i int) error) error {
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

func deaf(int) func([]byte) { return func([]byte) {} }

// message is one of the size, planned for now.
func message(at time.Time) []byte {
	b := make([]byte, messageSize)
	load.Stamp(b, at)
	return b
}

func runMemory(ctx context.Context, s *server, sub subject) (values, error) {
	idle := func(n int) (int, error) {
		var back atomic.Int64
		list, err := crowd(ctx, s, sub, n, 16, func(int) func([]byte) { return func([]byte) { back.Add(1) } })
		if err != nil {
			return 0, err
		}
		for _, p := range list {
			if err := p.send(message(time.Now())); err != nil {
				return 0, err
			}
		}
		if err := until(10*time.Second, func() bool { return back.Load() == int64(n) }); err != nil {
			return 0, fmt.Errorf("%d of %d came back: %w", back.Load(), n, err)
		}
		time.Sleep(6 * time.Second)
		if s.login != nil {
			s.login.Close()
		}
		if err := s.giveBack(ctx); err != nil {
			return 0, err
		}
		return s.procs[0].resident()
	}
	before, err := idle(warmUp)
	if err != nil {
		return nil, err
	}
	after, err := idle(idlers)
	return values{"bytes": float64(after-before) / idlers}, err
}

func until(d time.Duration, ok func() bool) error {
	for deadline := time.Now().Add(d); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %v", d)
		}
	}
	return nil
}

func runHandshake(ctx context.Context, s *server, sub subject) (values, error) {
	if _, err := crowd(ctx, s, sub, warmUp, 8, deaf); err != nil {
		return nil, err
	}
	profiled := s.profile("attach", 2*time.Second)
	began := s.cpu()
	list, err := crowd(ctx, s, sub, shakers, 8, deaf)
	if err != nil {
		return nil, err
	}
	attached := s.cpu()
	profiled()
	for _, p := range list {
		p.cut()
	}
	time.Sleep(time.Second)
	profiled = s.profile("resume", 2*time.Second)
	cut := s.cpu()
	if err := abreast(len(list), 8, func(i int) error { return list[i].resume(ctx) }); err != nil {
		return nil, err
	}
	back := s.cpu()
	profiled()
	us := func(d time.Duration) float64 { return float64(d.Microseconds()) / shakers }
	return values{"attach_us": us(attached - began), "resume_us": us(back - cut)}, nil
}

// runEcho measures twice: at a rate that leaves the server idle in between, and as
// fast as it goes.
func runEcho(ctx context.Context, s *server, sub subject) (values, error) {
	e, err := joinEchoes(ctx, s, sub, talkers, 16)
	if err != nil {
		return nil, err
	}
	list := e.players
	time.Sleep(500 * time.Millisecond)
	began, sent := s.cpu(), int64(0)
	load.Plan{N: talkRate * int(talkTime/time.Second), Rate: talkRate}.Run(ctx, func(i int, planned time.Time) {
		if list[i%len(list)].send(message(planned)) == nil {
			sent++
		}
	})
	if err := until(10*time.Second, func() bool { return e.back.Load() >= sent }); err != nil {
		return nil, fmt.Errorf("%d of %d came back: %w", e.back.Load(), sent, err)
	}
	time.Sleep(300 * time.Millisecond) // the last acknowledgements
	sum := e.tally.Load().Summary(0)
	v := values{"paced_cpu_us": float64((s.cpu() - began).Microseconds()) / float64(sent), "paced_p50_ms": sum.P50MS, "paced_p99_ms": sum.P99MS}

	sum, used, err := e.loop(s, talkTime)
	v["cpu_us"], v["p50_ms"], v["p99_ms"], v["per_second"] = float64(used.Microseconds())/float64(sum.Done), sum.P50MS, sum.P99MS, sum.PerSecond
	return v, err
}

// echoes is players whose messages come back.
type echoes struct {
	players []player
	tally   atomic.Pointer[load.Tally]
	back    atomic.Int64
	again   atomic.Bool // whoever has heard sends again
}

// joinEchoes joins n players, a few at a time. None sends by itself yet.
func joinEchoes(ctx context.Context, s *server, sub subject, n, width int) (e *echoes, err error) {
	e = &echoes{}
	e.tally.Store(load.NewTally())
	e.players, err = crowd(ctx, s, sub, n, width, e.heard)
	return e, err
}

func (e *echoes) heard(i int) func([]byte) {
	return func(b []byte) {
		e.tally.Load().Lasted(load.Age(b))
		e.back.Add(1)
		if e.again.Load() {
			_ = e.players[i].send(message(time.Now()))
		}
	}
}

// loop has all players send the next message when the last has come back.
func (e *echoes) loop(s *server, d time.Duration) (load.Summary, time.Duration, error) {
	e.again.Store(true)
	for _, p := range e.players {
		if err := p.send(message(time.Now())); err != nil {
			return load.Summary{}, 0, err
		}
	}
	time.Sleep(500 * time.Millisecond)
	e.tally.Store(load.NewTally())
	profiled := s.profile("echo", d)
	began, start := s.cpu(), time.Now()
	time.Sleep(d)
	profiled()
	used, took := s.cpu()-began, time.Since(start)
	sum := e.tally.Load().Summary(took)
	e.again.Store(false)
	time.Sleep(300 * time.Millisecond)
	return sum, used, nil
}

func runJourney(ctx context.Context, s *server, sub subject) (values, error) {
	t := load.NewTally()
	one := func() error {
		begun := time.Now()
		heard := make(chan struct{}, 1)
		p, err := sub.join(ctx, s, func([]byte) {
			select {
			case heard <- struct{}{}:
			default:
			}
		})
		if err != nil {
			return err
		}
		if err := p.send(message(begun)); err != nil {
			return err
		}
		select {
		case <-heard:
		case <-time.After(10 * time.Second):
			return fmt.Errorf("no answer to the first message")
		}
		t.Took(begun)
		p.close()
		return nil
	}
	if _, err := closedLoop(travellers, time.Second, one); err != nil { // warm
		return nil, err
	}
	profiled := s.profile("journey", journeyTime)
	began, start := s.cpu(), time.Now()
	n, err := closedLoop(travellers, journeyTime, one)
	profiled()
	if err != nil {
		return nil, err
	}
	took := time.Since(start)
	return values{
		"per_second": float64(n) / took.Seconds(), "cpu_us": float64((s.cpu() - began).Microseconds()) / float64(n), "p50_ms": t.Summary(0).P50MS,
	}, nil
}

// closedLoop does something over and over in so many goroutines, and returns how
// often.
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
	heard := make(chan struct{}, 1)
	p, err := sub.join(ctx, s, func([]byte) { heard <- struct{}{} })
	if err != nil {
		return nil, err
	}
	t := load.NewTally()
	for i := range resumes + 20 {
		if err := p.send(message(time.Now())); err != nil { // there is something to continue
			return nil, err
		}
		<-heard
		p.cut()
		time.Sleep(5 * time.Millisecond) // the server has seen it
		begun := time.Now()
		if err := p.resume(ctx); err != nil {
			return nil, err
		}
		if i >= 20 {
			t.Took(begun)
		}
	}
	p.close()
	sum := t.Summary(0)
	return values{"p50_ms": sum.P50MS, "p99_ms": sum.P99MS}, nil
}
