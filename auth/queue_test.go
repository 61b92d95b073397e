package auth

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/proto"
)

type bothTickets struct {
	*token.KeySet
	*token.Verifier
}

// newQueueFixture returns a fixture with a queue, whose broker makes a login wait the given
// number of times.
func newQueueFixture(t *testing.T, ahead int) *fixture {
	d := newFixture(t, nil)
	d.cfg.Tickets = bothTickets{d.broker.keys, &token.Verifier{Keys: d.broker.keys}}
	d.broker.ahead = ahead
	return d
}

func (a answer) queued(t *testing.T) proto.Queued {
	t.Helper()
	var q proto.Queued
	if err := json.Unmarshal([]byte(a.body), &q); err != nil || a.status != http.StatusAccepted {
		t.Fatalf("%d with body %q: %v", a.status, a.body, err)
	}
	if a.header.Get("Retry-After") == "" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v", a.header)
	}
	return q
}

const guestAda = `{"method":"guest","credentials":{"name":"ada"},"placement":{"region":"eu","fallback":["us"],"strict":true}}`

func (d *fixture) ask(ticket string) answer {
	d.t.Helper()
	return d.do("POST", "/v1/queue", `{}`, "Authorization", "Bearer "+ticket)
}

func TestQueue(t *testing.T) {
	d := newQueueFixture(t, 3)
	d.broker.estimate = 24 * time.Second
	q := d.login(guestAda).queued(t)
	if q.Position != 3 || q.Waiting != 7 || q.EstimateMS != 24_000 || q.PollAfterMS != 20 {
		t.Errorf("%+v", q)
	}
	d.broker.estimate = 0
	second := d.ask(q.Ticket).queued(t)
	if second.Position != 2 || second.EstimateMS != 0 {
		t.Errorf("%+v", second)
	}
	third := d.ask(second.Ticket).queued(t)
	a := d.ask(third.Ticket).assignment(t)
	if a.User != "guest:ada" {
		t.Errorf("%+v", a)
	}
	if p := d.broker.entries; strings.Join(p, ",") != ",entry-1,entry-1,entry-1" {
		t.Errorf("entries passed: %q", p)
	}
	got := d.broker.assigned[0].Placement
	if got.Region != "eu" || len(got.Fallback) != 1 || got.Fallback[0] != "us" || !got.Strict {
		t.Errorf("the placement was lost: %+v", got)
	}
	if strings.Contains(d.log.String(), q.Ticket[:20]) {
		t.Error("a ticket is in the log")
	}
}

