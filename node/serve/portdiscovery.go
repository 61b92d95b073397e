package serve

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// portDiscovery finds out which of several ports of a host leads to this process.
// A container does not know the port at which its host publishes it. So the
// process sends a random nonce to each candidate port, and uses the port on which
// its own nonce comes back. The answers to these requests are not used.
type portDiscovery struct {
	log *slog.Logger

	mu     sync.Mutex
	nonces map[string]int // the port that each was sent to
	found  int            // the port whose nonce came back, or 0
}

const (
	// headerNonce carries the nonce.
	headerNonce      = "Usher-Port-Nonce"
	nonceTimeout     = time.Second
	noncesAtOnce     = 32
	discoverInterval = time.Second
	warnInterval     = time.Minute
)

func newPortDiscovery(log *slog.Logger) *portDiscovery {
	return &portDiscovery{log: log, nonces: map[string]int{}}
}

// handler answers requests with a nonce of this process, and passes all others to
// next.
func (d *portDiscovery) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if nonce := r.Header.Get(headerNonce); nonce != "" && d.receive(nonce) {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (d *portDiscovery) receive(nonce string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	port, ok := d.nonces[nonce]
	if ok {
		d.found = port
	}
	return ok
}

// discover returns the URL with the port that leads to this process. It tries until
// ctx ends: a container may run before its ports are published.
func (d *portDiscovery) discover(ctx context.Context, p publicURL) (string, error) {
	var warned time.Time
	for {
		for _, host := range d.hosts(p) {
			d.try(ctx, p, host)
			if port := d.result(); port != 0 {
				d.log.Info("public port found", "port", port, "via", host)
				return p.at(port), nil
			}
		}
		if time.Since(warned) > warnInterval {
			warned = time.Now()
			d.log.Warn("no port of --advertise leads to this node yet: check that one of them is published and can be reached from here",
				"first", p.first, "last", p.last, "hosts", d.hosts(p))
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("no port from %d to %d leads to this node", p.first, p.last)
		case <-time.After(discoverInterval):
		}
	}
}

// hosts returns the hosts to try: the public name, and the default gateway, which
// is the host of a container that cannot reach its own public name.
func (d *portDiscovery) hosts(p publicURL) []string {
	u, err := url.Parse(p.url)
	if err != nil {
		return nil
	}
	hosts := []string{u.Hostname()}
	if gateway := defaultGateway("/proc/net/route"); gateway != "" && gateway != hosts[0] {
		hosts = append(hosts, gateway)
	}
	return hosts
}

// result returns the port whose nonce came back, or 0, and forgets all nonces.
func (d *portDiscovery) result() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.nonces)
	return d.found
}

// try sends a nonce to each port of the host.
func (d *portDiscovery) try(ctx context.Context, p publicURL, host string) {
	u, err := url.Parse(p.url)
	if err != nil {
		return
	}
	u.Scheme = map[string]string{"ws": "http", "wss": "https"}[u.Scheme]
	client := &http.Client{
		Timeout:       nonceTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DisableKeepAlives: true,
			// The nonce identifies the process, so the certificate need not be verified
			// here. Auths probe the address and verify it as clients do.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: u.Hostname()},
		},
	}
	var all sync.WaitGroup
	slots := make(chan struct{}, noncesAtOnce)
	for port := p.first; port <= p.last; port++ {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			target := *u
			target.Host = net.JoinHostPort(host, strconv.Itoa(port))
			d.send(ctx, client, target.String(), port)
		})
	}
	all.Wait()
}

func (d *portDiscovery) send(ctx context.Context, client *http.Client, target string, port int) {
	nonce := rand.Text()
	d.mu.Lock()
	d.nonces[nonce] = port
	d.mu.Unlock()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return
	}
	req.Header.Set(headerNonce, nonce)
	if resp, err := client.Do(req); err == nil {
		resp.Body.Close()
	}
}

// defaultGateway reads a routing table in the format of Linux. It returns "" if
// there is no table or no default route.
func defaultGateway(table string) string {
	f, err := os.Open(table)
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// Iface Destination Gateway Flags …, numbers in hexadecimal, little-endian
		fields := strings.Fields(lines.Text())
		if len(fields) < 3 || fields[1] != "00000000" {
			continue
		}
		b, err := hex.DecodeString(fields[2])
		if err != nil || len(b) != net.IPv4len {
			continue
		}
		slices.Reverse(b)
		if ip := net.IP(b); !ip.IsUnspecified() {
			return ip.String()
		}
	}
	return ""
}
