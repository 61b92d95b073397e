package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"github.com/usher-broker/usher/broker"
	"github.com/usher-broker/usher/proto"
)

// probeFlags say how the addresses of the nodes are watched.
type probeFlags struct {
	Probe         string        `help:"How the nodes' public addresses are watched: http asks as a client would, certificate included; tcp only opens a connection; none trusts them, for processes from which they cannot be reached." enum:"http,tcp,none" default:"http" placeholder:"HOW"`
	ProbeInterval time.Duration `help:"Time between two probes of a node." default:"2s" placeholder:"TIME"`
	ProbeTimeout  time.Duration `help:"Time a probe may take." default:"1s" placeholder:"TIME"`
	ProbeOut      int           `help:"Probes in a row that must fail for a node to get no sessions." default:"3" placeholder:"N"`
	ProbeIn       int           `help:"Probes in a row that must succeed for it to get some again." default:"2" placeholder:"N"`
	ProbeCA       string        `name:"probe-ca" help:"File of the certificates that the nodes' are verified with, in place of the system's." type:"path" placeholder:"FILE"`
}

func (f probeFlags) health() (broker.Health, error) {
	switch {
	case f.Probe == "none":
		return broker.Health{}, nil
	case f.ProbeInterval < 100*time.Millisecond || f.ProbeInterval > time.Hour:
		return broker.Health{}, usageError{"--probe-interval", fmt.Errorf("%v: must be 100ms to 1h", f.ProbeInterval)}
	case f.ProbeTimeout < 10*time.Millisecond || f.ProbeTimeout > time.Minute:
		return broker.Health{}, usageError{"--probe-timeout", fmt.Errorf("%v: must be 10ms to 1m", f.ProbeTimeout)}
	case f.ProbeOut < 1 || f.ProbeOut > 100:
		return broker.Health{}, usageError{"--probe-out", fmt.Errorf("%d: must be 1 to 100", f.ProbeOut)}
	case f.ProbeIn < 1 || f.ProbeIn > 100:
		return broker.Health{}, usageError{"--probe-in", fmt.Errorf("%d: must be 1 to 100", f.ProbeIn)}
	}
	return broker.Health{Interval: f.ProbeInterval, Timeout: f.ProbeTimeout, Out: f.ProbeOut, In: f.ProbeIn}, nil
}

// prober looks at nodes from outside.
type prober struct {
	tcp       bool
	transport *http.Transport
}

func (f probeFlags) prober() (*prober, error) {
	roots, err := readRoots(f.ProbeCA)
	if err != nil {
		return nil, usageError{"--probe-ca", err}
	}
	// No connection is kept: the next probe is to tell whether a new one can be
	// made.
	return &prober{tcp: f.Probe == "tcp", transport: &http.Transport{
		DisableKeepAlives: true, Proxy: nil, TLSClientConfig: &tls.Config{RootCAs: roots}, MaxResponseHeaderBytes: 16 << 10,
	}}, nil
}

// readRoots reads the certificates to verify others with; without a file they are
// the system's, which is nil.
func readRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := readSmall(file, 1<<20)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate in PEM", file)
	}
	return pool, nil
}

// Errors of a probe that are the answerer's.
var (
	errAnswer    = errors.New("not a node's answer")
	errOtherNode = errors.New("another node answers there")
)

// probe reports whether a client could get in at the node's URL. A node answers
// 426 to a request that is no handshake, and names itself; a page that is not
// found, a gateway that has lost its node, or another node does not.
func (p *prober) probe(ctx context.Context, node, raw string) error {
	u, err := url.Parse(raw)
	if err != nil {
		return err
	}
	switch u.Scheme {
	case "ws":
		u.Scheme = "http"
	case "wss":
		u.Scheme = "https"
	default:
		return fmt.Errorf("%q is not a ws or wss URL", raw)
	}
	if p.tcp {
		return p.dial(ctx, u)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	resp, err := p.transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	name := resp.Header.Get(proto.HeaderNode)
	switch {
	case resp.StatusCode != http.StatusUpgradeRequired:
		return fmt.Errorf("%w: %s", errAnswer, resp.Status)
	case name == "":
		return fmt.Errorf("%w: %s without the name of a node", errAnswer, resp.Status)
	case name != node:
		return fmt.Errorf("%w: %q", errOtherNode, name)
	}
	return nil
}

func (p *prober) dial(ctx context.Context, u *url.URL) error {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return err
	}
	return conn.Close()
}

// probeResults are the labels of how probes end.
var probeResults = []string{"ok", "refused", "timeout", "tls", "dns", "answer", "other_node", "failed"}

// probeResult is the label of how a probe ended.
func probeResult(err error) string {
	var network net.Error
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, errOtherNode):
		return "other_node"
	case errors.Is(err, errAnswer):
		return "answer"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.As(err, &certificate), errors.As(err, &record):
		return "tls"
	case errors.As(err, &dns):
		return "dns"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return "timeout"
	}
	return "failed"
}
