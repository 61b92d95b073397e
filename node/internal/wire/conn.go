package wire

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Config sets the limits of all connections of a Server.
type Config struct {
	// WriteTimeout is how long one write may wait for the client.
	WriteTimeout time.Duration
	// Rates slow clients that send too much.
	Rates Rates
	// MaxText and MaxBinary limit the bytes of one message.
	MaxText, MaxBinary int

	// Slowed is called when a read was delayed, with the quantity that exceeded its
	// rate: "bytes", "messages", "frames" or "pings". It may be nil.
	Slowed func(quantity string)
	// Fragments is called when a connection is closed because a message has more than
	// 1,024 fragments. It may be nil.
	Fragments func()
	// Logger is for what an operator can act on. If it is nil, nothing is logged.
	Logger *slog.Logger
}

// Server makes connections and has what they share: limits, buffers and the goroutine
// that waits for those that rest.
type Server struct {
	cfg      Config
	started  time.Time // see now
	rates    amounts
	inputs   sync.Pool // of *[]byte, inputBytes each
	messages sync.Pool // of *[]byte
	batches  sync.Pool // of *batch
	poller   *poller
	wg       sync.WaitGroup // every connection that reads, and every goroutine
}

// New returns a Server. Connections rest only while Run runs.
func New(cfg Config) *Server {
	if cfg.Slowed == nil {
		cfg.Slowed = func(string) {}
	}
	if cfg.Fragments == nil {
		cfg.Fragments = func() {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, started: time.Now(), rates: cfg.Rates.amounts(), poller: newPoller(cfg.Logger)}
	s.inputs.New = func() any { b := make([]byte, 0, inputBytes); return &b }
	s.messages.New = func() any { b := make([]byte, 0, messageBytes); return &b }
	s.batches.New = func() any { return newBatch() }
	return s
}

// now returns the time since the server was made. The wall clock may be set while a
// connection is open, and this does not depend on it.
func (s *Server) now() time.Duration { return time.Since(s.started) }

// Run waits for data on the connections that rest, until ctx ends. Then it starts a
// reader for each of them. Call it at most once.
func (s *Server) Run(ctx context.Context) { s.poller.run(ctx) }

// Wait waits until reading has ended on every connection that was served, and for all
// goroutines of all connections. No connection may be made or served during Wait.
func (s *Server) Wait() { s.wg.Wait() }

// Handler receives what a connection reads. The calls for one connection never overlap.
type Handler interface {
	// Message receives one complete message. b is valid until Message returns and may
	// be changed. After an error the connection only discards what arrives, until
	// Close or CloseNow. Message must not call Conn.Close, which waits for the reader.
	Message(text bool, b []byte) error
	// Closed is the last call, and there is exactly one. err is why reading ended:
	//   - the error of Message, as it is, or ErrTooLarge: Closed must cause a call of
	//     Conn.Close or Conn.CloseNow, because the connection is still open,
	//   - a *ProtocolError: the connection closes after the client had time to read
	//     the close code,
	//   - a *CloseError: the client has closed the connection,
	//   - another error: the connection is broken, or was closed here.
	Closed(err error)
}

// Conn is one connection. Its methods may be called concurrently; Begin, Append and
// Flush belong together and need one caller at a time.
type Conn struct {
	server    *Server
	net       net.Conn
	raw       syscall.RawConn // nil if transport is opaque
	transport transport
	phase     atomic.Uint32 // a phase
	lastRead  atomic.Int64  // a time of Server.now

	// Read state. The goroutine that reads has the rest in a reader.
	spent  amounts // see reader.charge; only the reader uses it
	warned bool    // the log has a warning that the client sends too much; likewise

	readMu    sync.Mutex // protects the following; held before poller.mu, never with writeMu
	readState readState
	mustRest  bool          // Rest was called while the reader did not wait
	handler   Handler       // nil before Serve
	ended     chan struct{} // closed when readState is ended; nil if nobody waits for that
	fd        int32         // in the poller, if readState was ever polled

	// Write state.
	writeMu  sync.Mutex  // protects the following; held while a write waits, never with readMu
	batch    *batch      // nil while nothing is gathered
	writeErr error       // nothing is written after it; net.ErrClosed after a close frame
	pinging  atomic.Bool // a ping is being written; not protected
}

// transport is how a connection can wait.
type transport uint8

const (
	opaque transport = iota // only with the methods of net.Conn
	plain                   // in the kernel
	secure                  // TLS: data in the kernel does not mean that there is data to read
)

// phase is how far the end of a connection is. It only grows.
type phase uint32

const (
	open     phase = iota // messages are handed over
	closing               // Close waits for the client to close; messages are discarded
	draining              // after a protocol error the client has a moment to read the code
	closed                // the connection below is closed or about to be
)

// readState is who reads a connection.
type readState uint8

const (
	unserved    readState = iota // nobody yet
	reading                      // a goroutine, which does not wait between two frames
	waiting                      // a goroutine, which waits between two frames
	interrupted                  // the same, after Rest has ended the wait
	polled                       // nobody until data arrives
	ended                        // nobody any more
)

// NewConn returns a connection above c, whose handshake is complete. Upgrade calls it.
func (s *Server) NewConn(c net.Conn) *Conn {
	conn := &Conn{server: s, net: c}
	conn.lastRead.Store(int64(s.now()))
	under, kind := c, plain
	if t, ok := c.(*tls.Conn); ok {
		under, kind = t.NetConn(), secure
	}
	if kernel, ok := under.(syscall.Conn); ok && canWait {
		if raw, err := kernel.SyscallConn(); err == nil {
			conn.raw, conn.transport = raw, kind
		}
	}
	return conn
}

// LastRead returns when bytes last arrived, with a reading of the monotonic clock.
func (c *Conn) LastRead() time.Time {
	return c.server.started.Add(time.Duration(c.lastRead.Load()))
}

// Serve starts to read, in a new goroutine, and returns at once. Call it once. If the
// connection was closed before, h gets only Closed.
func (c *Conn) Serve(h Handler) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	c.handler = h
	if c.readState == ended {
		c.server.wg.Go(func() { h.Closed(net.ErrClosed) })
		return
	}
	c.startUnserved()
}

