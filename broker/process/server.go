package process

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

// Server is an http.Server whose listener is bound before it serves. So port 0
// works, and the address answers before others learn of it.
type Server struct {
	HTTP *http.Server

	ln      net.Listener
	done    chan struct{}
	onClose []func()
}

// CloseTimeout is the time that requests to the ops port and to the private API get
// at the end of the process.
const CloseTimeout = 2 * time.Second

// Listen binds host:port, or unix:PATH. It replaces a socket file on which no
// process listens any more.
func Listen(addr string) (net.Listener, error) {
	path, ok := strings.CutPrefix(addr, "unix:")
	if !ok {
		return net.Listen("tcp", addr)
	}
	ln, err := net.Listen("unix", path)
	if !errors.Is(err, syscall.EADDRINUSE) || !isDeadSocket(path) {
		return ln, err
	}
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	return net.Listen("unix", path)
}

// isDeadSocket reports whether path is a socket on which no process listens. It says
// no when it cannot know: the queue of connections is full, or another user owns it.
func isDeadSocket(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&os.ModeSocket == 0 {
		return false
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// Serve serves h on the listener until Close.
func Serve(ln net.Listener, h http.Handler, log *slog.Logger) *Server {
	s := &Server{ln: ln, done: make(chan struct{}), HTTP: &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second, // does not apply to hijacked connections
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
	go func() {
		defer close(s.done)
		if err := s.HTTP.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			log.Error("HTTP server stopped unexpectedly", "addr", s.Addr(), "error", err)
		}
	}()
	return s
}

// Addr returns the address that the server listens on, in the form that Listen
// takes.
func (s *Server) Addr() string {
	if a, ok := s.ln.Addr().(*net.UnixAddr); ok {
		return "unix:" + a.Name
	}
	return s.ln.Addr().String()
}

// OnClose adds a function that Close calls first, such as one that ends requests which
// would not end by themselves. Call it before Close.
func (s *Server) OnClose(f func()) { s.onClose = append(s.onClose, f) }

// Close stops accepting connections and waits for the requests in progress, for
// timeout at most. Then it closes their connections.
func (s *Server) Close(timeout time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	for _, f := range s.onClose {
		f()
	}
	if err := s.HTTP.Shutdown(ctx); err != nil {
		_ = s.HTTP.Close()
	}
	<-s.done
}
