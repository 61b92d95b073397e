package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
	"github.com/usher-broker/usher/proto"
)

// waiter is a login that waits.
type waiter struct {
	name   string
	q      proto.Queued
	at     proto.Assignment // when it was let in
	seated bool
}

func asGuest(name string) string {
	return fmt.Sprintf(`{"method":"guest","credentials":{"name":%q}}`, name)
}

// queues logs a guest in who has to wait.
func queues(t *testing.T, door, name string) *waiter {
	t.Helper()
	w := &waiter{name: name}
	w.read(t, post(t, "http://"+door+"/v1/login", "", asGuest(name)))
	if w.seated {
		t.Fatalf("%s was let in", name)
	}
	return w
}

func (w *waiter) read(t *testing.T, a answer) {
	t.Helper()
	switch a.status {
	case http.StatusOK:
		w.at, w.seated = a.at, true
	case http.StatusAccepted:
		if err := json.Unmarshal(a.body, &w.q); err != nil || a.retryAfter() < 1 {
			t.Fatalf("%s: %v", w.name, a)
		}
	default:
		t.Fatalf("%s: %v", w.name, a)
	}
}

func (w *waiter) asks(t *testing.T, door string) {
	t.Helper()
	w.read(t, post(t, "http://"+door+"/v1/queue", w.q.Ticket, "{}"))
}

// TestWaitingRoom fills a node, has logins wait at two auths, and lets sessions
// end one by one: those who came first are let in first, whichever auth they
// ask; those who do not ask lose their place; and the SDK waits by itself.
func TestWaitingRoom(t *testing.T) {
	const capacity = 10
	c := startCluster(t, 0, "--waiting-room")
	c.startNode("node-1", fmt.Sprint("--max-sessions=", capacity))
	c.awaitNodes()
	second := c.startAuth("auth-2", "--waiting-room")
	doors := []string{c.auth.listen, second.listen}
	var inside []proto.Assignment
	for i := range capacity {
		a := c.enter(fmt.Sprint("first-", i))
		attach(t, a, "")
		inside = append(inside, a)
	}
	await(t, "both auths to know that all is full", starts, func() bool {
		return c.auth.metrics()["usher_nodes_eligible"] == 0 && second.metrics()["usher_nodes_eligible"] == 0
	})
	leave := func() {
		if a := post(t, c.url("/v1/logout"), inside[0].Token, ""); a.status != http.StatusNoContent {
			t.Fatalf("logout: %v", a)
		}
		inside = inside[1:]
	}

	var line []*waiter
	for i := range 8 {
		w := queues(t, doors[i%2], fmt.Sprint("waiter-", i))
		if w.q.Position != i+1 || w.q.PollAfterMS < 500 || w.q.PollAfterMS > 1500 {
			t.Errorf("waiter %d: %+v", i, w.q)
		}
		line = append(line, w)
	}
	for n := range 3 { // one leaves, one is let in: the first
		leave()
		await(t, "the first in the line to be let in", 10*time.Second, func() bool {
			for i := len(line) - 1; i >= 0; i-- { // the last ones ask first
				line[i].asks(t, doors[(i+n)%2])
			}
			for i, w := range line {
				if w.seated && i > 0 {
					t.Fatalf("%s was let in before %s", w.name, line[0].name)
				}
			}
			return line[0].seated
		})
		attach(t, line[0].at, "")
		line = line[1:]
	}
	if line[0].q.EstimateMS <= 0 {
		t.Errorf("three were let in, and there is no estimate: %+v", line[0].q)
	}
	events(t, doors[1], line[0], leave)
	line = line[1:]

	sdkWaits(t, doors[0], line, leave)
}

// events has the first in the line wait by events until it is let in.
func events(t *testing.T, door string, w *waiter, leave func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+door+"/v1/queue", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+w.q.Ticket)
	req.Header.Set("Accept", "text/event-stream")
	resp, err := web.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var names []string
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			if names = append(names, name); len(names) == 1 {
				leave()
			}
		}
	}
	if n := len(names); n < 2 || names[0] != "position" || names[n-1] != "assigned" {
		t.Errorf("events %q", names)
	}
}

// sdkWaits has a client of the SDK wait at the end of the line, while those before
// it ask no more: their places are given up, and it is let in.
func sdkWaits(t *testing.T, door string, before []*waiter, leave func()) {
	t.Helper()
	told := make(chan int, 1000)
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	go func() {
		s, err := usher.Connect(ctx, usher.Config{
			Auth: "http://" + door, Credentials: usher.Guest("patient"), OnQueue: func(q proto.Queued) { told <- q.Position },
		})
		if err == nil {
			_ = s.Close(ctx)
		}
		done <- err
	}()
	if at := <-told; at != len(before)+1 {
		t.Errorf("place %d behind %d others", at, len(before))
	}
	leave()
	began := time.Now()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 5*time.Second {
		t.Errorf("let in after %v, before those who waited longer had lost their places", took)
	} else {
		t.Logf("let in after %v: %d places before it were given up", took.Round(time.Second), len(before))
	}
}
