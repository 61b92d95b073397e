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

	"github.com/usher-broker/usher/broker/process"
)

// spareFiles is the number of files that a process needs in addition to one for each
// session: its own, and new connections while old ones close.
const spareFiles = 1000

// files checks how many files, and so connections, a process may have open.
func (d *doctor) files() {
	limit, err := process.OpenFiles()
	switch need := uint64(d.MaxSessions) + spareFiles; {
	case err != nil:
		d.skip("files", "%v", err)
	case limit < need:
		d.wrong("files", fmt.Sprintf("a process may open %d files; %d sessions need %d", limit, d.MaxSessions, need),
			"raise the limit: LimitNOFILE= (systemd), ulimits: nofile (Compose), ulimit -n; or start nodes with a lower --max-sessions")
	default:
		d.ok("files", "a process may open %d files, enough for %d sessions", limit, d.MaxSessions)
	}
}

// kernel checks the limit of the kernel's queue of connections that are not accepted
// yet. When a node has died, many clients connect at the same time.
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
		d.warn("kernel", fmt.Sprintf("net.core.somaxconn is %d: many clients that reconnect at the same time may be refused", n), "sysctl -w net.core.somaxconn=4096")
	default:
		d.ok("kernel", "net.core.somaxconn is %d", n)
	}
}

// ports checks whether --listen can be bound.
func (d *doctor) ports() {
	if d.Listen == "" {
		d.skip("listen", "--listen is not set")
	} else {
		d.port("listen", d.Listen)
	}
}

func (d *doctor) port(check, addr string) {
	ln, err := process.ListenTCP(addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		d.warn(check, fmt.Sprintf("%s is in use", addr), "if usher does not run on this machine yet, \"ss -ltnp\" shows the process. Of a range (:7000-7099) the first free port is used")
	case errors.Is(err, syscall.EACCES):
		d.wrong(check, fmt.Sprintf("this user may not bind %s", addr), "use a port from 1024 up, or sysctl -w net.ipv4.ip_unprivileged_port_start=443")
	case err != nil:
		d.wrong(check, err.Error(), "use an address of this machine (\"ip addr\" lists them), or none, as in :7000")
	default:
		defer ln.Close()
		d.ok(check, "%s is free", ln.Addr())
		if host, _, _ := net.SplitHostPort(ln.Addr().String()); net.ParseIP(host).IsLoopback() {
			d.warn(check, "clients on other machines cannot connect to "+host, "listen on an address that they can connect to, and see --advertise")
		}
	}
}

// ops checks a process on this machine by its ops port.
func (d *doctor) ops(ctx context.Context) {
	if d.Ops == "" {
		d.skip("process", "--ops is not set")
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
		d.wrong("process", fmt.Sprintf("no answer at %s: %v", d.Ops, err), "is the process running? Its log has the address of its ops port")
		return
	case status != http.StatusOK:
		d.wrong("process", "it is not ready: "+strings.TrimSpace(body), "docs/operations.md explains the names")
	case strings.Contains(body, "was ok before, now: "): // as process.ServeOps says it
		d.warn("process", "it is ready, but: "+strings.TrimSpace(body), "docs/operations.md explains the names")
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
