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

// waiter is a login that waits in the queue.
type waiter struct {
	name     string
	q        proto.Queued
	at       proto.Assignment // once it is admitted
	admitted bool
}

// asGuest returns the body of a guest login.
func asGuest(name string) string {
	return fmt.Sprintf(`{"method":"guest","credentials":{"name":%q}}`, name)
}

// enqueue logs a guest in, and fails the test unless the login is queued.
func enqueue(t *testing.T, auth, name string) *waiter {
	t.Helper()
	w := &waiter{name: name}
	w.read(t, post(t, "http://"+auth+"/v1/login", "", asGuest(name)))
	if w.admitted {
		t.Fatalf("%s was admitted at once, want it queued", name)
	}
	return w
}

// read updates the waiter from an answer of /v1/login or /v1/queue.
func (w *waiter) read(t *testing.T, a answer) {
	t.Helper()
	switch a.status {
	case http.StatusOK:
		w.at, w.admitted = a.at, true
	case http.StatusAccepted:
		if err := json.Unmarshal(a.body, &w.q); err != nil || a.retryAfter() < 1 {
			t.Fatalf("%s: %v", w.name, a)
		}
	default:
		t.Fatalf("%s: %v", w.name, a)
	}
}

// poll asks auth with the queue ticket.
func (w *waiter) poll(t *testing.T, auth string) {
	t.Helper()
	w.read(t, post(t, "http://"+auth+"/v1/queue", w.q.Ticket, "{}"))
}

// TestWaitingRoom fills a node, queues logins at two auths, and ends sessions one
// by one. Logins must be admitted in the order in which they came, whichever auth
// they ask; a login that does not ask any more must lose its position; and the SDK
// must wait without help of the application.
func TestWaitingRoom(t *testing.T) {
	const capacity = 10
	c := startCluster(t, 0, "--waiting-room")
	c.startNode("node-1", fmt.Sprint("--max-sessions=", capacity))
	c.awaitNodes()
	second := c.startAuth("auth-2", "--waiting-room")
	auths := []string{c.auth.listen, second.listen}
	var attached []proto.Assignment
	for i := range capacity {
		a := c.mustLogin(fmt.Sprint("first-", i))
		attach(t, a, "")
		attached = append(attached, a)
	}
	await(t, "both auths to know that every node is full", startTimeout, func() bool {
		return c.auth.metrics()["usher_nodes_eligible"] == 0 && second.metrics()["usher_nodes_eligible"] == 0
	})
	leave := func() {
		if a := post(t, c.url("/v1/logout"), attached[0].Token, ""); a.status != http.StatusNoContent {
			t.Fatalf("logout: %v", a)
		}
		attached = attached[1:]
	}

	var queue []*waiter
	for i := range 8 {
		w := enqueue(t, auths[i%2], fmt.Sprint("waiter-", i))
		if w.q.Position != i+1 || w.q.PollAfterMS < 500 || w.q.PollAfterMS > 1500 {
			t.Errorf("login %d in the queue: %+v", i, w.q)
		}
		queue = append(queue, w)
	}
	for n := range 3 { // one session ends, and the first login is admitted
		leave()
		await(t, "the first login in the queue to be admitted", 10*time.Second, func() bool {
			for i := len(queue) - 1; i >= 0; i-- { // the last logins ask first
				queue[i].poll(t, auths[(i+n)%2])
			}
			for i, w := range queue {
				if w.admitted && i > 0 {
					t.Fatalf("%s was admitted before %s", w.name, queue[0].name)
				}
			}
			return queue[0].admitted
		})
		attach(t, queue[0].at, "")
		queue = queue[1:]
	}
	if queue[0].q.EstimateMS <= 0 {
		t.Errorf("three logins were admitted, and the answer has no estimate_ms: %+v", queue[0].q)
	}
	waitByEvents(t, auths[1], queue[0], leave)
	queue = queue[1:]

	waitWithSDK(t, auths[0], queue, leave)
}

// waitByEvents has the first login in the queue wait with server-sent events until
// it is admitted.
func waitByEvents(t *testing.T, auth string, w *waiter, leave func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+auth+"/v1/queue", strings.NewReader("{}"))
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
		t.Errorf("events %q, want position first and assigned last", names)
	}
}

// waitWithSDK has a client of the SDK wait at the end of the queue, while the logins
// before it do not ask any more. They must lose their positions, and the client must
// be admitted.
func waitWithSDK(t *testing.T, auth string, before []*waiter, leave func()) {
	t.Helper()
	positions := make(chan int, 1000)
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	go func() {
		s, err := usher.Connect(ctx, usher.Config{
			Auth: "http://" + auth, Credentials: usher.Guest("patient"), OnQueue: func(q proto.Queued) { positions <- q.Position },
		})
		if err == nil {
			_ = s.Close(ctx)
		}
		done <- err
	}()
	if at := <-positions; at != len(before)+1 {
		t.Errorf("position %d behind %d others", at, len(before))
	}
	leave()
	began := time.Now()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 5*time.Second {
		t.Errorf("admitted after %v, before the logins that waited longer had lost their positions", took)
	} else {
		t.Logf("admitted after %v, when %d logins before it had lost their positions", took.Round(time.Second), len(before))
	}
}
