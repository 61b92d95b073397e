package serve

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// forward forwards a port of this host to the address, as a container engine does
// for a published port.
func forward(t *testing.T, port int, to string) {
	t.Helper()
	ln, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
	if err != nil {
		t.Skipf("port %d is in use: %v", port, err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				inner, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer inner.Close()
				go io.Copy(inner, c)
				_, _ = io.Copy(c, inner)
			}()
		}
	}()
}

func TestPortDiscovery(t *testing.T) {
	const first = 21_460
	quiet := slog.New(slog.DiscardHandler)
	discoveries := []*portDiscovery{newPortDiscovery(quiet), newPortDiscovery(quiet)}
	for i, f := range discoveries {
		srv := httptest.NewServer(f.handler(http.NotFoundHandler()))
		defer srv.Close()
		forward(t, first+3*i+1, srv.Listener.Addr().String())
	}
	p, err := publicURLOf(fmt.Sprintf("ws://127.0.0.1:%d-%d", first, first+9), "node-1", &net.TCPAddr{IP: net.IPv4zero, Port: 7000}, false)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for i, f := range discoveries {
		want := fmt.Sprintf("ws://127.0.0.1:%d/v1/connect", first+3*i+1)
		if got, err := f.discover(ctx, p); err != nil || got != want {
			t.Errorf("%q, %v, want %s", got, err, want)
		}
	}
	// A server that answers every nonce with success is not this node.
	agreeable := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	defer agreeable.Close()
	forward(t, first+8, agreeable.Listener.Addr().String())
	lost := newPortDiscovery(quiet)
	ctx, cancel = context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if got, err := lost.discover(ctx, p); err == nil {
		t.Errorf("found %s, which leads to another process", got)
	}
}

func TestDefaultGateway(t *testing.T) {
	table := filepath.Join(t.TempDir(), "route")
	for content, want := range map[string]string{
		"Iface\tDestination\tGateway \tFlags\neth0\t000011AC\t00000000\t0001\neth0\t00000000\t010011AC\t0003\n": "172.17.0.1",
		"Iface\tDestination\tGateway\neth0\t00000000\t00000000\t0001\n":                                         "",
		"Iface\neth0 00000000 zz\n": "",
		"":                          "",
	} {
		if err := os.WriteFile(table, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := defaultGateway(table); got != want {
			t.Errorf("%q, want %q, of\n%s", got, want, content)
		}
	}
}
