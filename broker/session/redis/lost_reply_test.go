package redis_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/session/redis"
	"github.com/usher-broker/usher/broker/session/redistest"
)

// If the reply to a script is lost with its connection, the client must not run the
// script again by itself. The caller may repeat the call with its request id.
func TestLostReply(t *testing.T) {
	t.Run("server", func(t *testing.T) {
		p := newProxy(t)
		server := redistest.Start(t)
		p.serve(server.Addr())
		lostReply(t, p, server, "redis://"+p.addr())
	})
	t.Run("cluster", func(t *testing.T) { // of one master, which calls itself by the proxy's port
		p := newProxy(t)
		_, port, _ := net.SplitHostPort(p.addr())
		server := redistest.Start(t, "--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1", "--cluster-announce-port", port)
		p.serve(server.Addr())
		if err := client(t, server.Addr()).ClusterAddSlotsRange(t.Context(), 0, 16383).Err(); err != nil {
			t.Fatal(err)
		}
		lostReply(t, p, server, "redis-cluster://"+p.addr())
	})
}

func lostReply(t *testing.T, p *proxy, server *redistest.Server, url string) {
	s := open(t, url, redis.Options{Timeout: testTimeout})
	for s.Ping(t.Context()) != nil { // a new cluster needs a moment
		time.Sleep(10 * time.Millisecond)
	}
	// The server gets the script now, so that the next call sends one command.
	if _, _, err := s.Create(t.Context(), "r1", record("ada"), session.Rule{}, time.Hour); err != nil {
		t.Fatal(err)
	}
	r := record("ada")
	before := scriptsRun(t, server)

	p.lose.Store(true)
	_, _, err := s.Create(t.Context(), "r2", r, session.Rule{}, time.Hour)
	if !errors.Is(err, session.ErrUnavailable) {
		t.Fatalf("the reply was lost: %v", err)
	}
	if n := scriptsRun(t, server) - before; n != 1 {
		t.Errorf("the script was run %d times", n)
	}
	got, _, err := s.Create(t.Context(), "r2", r, session.Rule{}, time.Hour)
	if err != nil || got.ID != r.ID || got.Epoch != 1 {
		t.Errorf("repeated: %+v, %v", got, err)
	}
}

// scriptsRun returns how often the server has run a cached script.
func scriptsRun(t *testing.T, server *redistest.Server) int {
	t.Helper()
	info, err := client(t, server.Addr()).Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(info, "cmdstat_evalsha:calls=")
	n, err := strconv.Atoi(rest[:max(0, strings.IndexByte(rest, ','))])
	if err != nil {
		t.Fatalf("%v in %q", err, info)
	}
	return n
}

// proxy forwards connections to a server and can lose the reply to a script: instead of
// forwarding it, the proxy closes the connection. The next connection works again. It
// forwards the replies to what the client asks by itself, such as the map of a cluster.
type proxy struct {
	lose atomic.Bool
	l    net.Listener
	wg   sync.WaitGroup
}

func newProxy(t *testing.T) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l}
	t.Cleanup(func() {
		_ = l.Close()
		p.wg.Wait() // the store has closed its connections by now
	})
	return p
}

func (p *proxy) addr() string { return p.l.Addr().String() }

// serve starts to forward connections to the server.
func (p *proxy) serve(to string) {
	p.wg.Go(func() {
		for {
			in, err := p.l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			var script atomic.Bool // the last request was a script
			p.wg.Go(func() {
				defer out.Close()
				_, _ = io.Copy(out, io.TeeReader(in, requestWriter{&script}))
			})
			p.wg.Go(func() {
				defer in.Close()
				p.replies(in, out, &script)
			})
		}
	})
}

// requestWriter records whether what is written to it is a script.
type requestWriter struct{ script *atomic.Bool }

func (w requestWriter) Write(b []byte) (int, error) {
	w.script.Store(bytes.Contains(b, []byte("evalsha")))
	return len(b), nil
}

func (p *proxy) replies(in io.Writer, out io.Reader, script *atomic.Bool) {
	buf := make([]byte, 1<<16)
	for {
		n, err := out.Read(buf)
		if err != nil || script.Load() && p.lose.CompareAndSwap(true, false) {
			return
		}
		if _, err := in.Write(buf[:n]); err != nil {
			return
		}
	}
}

// The store finds a slot after it has moved to another master.
func TestMovedSlot(t *testing.T) {
	c := redistest.StartCluster(t)
	s := open(t, c.URL(), redis.Options{Timeout: testTimeout})
	if _, _, err := s.Create(t.Context(), "r1", record("bob"), session.Rule{}, time.Hour); err != nil { // the client knows the map of the slots now
		t.Fatal(err)
	}
	first := client(t, c.Servers[0].Addr())
	slot, err := first.ClusterKeySlot(t.Context(), session.Tag("ada")).Result()
	if err != nil {
		t.Fatal(err)
	}
	// It moves to the next master; the servers are in the order of their slots.
	to := (int(slot)*len(c.Servers)/16384 + 1) % len(c.Servers)
	id, err := client(t, c.Servers[to].Addr()).ClusterMyID(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	for i := range c.Servers { // the new owner first
		server := c.Servers[(to+i)%len(c.Servers)]
		if err := client(t, server.Addr()).Do(t.Context(), "cluster", "setslot", slot, "node", id).Err(); err != nil {
			t.Fatal(err)
		}
	}
	r, _, err := s.Create(t.Context(), "r2", record("ada"), session.Rule{}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	r.State = session.Attached
	if err := s.Renew(t.Context(), []session.Record{r}, []time.Duration{time.Hour})[0]; err != nil {
		t.Error(err)
	}
	if n, err := client(t, c.Servers[to].Addr()).ClusterCountKeysInSlot(t.Context(), int(slot)).Result(); err != nil || n != 2 {
		t.Errorf("the new owner holds %d keys, %v", n, err)
	}
}
