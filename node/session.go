package node

import (
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/stream"
)

// Session is one client's session on this node. Its methods are safe for
// concurrent use and never block.
type Session struct {
	// ID, User and Ext come from the token and never change. Ext is what the
	// operator's backend said of the user at login.
	ID   string
	User string
	Ext  json.RawMessage

	// Data belongs to the application. The node never touches it. Calls of one
	// session do not overlap, so an App needs no lock for it.
	Data any

	node    *Node
	epoch   uint64
	pool    string
	region  string
	regions *regions // nil: any may serve
	group   string
	created time.Time // of the record

	// app is held during every call of the App for this session.
	app    turn
	opened bool // the App knows of the session
	told   bool // the App was told of a connection and not of its end

	mu       sync.Mutex // protects the following
	name     string     // of the stream; empty when it has ended and none has begun
	stream   *stream.Stream
	conn     *conn   // nil while detached
	client   string  // of the last connection, if it named one
	attempt  *uint64 // likewise
	owed     *Reset  // of which the App does not know yet
	prevName string
	prevWhy  string            // why the stream prevName ended
	endWord  string            // the reason in one word, if it is not that of endCode
	endCode  closeCode         // not 0 once the session is over here
	frozen   bool              // nothing is sent or received: the session is on its way to another node, or may be
	claimed  bool              // the store has it as this node's to serve
	moved    bool              // came with its stream, and has not been attached here yet
	held     bool              // the application wants it to stay
	snapshot []byte            // came along and is not restored yet: for the App
	detached time.Time         // since when, if it is
	renewAt  time.Time         // when the store must hear of the session again
	leaving  instant           // by when it is to leave, for balance; 0 if it may stay
	askedAt  instant           // when its client was last asked to leave
	used     instant           // when a message last passed
	saves    *saves            // nil where it is not saved before it leaves
	keys     *pushKeys         // of messages pushed lately; nil before the first
	counted  int               // bytes that Node.kept has of it
	proof    uint64            // number of the last proof
	token    token.Fingerprint // of the token that it was attached with last
}

type closeCode = proto.CloseCode

// instant is a time in Unix nanoseconds, a third of the size of a time.Time.
type instant int64

func at(t time.Time) instant { return instant(t.UnixNano()) }

// Send sends a message to the client. A reliable one is kept until the client
// confirms it, also while the session is detached. A volatile one is dropped,
// and counted, when the session is detached or the client is slow.
//
// In a node with checkpoints the message goes out once the session is saved with
// it. The node copies m.Data. Errors: ErrSlow, ErrOverflow, ErrTooLarge, ErrClosed,
// ErrMoving, and proto.ErrInvalidUTF8 for text that is none.
func (s *Session) Send(m Message) error {
	frame, err := s.node.frame(m)
	if err != nil {
		return err
	}
	s.mu.Lock()
	err = s.send(m, frame)
	if errors.Is(err, ErrSlow) && s.conn == nil {
		s.overflow()
		err = ErrOverflow
	}
	here := err == nil && s.conn != nil && s.conn.startWriting()
	c := s.conn
	s.mu.Unlock()
	if here {
		c.writeNow()
	}
	return err
}

// frame returns the message as it travels, or why it cannot.
func (n *Node) frame(m Message) ([]byte, error) {
	if len(m.Data) > n.cfg.Limits.MessageBytes {
		return nil, ErrTooLarge
	}
	frame := proto.AppendMessage(make([]byte, 0, 1+len(m.Data)), m)
	if m.Text {
		if _, err := proto.ParseMessage(frame); err != nil {
			return nil, err
		}
	}
	return frame, nil
}

// send is Send for a frame that is well formed, but for having it written. When
// there is too much unconfirmed it is ErrSlow, also while the session is detached.
// s.mu is held.
func (s *Session) send(m Message, frame []byte) error {
	switch {
	case s.endCode != 0:
		return ErrClosed
	case s.frozen:
		return ErrMoving
	case m.Volatile && s.conn == nil:
		s.node.metrics.dropped.WithLabelValues("detached").Inc()
		return nil
	case m.Volatile:
		s.conn.pushVolatile(frame)
		return nil
	case s.stream == nil:
		return ErrOverflow
	}
	if !s.mayKeep(len(frame)) {
		s.node.metrics.slow.Inc()
		return ErrSlow
	}
	if _, err := s.stream.Send(frame); err != nil {
		s.node.metrics.slow.Inc()
		return ErrSlow
	}
	s.recount()
	s.used = at(time.Now())
	if s.node.cfg.Checkpoint {
		s.node.saver.add(s)
	}
	return nil
}

