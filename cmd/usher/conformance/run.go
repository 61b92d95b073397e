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
	node     string // that auth has assigned last
	token    string
	asks     int  // calls of /v1/reconnect
	named    bool // the client has named the unreachable node
	attempts int
	client   string
	attempt  uint64
	stream   *stream.Stream // the node's side
	name     string         // of the stream
	resets   int
	last     int // greatest text of the client
	conn     *conn
	leaving  *conn     // got a goaway
	stopped  time.Time // when the client had to stop
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

// limits are the limits in the welcome.
var limits = stream.Limits{Messages: 1024, Bytes: 256 << 10}

// note adds a line to the transcript. n.mu is held.
func (n *run) note(format string, args ...any) {
	n.lines = append(n.lines, fmt.Sprintf("%7.3f  ", time.Since(n.began).Seconds())+fmt.Sprintf(format, args...))
}

// fault is wrong for callers that do not hold n.mu.
func (n *run) fault(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wrong(format, args...)
}

// wrong adds a fault of the client. n.mu is held.
func (n *run) wrong(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	n.note("WRONG: %s", text)
	if !n.over {
		n.faults = append(n.faults, text)
	}
}

// assigned records an answer of auth.
func (n *run) assigned(node, token string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.node, n.token = node, token
	n.note("auth assigns %s", node)
}

// reconnect handles a call of /v1/reconnect and returns the node to assign.
func (n *run) reconnect(token, unreachable string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.note("POST /v1/reconnect, unreachable %q", unreachable)
	if !n.stopped.IsZero() {
		n.wrong("it called auth after it had to stop")
	}
	if token != n.token {
		n.wrong("it called auth with a token that auth had replaced")
	}
	if unreachable != "" {
		if unreachable != n.node {
			n.wrong("it reported %q as unreachable, but auth had assigned %q", unreachable, n.node)
		}
		n.named = true
	}
	n.asks++
	if len(n.sc.reconnect) == 0 {
		n.wrong("it called auth without a reason")
		return n.node
	}
	return n.sc.reconnect[min(n.asks, len(n.sc.reconnect))-1]
}

// attach treats an attempt to attach as the scenario says.
func (n *run) attach(node, token string, raw net.Conn, w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	var st step
	if n.attempts < len(n.sc.steps) {
		st = n.sc.steps[n.attempts]
	} else if n.sc.stops != 0 {
		n.wrong("it attached after it had to stop")
	}
	n.attempts++
	n.note("attempt %d at %s: %s", n.attempts, node, r.URL.RawQuery)
	if node != n.node || token != n.token {
		n.wrong("it attached at %s, but not with the last answer of auth, which assigned %s", node, n.node)
	}
	received := n.checkQuery(r)
	n.mu.Unlock()
	switch {
	case st.hangUp:
		reset(raw)
		return
	case st.status != 0:
		http.Error(w, "the gateway cannot reach the node", st.status)
		return
	}
	c, err := open(n, raw, w, r)
	if err != nil {
		n.fault("handshake: %v", err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c.serve(ctx, st, received)
}

// checkQuery checks the query of the handshake, and returns how many messages of the
// stream the client has received. n.mu is held.
func (n *run) checkQuery(r *http.Request) (received uint64) {
	q := r.URL.Query()
	if client := q.Get(proto.QueryClient); client != "" {
		if n.client != "" && client != n.client {
			n.wrong("the parameter client is %q, was %q", client, n.client)
		}
		n.client = client
	}
	if text := q.Get(proto.QueryAttempt); text != "" {
		attempt, err := strconv.ParseUint(text, 10, 53)
		if err != nil || attempt <= n.attempt {
			n.wrong("the parameter attempt is %q, was %d", text, n.attempt)
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
		n.wrong("the parameter received is %q, must be %d to %d", q.Get(proto.QueryReceived), n.stream.Acked(), n.stream.Sent())
		return n.stream.Acked()
	}
	return received
}

// text handles a text of the client. n.mu is held.
func (n *run) text(s string) {
	n.stream.Receive()
	n.stream.Handled(len(s))
	v, err := strconv.Atoi(s)
	switch {
	case err != nil || v < 1 || v > Messages:
		n.wrong("it sent %q, which is not one of 1 to %d", s, Messages)
	case v <= n.last:
		n.wrong("it sent %d after %d: duplicated, or out of order", v, n.last)
	case v != n.last+1 && n.resets == 0:
		n.wrong("it sent %d after %d: a message was lost", v, n.last)
	}
	n.last = max(n.last, v)
}

// complete reports whether all messages have arrived in both directions. n.mu is held.
func (n *run) complete() bool {
	return n.sc.stops == 0 && n.last == Messages && n.stream != nil && n.sentAll() && n.stream.Acked() == n.stream.Sent() &&
		n.attempts >= n.sc.minAttempts()
}

// sentAll reports whether the node has sent all its messages. After a reset it begins
// again. n.mu is held.
func (n *run) sentAll() bool { return n.stream.Sent() >= Messages }

// stopTime is how long the server watches a client that has to stop.
const stopTime = 1500 * time.Millisecond

// stop records that the client has to stop from now on.
func (n *run) stop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopped.IsZero() {
		n.stopped = time.Now()
		time.AfterFunc(stopTime, func() { n.finish("") })
	}
}

// finish ends the run and reports the verdict. reason, if not "", is a fault. Only the
// first call has an effect.
func (n *run) finish(reason string) {
	n.mu.Lock()
	if n.over {
		n.mu.Unlock()
		return
	}
	if reason != "" {
		n.wrong("%s", reason)
		n.wrong("the client has sent %d of %d texts", n.last, Messages)
		if n.stream != nil {
			n.wrong("the client has acknowledged %d of %d messages of the node", n.stream.Acked(), n.stream.Sent())
		}
	}
	if n.asks < n.sc.asks {
		n.wrong("it called auth %d times, must call it %d times", n.asks, n.sc.asks)
	}
	if n.sc.unreachable && !n.named {
		n.wrong("it did not report the node that it could not reach")
	}
	n.over = true
	n.limit.Stop()
	v := Verdict{Scenario: n.sc.name, About: n.sc.about, Passed: len(n.faults) == 0, Faults: n.faults, Transcript: n.lines}
	c := n.conn
	n.mu.Unlock()
	if c != nil {
		c.end(proto.CloseSessionEnded)
	}
	if n.server.OnVerdict != nil {
		n.server.OnVerdict(v)
	}
}
