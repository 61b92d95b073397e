package upgrade

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// front passes connections on to the auths, as a load balancer does: each connection
// to the next auth that accepts it.
type front struct {
	listener net.Listener
	auths    []string
	wg       sync.WaitGroup

	mu     sync.Mutex
	next   int
	open   map[net.Conn]struct{}
	closed bool
}

// startFront starts a front that ends with the test.
func startFront(t *testing.T, auths ...string) *front {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{listener: ln, auths: auths, open: map[net.Conn]struct{}{}}
	f.wg.Go(f.accept)
	t.Cleanup(f.close)
	return f
}

func (f *front) url() string { return "http://" + f.listener.Addr().String() }

func (f *front) accept() {
	for {
		client, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.wg.Go(func() { f.pass(client) })
	}
}

// pass copies both ways until one side closes.
func (f *front) pass(client net.Conn) {
	defer client.Close()
	auth := f.dial()
	if auth == nil {
		return
	}
	defer auth.Close()
	if !f.register(client, auth) {
		return
	}
	defer f.unregister(client, auth)
	var other sync.WaitGroup
	other.Go(func() {
		_, _ = io.Copy(auth, client)
		auth.Close()
	})
	_, _ = io.Copy(client, auth)
	client.Close()
	other.Wait()
}

// dial returns a connection to the next auth that accepts one, or nil.
func (f *front) dial() net.Conn {
	f.mu.Lock()
	first := f.next
	f.next++
	f.mu.Unlock()
	for i := range f.auths {
		c, err := net.DialTimeout("tcp", f.auths[(first+i)%len(f.auths)], time.Second)
		if err == nil {
			return c
		}
	}
	return nil
}

func (f *front) register(list ...net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range list {
		f.open[c] = struct{}{}
	}
	return !f.closed
}

func (f *front) unregister(list ...net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range list {
		delete(f.open, c)
	}
}

func (f *front) close() {
	f.listener.Close()
	f.mu.Lock()
	f.closed = true
	for c := range f.open {
		c.Close()
	}
	f.mu.Unlock()
	f.wg.Wait()
}