// mayKeep reports whether there is room for so many bytes more, of what the node
// keeps for detached sessions. s.mu is held.
func (s *Session) mayKeep(size int) bool {
	most := s.node.cfg.DetachedBytes
	return s.conn != nil || most < 0 || s.node.kept.Load()+int64(size) <= int64(most)
}

// recount keeps Node.kept true. It is called when a connection comes or goes, and
// when what is kept of a detached session changes. s.mu is held.
func (s *Session) recount() {
	kept := 0
	if s.conn == nil && s.endCode == 0 && s.stream != nil {
		kept = s.stream.Kept()
	}
	if kept != s.counted {
		s.node.kept.Add(int64(kept - s.counted))
		s.counted = kept
	}
}

// overflow ends the stream of a detached session. s.mu is held.
func (s *Session) overflow() {
	lost := s.endStream(proto.ResetOverflow)
	s.node.log.Warn("stream ended: too much sent to a detached session",
		"session", s.ID, "user", s.User, "unconfirmed", len(lost))
	s.owe(proto.ResetOverflow, lost)
	s.node.goes.Go(func() { // the caller may hold s.app
		s.app.Lock()
		defer s.app.Unlock()
		s.tellOwed()
	})
}

// endStream forgets the stream and returns what was not confirmed of it. s.mu
// is held.
func (s *Session) endStream(why string) (unconfirmed [][]byte) {
	if s.stream != nil {
		unconfirmed = s.stream.Unacked()
	}
	s.prevName, s.prevWhy = s.name, why
	s.name, s.stream = "", nil
	s.recount()
	return unconfirmed
}

// owe notes that the App must be told of a lost stream. s.mu is held.
func (s *Session) owe(reason string, lost [][]byte) {
	if s.owed == nil {
		s.owed = &Reset{Reason: reason}
	}
	s.owed.Unconfirmed = append(s.owed.Unconfirmed, messages(lost)...)
}

// tellOwed tells the App of a lost stream, if one is owed. s.app is held.
func (s *Session) tellOwed() bool {
	s.mu.Lock()
	r := s.owed
	s.owed = nil
	away := s.name == ""
	s.mu.Unlock()
	if r == nil {
		return false
	}
	r.Away = away
	s.tellFirst()
	s.tellReset(*r)
	return true
}

func messages(frames [][]byte) []Message {
	list := make([]Message, len(frames))
	for i, f := range frames {
		list[i], _ = proto.ParseMessage(f) // our own frames parse
	}
	return list
}

// Close ends the session everywhere, with a code of the application's own
// (4500 to 4999) and a reason of at most 123 bytes, after what was already
// sent. The client will not come back.
func (s *Session) Close(code proto.CloseCode, reason string) error {
	if code.Action() != proto.ActionApp || len(reason) > 123 {
		return ErrCode
	}
	if !s.node.end(s, code, reason, true) {
		return ErrClosed
	}
	s.node.ledger.end(s, code)
	return nil
}

// over returns why the session is over here, or 0.
func (s *Session) over() proto.CloseCode {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.endCode
}

func (s *Session) setClaimed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.claimed = true
}

func (s *Session) isClaimed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.claimed
}

// prove takes in the number of a proof, 0 for none: where the store cannot be asked
// this is all that tells a new one from one that was used.
func (s *Session) prove(proof uint64) proto.CloseCode {
	s.mu.Lock()
	defer s.mu.Unlock()
	if proof != 0 && proof <= s.proof {
		return proto.CloseStaleProof
	}
	s.proof = max(s.proof, proof)
	return 0
}

// word returns why the session is over, if it is not the word of the code.
func (s *Session) word() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.endWord
}

// Hold keeps the session from being asked to leave the node, by a drain or a
// rebalance, until Release is called: in the middle of a match, say. It does not
// outlast the deadline of a drain, nor anything that ends the session.
func (s *Session) Hold() { s.hold(true) }

// Release takes back Hold.
func (s *Session) Release() { s.hold(false) }

func (s *Session) hold(held bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = held
}

// cut closes the connection, if there is one, and leaves the session detached.
func (s *Session) cut(code proto.CloseCode) {
	s.mu.Lock()
	c := s.conn
	s.mu.Unlock()
	if c != nil {
		c.detach(code)
	}
}

// regions says which regions serve a session when its own has no room. Few
// sessions have such wishes, so that the others do not pay for them.
type regions struct {
	fallback []string
	strict   bool
}
