package process

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestLimits(t *testing.T) {
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := LimitFlags{MaxConnections: 5, MaxConnectionsPerAddress: 2, UnlimitedNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.9/32")}}
	reg := prometheus.NewRegistry()
	ln := f.Limit(plain, 1000, reg).(*limitedListener)
	defer ln.Close()
	accepted := make(chan net.Conn, 10)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("x"))
			accepted <- c
		}
	}()
	dial := func(from string) (net.Conn, bool) {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("tcp", plain.Addr().String())
		if errors.Is(err, syscall.ECONNRESET) { // closed before the dial returned
			return nil, false
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		_, err = io.ReadFull(c, make([]byte, 1))
		return c, err == nil
	}
	var held []net.Conn
	for range 2 {
		if _, ok := dial("127.0.0.2"); !ok {
			t.Fatal("the first two were not let in")
		}
		held = append(held, <-accepted)
	}
	if _, ok := dial("127.0.0.2"); ok {
		t.Error("a third of one address was let in")
	}
	for range 3 {
		if _, ok := dial("127.0.0.9"); !ok {
			t.Error("one of a free network was not let in")
		}
		held = append(held, <-accepted)
	}
	if _, ok := dial("127.0.0.3"); ok {
		t.Error("a sixth of all was let in")
	}
	for limit, want := range map[string]float64{"all": 1, "address": 1} {
		if n := testutil.ToFloat64(ln.refused.WithLabelValues(limit)); n != want {
			t.Errorf("%v refused for %s, want %v", n, limit, want)
		}
	}
	held[0].Close()
	held[0].Close() // counts once
	if _, ok := dial("127.0.0.2"); !ok {
		t.Error("after one had gone the next was not let in")
	}
	(<-accepted).Close()
	for _, c := range held[1:] {
		c.Close()
	}
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if ln.open != 0 || len(ln.from) != 0 {
		t.Errorf("%d open, %v, after all have gone", ln.open, ln.from)
	}
}

func TestSourceOf(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7:1": "192.0.2.7/32", "[2001:db8:1:2:3:4:5:6]:1": "2001:db8:1:2::/64", "[::ffff:192.0.2.7]:1": "192.0.2.7/32",
	} {
		if got := sourceOf(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))); got.String() != want {
			t.Errorf("%s is of %s, want %s", addr, got, want)
		}
	}
	if p := sourceOf(&net.UnixAddr{Name: "x"}); p.IsValid() {
		t.Errorf("a socket file is of %s", p)
	}
}
