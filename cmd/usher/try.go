package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/usher-broker/usher/broker/process"
	usher "github.com/usher-broker/usher/client-sdk/go"
	"github.com/usher-broker/usher/proto"
)

// tryCmd does all that a client does from login to logout, with the public SDK alone,
// and reports each step.
type tryCmd struct {
	Auth     string        `help:"Base URL of the login API." default:"http://127.0.0.1:8080" placeholder:"URL"`
	API      string        `name:"api" help:"Base URL of the private API, to report why a node was chosen. Default: http://127.0.0.1:8081 if the login API is on this machine." placeholder:"URL"`
	Name     string        `help:"Name to log in with as a guest, without --user." default:"ada" placeholder:"NAME"`
	User     string        `help:"User to log in as, with the password from USHER_PASSWORD." placeholder:"NAME"`
	Messages int           `help:"Messages to send in each of the three rounds: without a cut, and with a cut of each kind." default:"100" placeholder:"N"`
	Timeout  time.Duration `help:"Time limit for all steps." default:"60s" placeholder:"TIME"`
}

// Help implements kong.HelpProvider.
func (*tryCmd) Help() string {
	return "Exits with 1 if a step fails, if a message was lost, duplicated or out of order, or if the session was reset or moved."
}

func (c *tryCmd) Run(ctx context.Context, e *process.Env) error {
	if c.Messages < 1 || c.Messages > 1_000_000 {
		return process.FlagError{Flag: "--messages", Err: fmt.Errorf("%d: must be 1 to 1000000", c.Messages)}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("not finished after %v (--timeout)", c.Timeout))
	defer cancel()
	j := &journey{cmd: c, out: e.Out, network: &faultyNetwork{}, start: time.Now()}
	err := j.run(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

func (c *tryCmd) credentials() (usher.Credentials, error) {
	if c.User == "" {
		return usher.Guest(c.Name), nil
	}
	password, ok := os.LookupEnv("USHER_PASSWORD")
	if !ok {
		return nil, process.FlagError{Flag: "--user", Err: errors.New("needs the password in the environment variable USHER_PASSWORD")}
	}
	return usher.Password(c.User, password), nil
}

// journey is one client from login to logout.
type journey struct {
	cmd     *tryCmd
	out     io.Writer
	network *faultyNetwork
	start   time.Time

	session *usher.Session
	tally   tally
	resets  int
}

func (j *journey) run(ctx context.Context) error {
	credentials, err := j.cmd.credentials()
	if err != nil {
		return err
	}
	before := j.loads(ctx)
	j.session, err = usher.Connect(ctx, usher.Config{
		Auth: j.cmd.Auth, Credentials: credentials, Dial: j.network.dial, Logger: slog.New(slog.DiscardHandler),
		OnReset: func(r usher.Reset) { j.resets++ },
	})
	if err != nil {
		return fmt.Errorf("%w\nIs the cluster running? \"usher dev\" starts one on this machine", err)
	}
	defer j.session.Close(ctx)
	at := j.session.Assignment()
	first := at.Node.ID
	j.report("logged in as %s and attached in %s: session %s", at.User, short(time.Since(j.start)), at.Session)
	j.report("assigned to %s at %s%s", first, at.Node.URL, assignmentReason(before, first))

	if err := j.exchange(ctx, "directly to the node, without a proxy", nil); err != nil {
		return err
	}
	if err := j.exchange(ctx, "with the connection cut halfway", j.network.cut); err != nil {
		return err
	}
	if err := j.exchange(ctx, "with a change of the network halfway, which leaves the old connection half-open", func(addr string) {
		j.network.block(addr)
		j.session.NetworkChanged()
	}); err != nil {
		return err
	}
	stats, last := j.session.Stats(), j.session.Node()
	if err := j.leave(ctx); err != nil {
		return err
	}
	return j.result(stats, first, last)
}

// exchange sends a round of messages and waits for the echo of each. Halfway it
// calls disturb, if not nil, and reports how long the session took to resume.
func (j *journey) exchange(ctx context.Context, title string, disturb func(addr string)) error {
	began, first := time.Now(), j.tally.sent+1
	j.tally.sent += j.cmd.Messages
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	sent := make(chan struct{})
	var resumed time.Duration
	go func() {
		defer close(sent)
		for n := first; n <= j.tally.sent; n++ {
			if disturb != nil && n == first+j.cmd.Messages/2 {
				resumed = j.disturb(ctx, disturb)
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
	j.report("%d messages and their echoes in %s, %s", j.cmd.Messages, short(time.Since(began)), title)
	if disturb != nil {
		j.report("  the session resumed on %s after %s", j.session.Node(), short(resumed))
	}
	return nil
}

// disturb calls how with the address of the node, and returns how long the session
// took to resume. The messages sent just before are still in flight.
func (j *journey) disturb(ctx context.Context, how func(addr string)) time.Duration {
	resumes, began := j.session.Stats().Resumes, time.Now()
	how(nodeAddr(j.session.Assignment().Node.URL))
	for j.session.Stats().Resumes == resumes && ctx.Err() == nil {
		time.Sleep(200 * time.Microsecond)
	}
	return time.Since(began)
}

// receive receives until the echo of the last message has arrived.
func (j *journey) receive(ctx context.Context) error {
	for j.tally.last < j.tally.sent {
		m, err := j.session.Receive(ctx)
		if err != nil {
			return fmt.Errorf("%d echoes are missing: %w", j.tally.sent-j.tally.last, err)
		}
		j.tally.count(string(m.Data))
	}
	return nil
}

// nodeAddr returns the address that the SDK dials for a URL.
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
	token, began := j.session.Token(), time.Now()
	if err := j.session.Logout(ctx); err != nil {
		return fmt.Errorf("logout: %w", err)
	}
	again, err := usher.Connect(ctx, usher.Config{Auth: j.cmd.Auth, Assignment: &proto.Assignment{Token: token}, Key: j.session.Key()})
	if err == nil {
		again.Close(ctx)
		return errors.New("the token is still valid after the logout")
	}
	j.report("logged out in %s; the token is no longer valid", short(time.Since(began)))
	return nil
}

// result prints the counts. It returns process.ExitCode(1) if they are not as promised.
func (j *journey) result(stats usher.Stats, first, last string) error {
	t := j.tally
	same := "same node"
	if last != first {
		same = "NOT the same node: " + last
	}
	fmt.Fprintf(j.out, "\n%d sent, %d received, %d lost, %d duplicated, %d out of order; %d resumes, %d resets, %s\n",
		t.sent, t.received, t.sent-t.distinct(), t.duplicated, t.disordered, stats.Resumes, j.resets, same)
	if t.sent != t.distinct() || t.duplicated+t.disordered+j.resets > 0 || last != first {
		return process.ExitCode(1)
	}
	return nil
}

func (j *journey) report(format string, args ...any) {
	fmt.Fprintf(j.out, "%6s  %s\n", short(time.Since(j.start)), fmt.Sprintf(format, args...))
}

// tally checks that the echoes of 1, 2, 3 … arrive once each and in order.
type tally struct {
	sent       int
	received   int
	last       int // highest number that arrived
	duplicated int
	disordered int
}

func (t *tally) count(text string) {
	n, err := strconv.Atoi(text)
	if err != nil {
		t.disordered++ // not one of the messages
		return
	}
	t.received++
	switch {
	case n == t.last+1:
		t.last = n
	case n <= t.last:
		t.duplicated++
	default:
		t.disordered++
		t.last = n
	}
}

func (t *tally) distinct() int { return t.received - t.duplicated }

func short(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}
