package main

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

// finder finds out which of several ports of a host leads to this process. A
// container does not know at which port of its host it is published; but it can
// knock at all of them, and hear which knock arrives.
type finder struct {
	knock string // known to this process alone, until it has knocked
	log   *slog.Logger
}

const (
	headerKnock  = "Usher-Knock"
	knockTimeout = time.Second
	knockAtOnce  = 32
	findAgain    = time.Second
	findTold     = time.Minute // between two warnings
)

func newFinder(log *slog.Logger) *finder { return &finder{knock: rand.Text(), log: log} }

// handler answers this process' own knocks, and hands on all else.
func (f *finder) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(headerKnock) == f.knock {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// find returns the URL with the port that leads here. It tries until ctx ends:
// a container may be running before its ports are published.
func (f *finder) find(ctx context.Context, p publicURL) (string, error) {
	var told time.Time
	for {
		for _, host := range f.hosts(p) {
			if port := f.look(ctx, p, host); port != 0 {
				f.log.Info("the public port is found", "port", port, "via", host)
				return p.at(port), nil
			}
		}
		if time.Since(told) > findTold {
			told = time.Now()
			f.log.Warn("no port leads here yet; is one of them published, and can it be reached from here?",
				"first", p.first, "last", p.last, "looked_at", f.hosts(p))
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("no port from %d to %d leads here", p.first, p.last)
		case <-time.After(findAgain):
		}
	}
}

// hosts are where to knock: at the public name, and at the gateway, which is
// the host of a container whose public name cannot be reached from within.
func (f *finder) hosts(p publicURL) []string {
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

// look knocks at all ports of a host, and returns the one that leads here, or 0.
func (f *finder) look(ctx context.Context, p publicURL, host string) (found int) {
	u, err := url.Parse(p.url)
	if err != nil {
		return 0
	}
	u.Scheme = map[string]string{"ws": "http", "wss": "https"}[u.Scheme]
	client := &http.Client{
		Timeout:       knockTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DisableKeepAlives: true,
			// Whose port it is the knock tells. Whether its certificate is good is
			// for auths to see, which probe the address as clients do.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: u.Hostname()},
		},
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	slots := make(chan struct{}, knockAtOnce)
	for port := p.first; port <= p.last; port++ {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			target := *u
			target.Host = net.JoinHostPort(host, strconv.Itoa(port))
			if f.knockAt(ctx, client, target.String()) {
				mu.Lock()
				defer mu.Unlock()
				found = port
			}
		})
	}
	all.Wait()
	return found
}

func (f *finder) knockAt(ctx context.Context, client *http.Client, target string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return false
	}
	req.Header.Set(headerKnock, f.knock)
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusNoContent
}

// defaultGateway reads the routing table of Linux. It returns "" if there is
// none, or no such route.
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
