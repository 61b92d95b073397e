package chaos

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/usher-broker/usher/node"
	"github.com/usher-broker/usher/proto"
)

// recorder is the application of all nodes. It expects 1, 2, 3 … from each client and
// answers each message with a number that it counts itself. Its state of a session
// moves with the session. It records everything that must not happen as a fault.
type recorder struct {
	mu        sync.Mutex
	faults    []string
	delivered map[string]int    // deliveries on all nodes, by session and number
	live      map[string]*tally // by session
}

// tally is the application's state of a session.
type tally struct {
	Received int
	Sent     int

	detached, closed bool // of the session on this node; not in the snapshot
}

func newRecorder() *recorder {
	return &recorder{delivered: map[string]int{}, live: map[string]*tally{}}
}

func (r *recorder) fault(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, fmt.Sprintf(format, args...))
}

// get returns the application's state of a session, on whichever node it is.
func (r *recorder) get(sid string) tally {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.live[sid]; t != nil {
		return *t
	}
	return tally{}
}

func (r *recorder) Opened(s *node.Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.Data != nil {
		r.faults = append(r.faults, fmt.Sprintf("session %s: opened twice", s.ID))
	}
	t := &tally{}
	s.Data = t
	r.live[s.ID] = t
}

// event returns the tally of the session that an event is about. It records a fault if
// the event may not happen in the session's state. r.mu must be held.
func (r *recorder) event(s *node.Session, what string) *tally {
	t, opened := s.Data.(*tally)
	switch {
	case !opened:
		r.faults = append(r.faults, fmt.Sprintf("session %s: %s before it was opened", s.ID, what))
		return &tally{}
	case t.closed:
		r.faults = append(r.faults, fmt.Sprintf("session %s: %s after it was closed", s.ID, what))
	case t.detached && (what == "message" || what == "detached"):
		r.faults = append(r.faults, fmt.Sprintf("session %s: %s while detached", s.ID, what))
	}
	return t
}

func (r *recorder) Message(s *node.Session, m node.Message) {
	n, err := strconv.Atoi(string(m.Data))
	r.mu.Lock()
	t := r.event(s, "message")
	if err != nil || n != t.Received+1 {
		r.faults = append(r.faults, fmt.Sprintf("session %s: %q arrived after %d", s.ID, m.Data, t.Received))
	}
	t.Received = n
	t.Sent++
	r.delivered[s.ID+" "+string(m.Data)]++
	r.mu.Unlock()
	if err := s.Send(node.Message{Data: fmt.Appendf(nil, "r%d", t.Sent), Text: true}); err != nil && !errors.Is(err, node.ErrClosed) {
		r.fault("session %s: answer %d: %v", s.ID, t.Sent, err)
	}
}

func (r *recorder) Detached(s *node.Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.event(s, "detached").detached = true
}

func (r *recorder) Resumed(s *node.Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.event(s, "resumed").detached = false
}

// Reset starts the counts at 0 again, as the client does after a reset.
func (r *recorder) Reset(s *node.Session, reset node.Reset) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*r.event(s, "reset") = tally{detached: reset.Away}
}

func (r *recorder) Closed(s *node.Session, _ proto.CloseCode) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.event(s, "closed").closed = true
}

func (r *recorder) Snapshot(s *node.Session) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return json.Marshal(s.Data)
}

func (r *recorder) Restore(s *node.Session, snapshot []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return json.Unmarshal(snapshot, s.Data)
}
