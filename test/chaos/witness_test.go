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

// witness is the application of all nodes. It expects 1, 2, 3 … from each
// client and answers each with a number of its own; what it knows of a session
// moves with it. It notes what must never be.
type witness struct {
	mu        sync.Mutex
	faults    []string
	delivered map[string]int    // by session and number, everywhere
	live      map[string]*tally // by session, where it is
}

// tally is what the application knows of a session.
type tally struct {
	Received int
	Sent     int

	away, over bool // of this node's session
}

func newWitness() *witness {
	return &witness{delivered: map[string]int{}, live: map[string]*tally{}}
}

func (w *witness) fault(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, fmt.Sprintf(format, args...))
}

// of returns what the application knows of a session, wherever it is.
func (w *witness) of(sid string) tally {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t := w.live[sid]; t != nil {
		return *t
	}
	return tally{}
}

func (w *witness) Opened(s *node.Session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.Data != nil {
		w.faults = append(w.faults, fmt.Sprintf("session %s: opened twice", s.ID))
	}
	t := &tally{}
	s.Data = t
	w.live[s.ID] = t
}

// heard returns the tally of a session of which the application hears, and notes
// what is not in the order of its life. w.mu is held.
func (w *witness) heard(s *node.Session, what string) *tally {
	t, opened := s.Data.(*tally)
	switch {
	case !opened:
		w.faults = append(w.faults, fmt.Sprintf("session %s: %s before it was opened", s.ID, what))
		return &tally{}
	case t.over:
		w.faults = append(w.faults, fmt.Sprintf("session %s: %s after it was closed", s.ID, what))
	case t.away && (what == "message" || what == "detached"):
		w.faults = append(w.faults, fmt.Sprintf("session %s: %s while detached", s.ID, what))
	}
	return t
}

func (w *witness) Message(s *node.Session, m node.Message) {
	n, err := strconv.Atoi(string(m.Data))
	w.mu.Lock()
	t := w.heard(s, "message")
	if err != nil || n != t.Received+1 {
		w.faults = append(w.faults, fmt.Sprintf("session %s: %q came after %d", s.ID, m.Data, t.Received))
	}
	t.Received = n
	t.Sent++
	w.delivered[s.ID+" "+string(m.Data)]++
	w.mu.Unlock()
	if err := s.Send(node.Message{Data: fmt.Appendf(nil, "r%d", t.Sent), Text: true}); err != nil && !errors.Is(err, node.ErrClosed) {
		w.fault("session %s: answer %d: %v", s.ID, t.Sent, err)
	}
}

func (w *witness) Detached(s *node.Session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard(s, "detached").away = true
}

func (w *witness) Resumed(s *node.Session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard(s, "resumed").away = false
}

// Reset begins anew, as the client does that lost its stream.
func (w *witness) Reset(s *node.Session, r node.Reset) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*w.heard(s, "reset") = tally{away: r.Away}
}

func (w *witness) Closed(s *node.Session, _ proto.CloseCode) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard(s, "closed").over = true
}

func (w *witness) Snapshot(s *node.Session) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return json.Marshal(s.Data)
}

func (w *witness) Restore(s *node.Session, snapshot []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return json.Unmarshal(snapshot, s.Data)
}