func TestQueueRefuses(t *testing.T) {
	d := newQueueFixture(t, 100)
	q := d.login(guestAda).queued(t)
	sign := func(change func(*proto.Ticket)) string {
		now := time.Now().Unix()
		ticket := proto.Ticket{Audience: proto.TicketAudience, User: "ada", Entry: "p", IssuedAt: now, Expires: now + 60}
		change(&ticket)
		raw, err := d.broker.keys.SignTicket(ticket)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	other, err := token.NewKeySet()
	if err != nil {
		t.Fatal(err)
	}
	foreign, _ := other.SignTicket(proto.Ticket{Audience: proto.TicketAudience, User: "ada", Entry: "p", Expires: time.Now().Unix() + 60})
	for name, raw := range map[string]string{
		"a token":        d.token(nil),
		"another's":      foreign,
		"changed":        q.Ticket[:len(q.Ticket)-8] + "AAAAAAAA",
		"cut short":      q.Ticket[:len(q.Ticket)-8],
		"no ticket":      "x",
		"two parts":      "a.b",
		"stale":          sign(func(t *proto.Ticket) { t.IssuedAt, t.Expires = 1, 2 }),
		"of the future":  sign(func(t *proto.Ticket) { t.IssuedAt += 3600; t.Expires += 7200 }),
		"other audience": sign(func(t *proto.Ticket) { t.Audience = proto.TokenAudience }),
		"without a user": sign(func(t *proto.Ticket) { t.User = "" }),
		"without entry":  sign(func(t *proto.Ticket) { t.Entry = "" }),
	} {
		t.Run(name, func(t *testing.T) {
			d.ask(raw).problem(t, 401, proto.ProblemInvalidToken)
		})
	}
	d.do("POST", "/v1/queue", `{}`).problem(t, 401, proto.ProblemInvalidToken)
	d.do("POST", "/v1/queue", `{`, "Authorization", "Bearer "+q.Ticket).problem(t, 400, proto.ProblemInvalidRequest)
	// A queue ticket is not valid for anything else.
	d.do("POST", "/v1/reconnect", `{}`, "Authorization", "Bearer "+q.Ticket).problem(t, 401, proto.ProblemInvalidToken)
	d.do("POST", "/v1/logout", ``, "Authorization", "Bearer "+q.Ticket).problem(t, 401, proto.ProblemInvalidToken)

	newFixture(t, nil).do("POST", "/v1/queue", `{}`, "Authorization", "Bearer "+q.Ticket).problem(t, 404, proto.ProblemNotFound)

	d.broker.ahead = 0
	d.broker.err = placement.ErrNoCapacity
	d.ask(q.Ticket).problem(t, 503, proto.ProblemNoCapacity)
	d.broker.err = errors.New("a bug")
	d.ask(q.Ticket).problem(t, 500, proto.ProblemInternal)
}

// event is one event of a stream.
type event struct{ name, data string }

// stream opens the event stream of a queue ticket.
func (d *fixture) stream(ctx context.Context, url, ticket string) (*http.Response, <-chan event) {
	d.t.Helper()
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/queue", strings.NewReader("{}"))
	req.Header.Set("Authorization", "Bearer "+ticket)
	req.Header.Set("Accept", "text/event-stream")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	events := make(chan event, 100)
	go func() {
		defer close(events)
		var e event
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			line := lines.Text()
			switch {
			case strings.HasPrefix(line, "event: "):
				e.name = line[7:]
			case strings.HasPrefix(line, "data: "):
				e.data = line[6:]
			case line == "":
				events <- e
			}
		}
	}()
	return resp, events
}

func TestQueueEvents(t *testing.T) {
	d := newQueueFixture(t, 4)
	server := httptest.NewServer(d.Handler())
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections()
	q := d.login(guestAda).queued(t)
	resp, events := d.stream(t.Context(), server.URL, q.Ticket)
	defer resp.Body.Close()
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%d, %v", resp.StatusCode, resp.Header)
	}
	for _, want := range []string{`"position":3`, `"position":2`, `"position":1`, `"token":`} {
		e := <-events
		if name := map[bool]string{true: "assigned", false: "position"}[want == `"token":`]; e.name != name || !strings.Contains(e.data, want) {
			t.Fatalf("%+v, want %s", e, want)
		}
	}
	if e, open := <-events; open {
		t.Errorf("after the end: %+v", e)
	}
}

// A stream continues while no login can be admitted. It ends with a final event, and when
// the server closes.
func TestQueueEventsEnd(t *testing.T) {
	d := newQueueFixture(t, 1)
	server := httptest.NewServer(d.Handler())
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections()
	q := d.login(guestAda).queued(t)
	d.broker.mu.Lock()
	d.broker.err = placement.ErrNoNodes
	d.broker.mu.Unlock()
	resp, events := d.stream(t.Context(), server.URL, q.Ticket)
	defer resp.Body.Close()
	if e := <-events; e.name != "problem" || !strings.Contains(e.data, proto.ProblemNoCapacity) {
		t.Fatalf("%+v", e)
	}
	d.broker.mu.Lock()
	d.broker.err = errors.New("a bug")
	d.broker.mu.Unlock()
	e, open := event{}, true
	for open && !strings.Contains(e.data, proto.ProblemInternal) {
		e, open = <-events
	}
	if !open {
		t.Fatal("the stream ended without an event")
	}
	if _, open := <-events; open {
		t.Error("the stream continues")
	}

	d.broker.mu.Lock()
	d.broker.err, d.broker.ahead = nil, 1000
	d.broker.mu.Unlock()
	resp, events = d.stream(t.Context(), server.URL, q.Ticket)
	defer resp.Body.Close()
	<-events
	d.Close()
	d.Close()
	for range events { // ends
	}
}
