package dev

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// breakableStore is a store that a killed node no longer reaches.
type breakableStore struct {
	session.Store
	broken atomic.Bool
}

func (s *breakableStore) err() error {
	if s.broken.Load() {
		return fmt.Errorf("%w: this node was killed", session.ErrUnavailable)
	}
	return nil
}

func (s *breakableStore) errs(n int) []error {
	errs := make([]error, n)
	for i := range errs {
		errs[i] = s.err()
	}
	return errs
}

func (s *breakableStore) Attach(ctx context.Context, l session.Lease, stream string, take bool, proof uint64, ttl time.Duration) (session.Record, error) {
	if err := s.err(); err != nil {
		return session.Record{}, err
	}
	return s.Store.Attach(ctx, l, stream, take, proof, ttl)
}

func (s *breakableStore) Move(ctx context.Context, request string, v session.Saved, to string) (session.Record, error) {
	if err := s.err(); err != nil {
		return session.Record{}, err
	}
	return s.Store.Move(ctx, request, v, to)
}

func (s *breakableStore) Renew(ctx context.Context, records []session.Record, ttls []time.Duration) []error {
	if s.broken.Load() {
		return s.errs(len(records))
	}
	return s.Store.Renew(ctx, records, ttls)
}

func (s *breakableStore) Save(ctx context.Context, list []session.Saved) []error {
	if s.broken.Load() {
		return s.errs(len(list))
	}
	return s.Store.Save(ctx, list)
}

func (s *breakableStore) End(ctx context.Context, id string, epoch uint64, reason session.Reason, closeReason string, ttl time.Duration) (session.Record, error) {
	if err := s.err(); err != nil {
		return session.Record{}, err
	}
	return s.Store.End(ctx, id, epoch, reason, closeReason, ttl)
}

func (s *breakableStore) EndAll(ctx context.Context, list []session.Ending, ttl time.Duration) []error {
	if s.broken.Load() {
		return s.errs(len(list))
	}
	return s.Store.EndAll(ctx, list, ttl)
}

// breakableListener can break all its connections at once.
type breakableListener struct {
	net.Listener

	mu     sync.Mutex
	broken bool
	conns  map[*net.TCPConn]bool
}

func newBreakableListener(ln net.Listener) *breakableListener {
	return &breakableListener{Listener: ln, conns: map[*net.TCPConn]bool{}}
}

func (l *breakableListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken {
		conn.Close()
		return nil, net.ErrClosed
	}
	l.conns[tcp] = true
	return &breakableConn{TCPConn: tcp, listener: l}, nil
}

// breakAll resets all connections, without a close frame or a FIN.
func (l *breakableListener) breakAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = true
	l.Listener.Close()
	for conn := range l.conns {
		_ = conn.SetLinger(0)
		conn.Close()
	}
}

type breakableConn struct {
	*net.TCPConn
	listener *breakableListener
}

func (c *breakableConn) Close() error {
	c.listener.mu.Lock()
	delete(c.listener.conns, c.TCPConn)
	c.listener.mu.Unlock()
	return c.TCPConn.Close()
}
