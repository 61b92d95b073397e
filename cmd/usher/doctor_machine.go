package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// spareFiles are what a process needs beside its connections, and what comes in
// while others leave.
const spareFiles = 1000

// files looks at how many connections a process may have.
func (d *doctor) files() {
	most, err := openFiles()
	switch need := uint64(d.MaxSessions) + spareFiles; {
	case err != nil:
		d.skip("files", "%v", err)
	case most < need:
		d.wrong("files", fmt.Sprintf("a process may open %d files; %d sessions need %d", most, d.MaxSessions, need),
			"raise it: LimitNOFILE= (systemd), ulimits: nofile (Compose), ulimit -n; or start nodes with a lower --max-sessions")
	default:
		d.ok("files", "a process may open %d files, enough for %d sessions", most, d.MaxSessions)
	}
}

// kernel looks at the queue of connections that nobody has accepted yet: after a
// node has died many come at once.
func (d *doctor) kernel() {
	const name = "/proc/sys/net/core/somaxconn"
	text, err := os.ReadFile(name)
	if err != nil {
		d.skip("kernel", "%s cannot be read here", name)
		return
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	switch {
	case err != nil:
		d.skip("kernel", "%s: %v", name, err)
	case n < 1024:
		d.warn("kernel", fmt.Sprintf("net.core.somaxconn is %d: a storm of clients that come back may be refused", n), "sysctl -w net.core.somaxconn=4096")
	default:
		d.ok("kernel", "net.core.somaxconn is %d", n)
	}
}

// ports looks whether the addresses can be had.
func (d *doctor) ports() {
	if d.Listen == "" {
		d.skip("listen", "no --listen was named")
	} else {
		d.port("listen", d.Listen)
	}
}

func (d *doctor) port(check, addr string) {
	ln, err := listenTCP(addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		d.warn(check, fmt.Sprintf("%s is taken", addr), "by usher, if it runs here already; otherwise «ss -ltnp» says by whom. A range (:7000-7099) takes the first free port")
	case errors.Is(err, syscall.EACCES):
		d.wrong(check, fmt.Sprintf("%s may not be bound by this user", addr), "take a port from 1024 on, or sysctl net.ipv4.ip_unprivileged_port_start=443")
	case err != nil:
		d.wrong(check, err.Error(), "name an address of this machine («ip addr»), or none, as in :7000")
	default:
		defer ln.Close()
		d.ok(check, "%s is free", ln.Addr())
		// What the nodes of a cluster cannot use is worth a word.
		if host, _, _ := net.SplitHostPort(ln.Addr().String()); net.ParseIP(host).IsLoopback() {
			d.warn(check, "clients on other machines do not reach "+host, "listen on an address that they reach, and see --advertise")
		}
	}
}

// ops asks a process on this machine.
func (d *doctor) ops(ctx context.Context) {
	if d.Ops == "" {
		d.skip("process", "no --ops was named")
		return
	}
	client, base := opsClient(d.Ops)
	get := func(path string) (int, string, error) {
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
		if err != nil {
			return 0, "", err
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
		return resp.StatusCode, string(body), err
	}
	status, body, err := get("/readyz")
	switch {
	case err != nil:
		d.wrong("process", fmt.Sprintf("nobody answers at %s: %v", d.Ops, err), "is the process running? Its log names its ops door")
		return
	case status != http.StatusOK:
		d.wrong("process", "it is not ready: "+strings.TrimSpace(body), "the names are those of docs/operations.md")
	case strings.Contains(body, "is not now"):
		d.warn("process", "it is ready, but: "+strings.TrimSpace(body), "the names are those of docs/operations.md")
	default:
		d.ok("process", "it is ready")
	}
	if _, body, err = get("/metrics"); err != nil {
		return
	}
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(line, "usher_tls_certificate_expiry_timestamp_seconds "); ok {
			if at, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil {
				d.expires("process", "its certificate", time.Unix(int64(at), 0))
			}
		}
	}
}
