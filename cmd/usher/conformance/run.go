package conformance

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/stream"
)

// run is one session of a client in a scenario.
type run struct {
	server *Server
	sc     scenario
	sid    string
	began  time.Time
	limit  *time.Timer

	mu       sync.Mutex
	node     string // that auth named last
	token    string
	asks     int
	named    bool // the unreachable node was
	attempts int
	client   string
	attempt  uint64
	stream   *stream.Stream // of the node's side
	name     string
	resets   int
	last     int // greatest text of the client
	conn     *conn
	leaving  *conn // was asked to leave
	stopped  time.Time
	over     bool
	faults   []string
	lines    []string
}

const defaultPatience = 30 * time.Second

func newRun(s *Server, sc scenario) *run {
	n := &run{server: s, sc: sc, sid: rand.Text(), began: time.Now()}
	patience := s.Patience
	if patience == 0 {
		patience = defaultPatience
	}
	n.limit = time.AfterFunc(patience, func() { n.finish(fmt.Sprintf("not finished after %v", patience)) })
	return n
}

// limits are what the welcome says.
var limits = stream.Limits{Messages: 1024, Bytes: 256 << 10}

// note adds a line to the transcript. n.mu is held.
func (n *run) note(format string, args ...any) {
	n.lines = append(n.lines, fmt.Sprintf("%7.3f  ", time.Since(n.began).Seconds())+fmt.Sprintf(format, args...))
}

func (n *run) fault(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wrong(format, args...)
}

// wrong notes what the client should not have done. n.mu is held.
func (n *run) wrong(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	n.note("WRONG: %s", text)
	if !n.over {
		n.faults = append(n.faults, text)
	}
}

// at notes what auth has answered.
func (n *run) at(node, token string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.node, n.token = node, token
	n.note("auth names %s", node)
}

// asked takes in a /v1/reconnect and returns the node to name.
func (n *run) asked(token, unreachable string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note("POST /v1/reconnect, unreachable %q", unreachable)
	if !n.stopped.IsZero() {
		n.wrong("it asks auth after it was told to stop")
	}
	if token != n.token {
		n.wrong("it asks with a token that auth has replaced")
	}
	if unreachable != "" {
		if unreachable != n.node {
			n.wrong("it could not reach %q, but auth had named %q", unreachable, n.node)
		}
		n.named = true
	}
	n.asks++
	if len(n.sc.reconnect) == 0 {
		n.wrong("it asks auth where to go, and there was no reason")
		return n.node
	}
	return n.sc.reconnect[min(n.asks, len(n.sc.reconnect))-1]
}

// attach does what the scenario has for this attempt.
func (n *run) attach(node, token string, raw net.Conn, w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	var a act
	if n.attempts < len(n.sc.acts) {
		a = n.sc.acts[n.attempts]
	} else if n.sc.stops != 0 {
		n.wrong("it attaches after it was told to stop")
	}
	n.attempts++
	n.note("attempt %d at %s: %s", n.attempts, node, r.URL.RawQuery)
	if node != n.node || token != n.token {
		n.wrong("it attaches at %s, with the token of another answer than the last, which named %s", node, n.node)
	}
	received := n.checkQuery(r)
	n.mu.Unlock()
	switch {
	case a.hangUp:
		cutOff(raw)
		return
	case a.status != 0:
		http.Error(w, "the gateway has lost its node", a.status)
		return
	}
	c, err := open(n, raw, w, r)
	if err != nil {
		n.fault("the handshake: %v", err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c.play(ctx, a, received)
}

// checkQuery judges what the handshake says of the stream, and returns the count
// it gives. n.mu is held.
func (n *run) checkQuery(r *http.Request) (received uint64) {
	q := r.URL.Query()
	if client := q.Get(proto.QueryClient); client != "" {
		if n.client != "" && client != n.client {
			n.wrong("client is %q, and was %q", client, n.client)
		}
		n.client = client
	}
	if text := q.Get(proto.QueryAttempt); text != "" {
		attempt, err := strconv.ParseUint(text, 10, 53)
		if err != nil || attempt <= n.attempt {
			n.wrong("attempt is %q, and was %d", text, n.attempt)
		}
		n.attempt = attempt
	}
	name := q.Get(proto.QueryStream)
	if name != n.name {
		n.wrong("it names the stream %q; the last welcome named %q", name, n.name)
	}
	if name == "" || n.stream == nil {
		return 0
	}
	received, err := strconv.ParseUint(q.Get(proto.QueryReceived), 10, 53)
	if err != nil || received < n.stream.Acked() || received > n.stream.Sent() {
		n.wrong("received is %q, which must be between %d and %d", q.Get(proto.QueryReceived), n.stream.Acked(), n.stream.Sent())
		return n.stream.Acked()
	}
	return received
}

// text takes in a text of the client. n.mu is held.
func (n *run) text(s string) {
	n.stream.Receive()
	n.stream.Handled(len(s))
	v, err := strconv.Atoi(s)
	switch {
	case err != nil || v < 1 || v > Messages:
		n.wrong("it sends %q, not one of 1 to %d", s, Messages)
	case v <= n.last:
		n.wrong("%d came after %d: doubled, or out of order", v, n.last)
	case v != n.last+1 && n.resets == 0:
		n.wrong("%d came after %d: something was lost", v, n.last)
	}
	n.last = max(n.last, v)
}

// complete reports whether all has passed both ways. n.mu is held.
func (n *run) complete() bool {
	return n.sc.stops == 0 && n.last == Messages && n.stream != nil && n.sentAll() && n.stream.Acked() == n.stream.Sent() &&
		n.attempts >= n.sc.attempts()
}

// sentAll reports whether the node has sent what it has to send. After a reset
// it begins again. n.mu is held.
func (n *run) sentAll() bool { return n.stream.Sent() >= Messages }

// stopWatch is how long the client is watched after it was told to stop.
const stopWatch = 1500 * time.Millisecond

// stop notes that the client has been told to stop, or has to by itself.
func (n *run) stop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopped.IsZero() {
		n.stopped = time.Now()
		time.AfterFunc(stopWatch, func() { n.finish("") })
	}
}

// finish judges the run, once.
func (n *run) finish(why string) {
	n.mu.Lock()
	if n.over {
		n.mu.Unlock()
		return
	}
	if why != "" {
		n.wrong("%s", why)
		n.wrong("texts of the client came up to %d of %d", n.last, Messages)
		if n.stream != nil {
			n.wrong("of %d messages of the node %d were acknowledged", n.stream.Sent(), n.stream.Acked())
		}
	}
	if n.asks < n.sc.asks {
		n.wrong("it asked auth %d times where to go, and had to %d times", n.asks, n.sc.asks)
	}
	if n.sc.unreachable && !n.named {
		n.wrong("it did not name the node that it could not reach")
	}
	n.over = true
	n.limit.Stop()
	v := Verdict{Scenario: n.sc.name, About: n.sc.about, Passed: len(n.faults) == 0, Faults: n.faults, Transcript: n.lines}
	c := n.conn
	n.mu.Unlock()
	if c != nil {
		c.end(proto.CloseSessionEnded)
	}
	if n.server.Judged != nil {
		n.server.Judged(v)
	}
}
