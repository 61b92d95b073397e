package main

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

// server is an http.Server that is bound before it serves, so that port 0
// works and nobody is told of an address that is not there yet.
type server struct {
	ln   net.Listener
	http *http.Server
	done chan struct{}
}

// listen binds host:port, or unix:PATH. A socket file that nobody listens on
// any more is replaced.
func listen(addr string) (net.Listener, error) {
	path, ok := strings.CutPrefix(addr, "unix:")
	if !ok {
		return net.Listen("tcp", addr)
	}
	ln, err := net.Listen("unix", path)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return ln, err
	}
	if c, dialErr := net.Dial("unix", path); dialErr == nil {
		c.Close()
		return nil, err
	}
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	return net.Listen("unix", path)
}

func serveOn(ln net.Listener, h http.Handler, log *slog.Logger) *server {
	s := &server{ln: ln, done: make(chan struct{}), http: &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second, // ends with the handler: hijacked connections are not meant
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
	go func() {
		defer close(s.done)
		if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			log.Error("server ended", "addr", s.addr(), "error", err)
		}
	}()
	return s
}

// addr is where the server listens, in the form that listen takes.
func (s *server) addr() string {
	if a, ok := s.ln.Addr().(*net.UnixAddr); ok {
		return "unix:" + a.Name
	}
	return s.ln.Addr().String()
}

// close stops accepting, waits for requests under way until ctx ends, and
// then cuts them.
func (s *server) close(ctx context.Context) {
	if err := s.http.Shutdown(ctx); err != nil {
		_ = s.http.Close()
	}
	<-s.done
}

// closers are run in the reverse order of their addition.
type closers []func()

func (c *closers) add(f func()) { *c = append(*c, f) }

func (c *closers) close() {
	for i := len(*c) - 1; i >= 0; i-- {
		(*c)[i]()
	}
	*c = nil
}
