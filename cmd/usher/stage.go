package main

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-broker/usher/broker"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// maxDevNodes bounds the nodes of one process.
const maxDevNodes = 64

// stage is the nodes of «usher dev», which can be added to, drained and killed.
type stage struct {
	broker  *broker.Broker
	options nodeOptions
	labels  func(id string) prometheus.Registerer

	mu    sync.Mutex
	port  int // the first that the next node tries
	count int // of nodes that there ever were
	nodes map[string]*devNode
}

// devNode is a node that can die as a process does.
type devNode struct {
	*nodeRole
	ln    *mortalListener
	store *mortalStore
}

// add starts another node and returns its id.
func (s *stage) add() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.nodes) >= maxDevNodes {
		return "", fmt.Errorf("there are %d nodes already", maxDevNodes)
	}
	ln, err := listenFrom("127.0.0.1", &s.port)
	if err != nil {
		return "", usageError{"--node-port", err}
	}
	s.count++
	id := "node-" + strconv.Itoa(s.count)
	n := &devNode{ln: &mortalListener{Listener: ln, conns: map[net.Conn]bool{}}, store: &mortalStore{Store: s.options.store}}
	o := s.options
	o.id, o.listener, o.store, o.registry = id, n.ln, n.store, s.labels(id)
	if n.nodeRole, err = startNode(context.Background(), o); err != nil {
		return "", err
	}
	if s.nodes == nil {
		s.nodes = map[string]*devNode{}
	}
	s.nodes[id] = n
	return id, nil
}

// kill ends a node as kill -9 would: its connections break, the others hear
// nothing, and what it knew is gone.
func (s *stage) kill(id string) bool {
	s.mu.Lock()
	n := s.nodes[id]
	delete(s.nodes, id)
	s.mu.Unlock()
	if n == nil {
		return false
	}
	n.store.dead.Store(true)
	n.ln.kill()
	_ = n.cluster.Close()
	n.halt()
	return true
}

// drain has a node give its sessions away, and stay.
func (s *stage) drain(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return s.broker.Drain(ctx, id, proto.DrainRequest{WindowMS: 500, Keep: true})
}

func (s *stage) undrain(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return s.broker.Undrain(ctx, id)
}

func (s *stage) all() []*devNode {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*devNode
	for _, id := range slices.Sorted(maps.Keys(s.nodes)) {
		list = append(list, s.nodes[id])
	}
	return list
}

func (s *stage) checks() []check { return s.all()[0].checks() }

func (s *stage) close() {
	var wg sync.WaitGroup
	for _, n := range s.all() {
		wg.Go(n.close)
	}
	wg.Wait()
}

// mortalStore is a store that a dead node does not reach.
type mortalStore struct {
	session.Store
	dead atomic.Bool
}

func (s *mortalStore) gone() error {
	if s.dead.Load() {
		return fmt.Errorf("%w: this node is dead", session.ErrUnavailable)
	}
	return nil
}

func (s *mortalStore) failed(n int) []error {
	errs := make([]error, n)
	for i := range errs {
		errs[i] = s.gone()
	}
	return errs
}

func (s *mortalStore) Attach(ctx context.Context, l session.Lease, stream string, take bool, proof uint64, ttl time.Duration) (session.Record, error) {
	if err := s.gone(); err != nil {
		return session.Record{}, err
	}
	return s.Store.Attach(ctx, l, stream, take, proof, ttl)
}

func (s *mortalStore) Move(ctx context.Context, request string, v session.Saved, to string) (session.Record, error) {
	if err := s.gone(); err != nil {
		return session.Record{}, err
	}
	return s.Store.Move(ctx, request, v, to)
}

func (s *mortalStore) Renew(ctx context.Context, records []session.Record, ttls []time.Duration) []error {
	if s.dead.Load() {
		return s.failed(len(records))
	}
	return s.Store.Renew(ctx, records, ttls)
}

func (s *mortalStore) Save(ctx context.Context, list []session.Saved) []error {
	if s.dead.Load() {
		return s.failed(len(list))
	}
	return s.Store.Save(ctx, list)
}

func (s *mortalStore) End(ctx context.Context, id string, epoch uint64, reason session.Reason, word string, ttl time.Duration) (session.Record, error) {
	if err := s.gone(); err != nil {
		return session.Record{}, err
	}
	return s.Store.End(ctx, id, epoch, reason, word, ttl)
}

// mortalListener breaks its connections when it is killed.
type mortalListener struct {
	net.Listener

	mu    sync.Mutex
	dead  bool
	conns map[net.Conn]bool
}

func (l *mortalListener) Accept() (net.Conn, error) {
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
	if l.dead {
		conn.Close()
		return nil, net.ErrClosed
	}
	l.conns[tcp] = true
	return &mortalConn{TCPConn: tcp, l: l}, nil
}

func (l *mortalListener) kill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
	l.Listener.Close()
	for conn := range l.conns {
		_ = conn.(*net.TCPConn).SetLinger(0) // a reset, and no farewell
		conn.Close()
	}
}

type mortalConn struct {
	*net.TCPConn
	l *mortalListener
}

func (c *mortalConn) Close() error {
	c.l.mu.Lock()
	delete(c.l.conns, c.TCPConn)
	c.l.mu.Unlock()
	return c.TCPConn.Close()
}
