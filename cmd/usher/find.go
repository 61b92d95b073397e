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
// knock at each of them with another word, and hear which word arrives. What is
// answered there does not count.
type finder struct {
	log *slog.Logger

	mu    sync.Mutex
	words map[string]int // at which port each was said
	heard int            // the port whose word has arrived, or 0
}

const (
	headerKnock  = "Usher-Knock"
	knockTimeout = time.Second
	knockAtOnce  = 32
	findAgain    = time.Second
	findTold     = time.Minute // between two warnings
)

func newFinder(log *slog.Logger) *finder { return &finder{log: log, words: map[string]int{}} }

// handler hears this process' own knocks, and hands on all else.
func (f *finder) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if word := r.Header.Get(headerKnock); word != "" && f.hear(word) {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (f *finder) hear(word string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	port, ok := f.words[word]
	if ok {
		f.heard = port
	}
	return ok
}

// find returns the URL with the port that leads here. It tries until ctx ends:
// a container may be running before its ports are published.
func (f *finder) find(ctx context.Context, p publicURL) (string, error) {
	var told time.Time
	for {
		for _, host := range f.hosts(p) {
			f.look(ctx, p, host)
			if port := f.found(); port != 0 {
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

// found returns the port whose word has arrived, or 0. All words are forgotten.
func (f *finder) found() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.words)
	return f.heard
}

// look knocks at all ports of a host.
func (f *finder) look(ctx context.Context, p publicURL, host string) {
	u, err := url.Parse(p.url)
	if err != nil {
		return
	}
	u.Scheme = map[string]string{"ws": "http", "wss": "https"}[u.Scheme]
	client := &http.Client{
		Timeout:       knockTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DisableKeepAlives: true,
			// Whose port it is the word tells. Whether its certificate is good is for
			// auths to see, which probe the address as clients do.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: u.Hostname()},
		},
	}
	var all sync.WaitGroup
	slots := make(chan struct{}, knockAtOnce)
	for port := p.first; port <= p.last; port++ {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			target := *u
			target.Host = net.JoinHostPort(host, strconv.Itoa(port))
			f.knock(ctx, client, target.String(), port)
		})
	}
	all.Wait()
}

func (f *finder) knock(ctx context.Context, client *http.Client, target string, port int) {
	word := rand.Text()
	f.mu.Lock()
	f.words[word] = port
	f.mu.Unlock()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return
	}
	req.Header.Set(headerKnock, word)
	if resp, err := client.Do(req); err == nil {
		resp.Body.Close()
	}
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