// startUnserved starts the first reader of the connection, unless there was one. The
// caller holds c.readMu.
func (c *Conn) startUnserved() {
	if c.readState == unserved {
		c.server.wg.Add(1) // until reading ends
		c.startReader()
	}
}

// startReader starts a goroutine that reads. A new goroutine has a small stack. The
// caller holds c.readMu, and nobody reads.
func (c *Conn) startReader() {
	c.readState = reading
	go newReader(c).serve()
}

// Rest gives up the goroutine of a reader that waits between two frames. Reading goes
// on when data arrives. A reader that is inside a frame or a message, or is slowed, rests
// as soon as it waits. Rest does nothing if the connection cannot wait without a
// goroutine. After a ping or a pong a connection rests again by itself. Otherwise the
// caller decides when a connection is silent: a deadline for each wait would add a cost
// to every message.
func (c *Conn) Rest() {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	switch {
	case c.transport == opaque || !canPoll:
	case c.readState == waiting:
		c.interrupt()
	case c.readState == reading:
		c.mustRest = true
	}
}

// interrupt ends the wait of the reader as soon as it has begun and nothing has arrived.
// The caller holds c.readMu.
func (c *Conn) interrupt() {
	c.readState = interrupted
	_ = c.net.SetReadDeadline(time.Unix(1, 0))
}

// beginWait records that the reader waits between two frames. If rest is true, it waits
// only for what has arrived already.
func (c *Conn) beginWait(rest bool) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	c.readState = waiting
	if rest || c.mustRest {
		c.interrupt()
	}
	c.mustRest = false
}

// endWait records that the reader no longer waits, and reports whether it was
// interrupted.
func (c *Conn) endWait() (wasInterrupted bool) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	wasInterrupted = c.readState == interrupted
	c.readState = reading
	if wasInterrupted {
		_ = c.net.SetReadDeadline(time.Time{})
	}
	return wasInterrupted
}

// rest leaves the connection without a reader until data arrives or it is closed. If it
// returns false, the caller must continue to read.
func (c *Conn) rest() bool {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if !c.is(open) || !c.server.poller.add(c) {
		return false
	}
	c.readState = polled
	return true
}

// wake starts a reader for the connection if it rests.
func (c *Conn) wake() {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if c.readState == polled {
		c.server.poller.remove(c)
		c.startReader()
	}
}

// endReading records that nothing is read any more, and returns the handler.
func (c *Conn) endReading() Handler {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	c.readState = ended
	if c.ended != nil {
		close(c.ended)
	}
	return c.handler
}

// is reports whether the connection is in the phase.
func (c *Conn) is(p phase) bool { return c.phase.Load() == uint32(p) }

// enter moves the connection from one phase to the next, and reports whether it was in
// the first.
func (c *Conn) enter(from, to phase) bool {
	return c.phase.CompareAndSwap(uint32(from), uint32(to))
}
