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

// Session is a session with an Usher cluster. Its methods are safe for concurrent
// use. The application must call Close or Logout, unless the session has ended.
type Session struct {
	cfg     Config
	http    *http.Client
	ws      *http.Client // http with detectTruncation, for WebSockets
	client  string       // identifies this client process to the node
	prover  *prover      // nil if the session's tokens are not bound to a key
	release func()       // closes the idle connections of http

	ctx      context.Context // ends when the application closes the session; its cause is an *EndedError
	leave    context.CancelCauseFunc
	network  chan struct{}  // NetworkChanged was called
	attached chan struct{}  // closed at the first welcome
	done     chan struct{}  // closed when the main goroutine ends
	wg       sync.WaitGroup // goroutines that read, write and close connections

	// Used by the main goroutine only; see resume.go.
	retry              retry
	attempts           uint64
	unreachable        string // id of the node to report at /v1/reconnect
	untried            bool   // the token has not been tried since auth gave it
	failedSinceWelcome bool   // an attempt failed since the last welcome
	namedAgain         bool   // and auth has named the same node again

	mu        sync.Mutex
	sendReady sync.Cond // the stream may have capacity, or its messages are confirmed
	recvReady sync.Cond // Receive may have a message
	readReady sync.Cond // a reader may continue
	at        proto.Assignment
	state     State
	end       *EndedError // set once
	departure departure   // once it is not staying, no more is sent
	lastErr   error       // of an attempt, for the error of Connect
	conn      *conn       // nil while detached
	stream    *stream.Stream
	name      string // of stream
	bounds    proto.Welcome
	inbox     inbox
	handling  *inbound // received by the application, not handled
	stats     Stats
	rtt       time.Duration
}

// Connect logs in, or continues the session of Config.Assignment, and attaches to
// the node that auth names. It returns when the session is attached.
//
// If auth refuses, the error wraps its *proto.Problem. If the session ends before
// it was attached, the error is an *EndedError. If the node cannot be reached,
// Connect tries again at this node or another until ctx ends; the error then wraps
// that of ctx and the last failure. If every node is full, Connect waits in the
// queue (Config.OnQueue), or auth refuses. ctx does not affect the session that is
// returned.
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
		s.setAssignment(a)
	}
	s.retry.named(time.Now())
	go s.run()
	return s.awaitAttached(ctx)
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
	s.ws = detectTruncation(s.http)
	s.ctx, s.leave = context.WithCancelCause(context.Background())
	s.sendReady.L, s.recvReady.L, s.readReady.L = &s.mu, &s.mu, &s.mu
	return s, nil
}

// awaitAttached waits for the first welcome.
func (s *Session) awaitAttached(ctx context.Context) (*Session, error) {
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

// recordError keeps the error of an attempt, for the error of Connect.
func (s *Session) recordError(err error) {
	s.cfg.Logger.Debug("attempt failed", "error", err)
	s.mu.Lock()
	s.lastErr = err
	s.mu.Unlock()
}
