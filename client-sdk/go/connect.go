package usher

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/stream"
)

// Session is a session with an Usher cluster. Its methods are safe for
// concurrent use. It must be left with Close or Logout, unless it has ended by
// itself.
type Session struct {
	cfg     Config
	http    *http.Client
	ws      *http.Client // the same, for WebSockets
	client  string       // names this session's process to the node
	prover  *prover      // nil when the session's tokens are bound to no key
	release func()       // of http's idle connections

	ctx      context.Context // ends when the application leaves; its cause is an *EndedError
	leave    context.CancelCauseFunc
	network  chan struct{}  // NetworkChanged was called
	attached chan struct{}  // closed at the first welcome
	done     chan struct{}  // closed when the main goroutine ends
	goes     sync.WaitGroup // readers, writers, and who closes connections

	// Of the main goroutine alone; see resume.go.
	retry       retry
	attempts    uint64
	unreachable string // node to name as such at /v1/reconnect
	fresh       bool   // the token has not been tried since auth gave it
	barren      bool   // an attempt failed since the last welcome
	again       bool   // and auth has named that node once more

	mu         sync.Mutex
	room       sync.Cond // the stream may have room, or is confirmed
	arrived    sync.Cond // something may be received
	space      sync.Cond // a reader may go on
	at         proto.Assignment
	state      State
	end        *EndedError // set once
	leaving    bool        // no more is sent
	loggingOut bool
	lastErr    error // of an attempt, for Connect to tell
	conn       *conn // nil while detached
	stream     *stream.Stream
	name       string // of stream
	bounds     proto.Welcome
	inbox      inbox
	handling   *arrival // received by the application, not handled
	stats      Stats
	rtt        time.Duration
}

// Connect logs in, or takes up the session of Config.Assignment, and attaches
// to the node that auth names. It returns when the session is attached.
//
// When auth refuses, the error wraps its *proto.Problem; when the session ended
// before it was attached, the error is an *EndedError. A node that cannot be
// reached is tried again, there or elsewhere, until ctx ends; the error then
// wraps ctx's and says what was wrong last. Where every node is full it waits for
// its turn (Config.OnQueue), or auth refuses. ctx has no effect on the session
// that is returned.
func Connect(ctx context.Context, cfg Config) (*Session, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	s, err := newSession(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.Assignment != nil {
		s.at = *cfg.Assignment
	} else {
		a, err := s.login(ctx)
		if err != nil {
			s.leave(nil)
			s.release()
			return nil, err
		}
		s.named(a)
	}
	s.retry.named(time.Now())
	go s.run()
	return s.started(ctx)
}

func newSession(cfg Config) (*Session, error) {
	s := &Session{
		cfg: cfg, retry: retry{rand: cfg.Rand}, client: rand.Text(),
		network: make(chan struct{}, 1), attached: make(chan struct{}), done: make(chan struct{}),
	}
	if cfg.Key != nil || cfg.Assignment == nil && !cfg.NoKey {
		var err error
		if s.prover, err = newProver(cfg.Key); err != nil {
			return nil, err
		}
	}
	s.http, s.release = cfg.client()
	s.ws = wholeMessages(s.http)
	s.ctx, s.leave = context.WithCancelCause(context.Background())
	s.room.L, s.arrived.L, s.space.L = &s.mu, &s.mu, &s.mu
	return s, nil
}

// started waits for the first welcome.
func (s *Session) started(ctx context.Context) (*Session, error) {
	select {
	case <-s.attached:
		return s, nil
	case <-s.done:
	case <-ctx.Done():
		s.leave(&EndedError{Err: ErrClosed})
		<-s.done
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case ctx.Err() == nil || s.end.Err != ErrClosed:
		return nil, s.end
	case s.lastErr != nil:
		return nil, fmt.Errorf("usher: connect: %w; the last attempt: %w", ctx.Err(), s.lastErr)
	}
	return nil, fmt.Errorf("usher: connect: %w", ctx.Err())
}

// note keeps an error for Connect to tell.
func (s *Session) note(err error) {
	s.cfg.Logger.Debug("attempt failed", "error", err)
	s.mu.Lock()
	s.lastErr = err
	s.mu.Unlock()
}
