package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
	"github.com/usher-broker/usher/proto"
)

// tryCmd plays the whole journey of a client, with the public SDK and nothing
// else, and tells it.
type tryCmd struct {
	Auth     string        `help:"Base URL of the login door." default:"http://127.0.0.1:8080" placeholder:"URL"`
	API      string        `name:"api" help:"Base URL of the private API, to tell why a node was chosen. Default: http://127.0.0.1:8081 when the login door is on this machine." placeholder:"URL"`
	Name     string        `help:"Name to log in with as a guest, without --user." default:"ada" placeholder:"NAME"`
	User     string        `help:"User to log in as, with the password from USHER_PASSWORD." placeholder:"NAME"`
	Messages int           `help:"Messages to send before the cut, and again through each of the two cuts." default:"100" placeholder:"N"`
	Timeout  time.Duration `help:"When to give up." default:"60s" placeholder:"TIME"`
}

func (c *tryCmd) Run(ctx context.Context, e *env) error {
	if c.Messages < 1 || c.Messages > 1_000_000 {
		return usageError{"--messages", fmt.Errorf("%d: must be 1 to 1000000", c.Messages)}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("gave up after %v (--timeout)", c.Timeout))
	defer cancel()
	j := &journey{cmd: c, out: e.out, wire: &wire{}, start: time.Now()}
	err := j.play(ctx)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}

func (c *tryCmd) credentials() (usher.Credentials, error) {
	if c.User == "" {
		return usher.Guest(c.Name), nil
	}
	password, ok := os.LookupEnv("USHER_PASSWORD")
	if !ok {
		return nil, usageError{"--user", fmt.Errorf("put the password into USHER_PASSWORD")}
	}
	return usher.Password(c.User, password), nil
}

// journey is one client's way from login to logout.
type journey struct {
	cmd   *tryCmd
	out   io.Writer
	wire  *wire
	start time.Time

	session *usher.Session
	tally   tally
	resets  int
}

func (j *journey) play(ctx context.Context) error {
	credentials, err := j.cmd.credentials()
	if err != nil {
		return err
	}
	before := j.loads(ctx)
	j.session, err = usher.Connect(ctx, usher.Config{
		Auth: j.cmd.Auth, Credentials: credentials, Dial: j.wire.dial, Logger: slog.New(slog.DiscardHandler),
		OnReset: func(r usher.Reset) { j.resets++ },
	})
	if err != nil {
		return fmt.Errorf("%w\nIs the cluster up? «usher dev» starts one here", err)
	}
	defer j.session.Close(ctx)
	at := j.session.Assignment()
	home := at.Node.ID
	j.tell("logged in as %s and attached in %s: session %s", at.User, short(time.Since(j.start)), at.Session)
	j.tell("sent to %s at %s%s", home, at.Node.URL, why(before, home))

	if err := j.exchange(ctx, "straight to the node, no proxy between", nil); err != nil {
		return err
	}
	if err := j.exchange(ctx, "the wire cut in the middle", j.wire.cut); err != nil {
		return err
	}
	if err := j.exchange(ctx, "the network switched, the old socket left half-open", func(addr string) {
		j.wire.mute(addr)
		j.session.NetworkChanged()
	}); err != nil {
		return err
	}
	stats, last := j.session.Stats(), j.session.Node()
	if err := j.leave(ctx); err != nil {
		return err
	}
	return j.verdict(stats, home, last)
}

// exchange sends a round of messages and waits for the echo of each. In the
// middle it does what disturbs, and tells how long the way back took.
func (j *journey) exchange(ctx context.Context, title string, disturb func(addr string)) error {
	began, first := time.Now(), j.tally.sent+1
	j.tally.sent += j.cmd.Messages
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	sent := make(chan struct{})
	var back time.Duration
	go func() {
		defer close(sent)
		for n := first; n <= j.tally.sent; n++ {
			if disturb != nil && n == first+j.cmd.Messages/2 {
				back = j.disturb(ctx, disturb)
			}
			if err := j.session.SendText(ctx, strconv.Itoa(n)); err != nil {
				cancel(fmt.Errorf("sending: %w", err))
				return
			}
		}
	}()
	err := j.receive(ctx)
	cancelled := context.Cause(ctx)
	if err != nil {
		cancel(err)
	}
	<-sent
	if err != nil {
		return cmp.Or(cancelled, err)
	}
	j.tell("%d messages there and back in %s, %s", j.cmd.Messages, short(time.Since(began)), title)
	if disturb != nil {
		j.tell("  the session resumed on %s %s after that", j.session.Node(), short(back))
	}
	return nil
}

// disturb does it to the connection to the node and returns how long it took
// the session to resume. The messages just sent are still under way.
func (j *journey) disturb(ctx context.Context, how func(addr string)) time.Duration {
	resumes, began := j.session.Stats().Resumes, time.Now()
	how(nodeAddr(j.session.Assignment().Node.URL))
	for j.session.Stats().Resumes == resumes && ctx.Err() == nil {
		time.Sleep(200 * time.Microsecond)
	}
	return time.Since(began)
}

// receive receives until the echo of the last message sent has come back.
func (j *journey) receive(ctx context.Context) error {
	for j.tally.last < j.tally.sent {
		m, err := j.session.Receive(ctx)
		if err != nil {
			return fmt.Errorf("%d echoes are missing: %w", j.tally.sent-j.tally.last, err)
		}
		j.tally.take(string(m.Data))
	}
	return nil
}

// nodeAddr is the address that is dialled for a URL.
func nodeAddr(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"ws": "80", "wss": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

func (j *journey) leave(ctx context.Context) error {
	tok, began := j.session.Token(), time.Now()
	if err := j.session.Logout(ctx); err != nil {
		return fmt.Errorf("logout: %w", err)
	}
	again, err := usher.Connect(ctx, usher.Config{Auth: j.cmd.Auth, Assignment: &proto.Assignment{Token: tok}, Key: j.session.Key()})
	if err == nil {
		again.Close(ctx)
		return fmt.Errorf("the token still opens a session after the logout")
	}
	j.tell("logged out in %s; the token opens nothing any more", short(time.Since(began)))
	return nil
}

func (j *journey) verdict(stats usher.Stats, home, last string) error {
	t := j.tally
	same := "same node"
	if last != home {
		same = "NOT the same node: " + last
	}
	fmt.Fprintf(j.out, "\n%d sent, %d received, %d lost, %d doubled, %d out of order; %d resumes, %d resets, %s\n",
		t.sent, t.received, t.sent-t.distinct(), t.doubled, t.disordered, stats.Resumes, j.resets, same)
	if t.sent != t.distinct() || t.doubled+t.disordered+j.resets > 0 || last != home {
		return exitCode(1)
	}
	return nil
}

func (j *journey) tell(format string, args ...any) {
	fmt.Fprintf(j.out, "%6s  %s\n", short(time.Since(j.start)), fmt.Sprintf(format, args...))
}

// tally checks that the echoes of 1, 2, 3 … come back once each, in order.
type tally struct {
	sent       int
	received   int
	last       int // highest number that came back
	doubled    int
	disordered int
}

func (t *tally) take(text string) {
	n, err := strconv.Atoi(text)
	if err != nil {
		t.disordered++ // nothing we sent
		return
	}
	t.received++
	switch {
	case n == t.last+1:
		t.last = n
	case n <= t.last:
		t.doubled++
	default:
		t.disordered++
		t.last = n
	}
}

func (t *tally) distinct() int { return t.received - t.doubled }

func short(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}
