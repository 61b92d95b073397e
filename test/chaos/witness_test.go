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
	t := &tally{}
	s.Data = t
	w.mu.Lock()
	defer w.mu.Unlock()
	w.live[s.ID] = t
}

func (w *witness) Message(s *node.Session, m node.Message) {
	t := s.Data.(*tally)
	n, err := strconv.Atoi(string(m.Data))
	w.mu.Lock()
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

func (w *witness) Detached(*node.Session) {}
func (w *witness) Resumed(*node.Session)  {}

// Reset begins anew, as the client does that lost its stream.
func (w *witness) Reset(s *node.Session, _ node.Reset) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*s.Data.(*tally) = tally{}
}

func (w *witness) Closed(*node.Session, proto.CloseCode) {}

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
