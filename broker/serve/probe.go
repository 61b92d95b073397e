package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"github.com/usher-broker/usher/broker"
	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/proto"
)

// ProbeFlags say how a broker checks that clients can reach the nodes.
type ProbeFlags struct {
	Probe         string        `help:"How the public addresses of the nodes are probed: http sends a request as a client would and verifies the certificate; tcp only opens a connection; none does not probe, for processes that cannot reach the nodes." enum:"http,tcp,none" default:"http" placeholder:"HOW"`
	ProbeInterval time.Duration `help:"Time between two probes of a node." default:"2s" placeholder:"TIME"`
	ProbeTimeout  time.Duration `help:"Time limit of a probe." default:"1s" placeholder:"TIME"`
	ProbeOut      int           `help:"Failed probes in a row after which a node gets no sessions." default:"3" placeholder:"N"`
	ProbeIn       int           `help:"Successful probes in a row after which it gets sessions again." default:"2" placeholder:"N"`
	ProbeCA       string        `name:"probe-ca" help:"PEM file of the authorities that the nodes' certificates are verified with, in place of the system's." type:"path" placeholder:"FILE"`
}

func (f ProbeFlags) health() (broker.Health, error) {
	switch {
	case f.Probe == "none":
		return broker.Health{}, nil
	case f.ProbeInterval < 100*time.Millisecond || f.ProbeInterval > time.Hour:
		return broker.Health{}, process.FlagError{Flag: "--probe-interval", Err: fmt.Errorf("%v: must be 100ms to 1h", f.ProbeInterval)}
	case f.ProbeTimeout < 10*time.Millisecond || f.ProbeTimeout > time.Minute:
		return broker.Health{}, process.FlagError{Flag: "--probe-timeout", Err: fmt.Errorf("%v: must be 10ms to 1m", f.ProbeTimeout)}
	case f.ProbeOut < 1 || f.ProbeOut > 100:
		return broker.Health{}, process.FlagError{Flag: "--probe-out", Err: fmt.Errorf("%d: must be 1 to 100", f.ProbeOut)}
	case f.ProbeIn < 1 || f.ProbeIn > 100:
		return broker.Health{}, process.FlagError{Flag: "--probe-in", Err: fmt.Errorf("%d: must be 1 to 100", f.ProbeIn)}
	}
	return broker.Health{Interval: f.ProbeInterval, Timeout: f.ProbeTimeout, Out: f.ProbeOut, In: f.ProbeIn}, nil
}

// probe returns the function that probes a node, or nil for no probes.
func (f ProbeFlags) probe() (func(ctx context.Context, node, url string) error, error) {
	if f.Probe == "none" {
		return nil, nil
	}
	p, err := f.NewProber()
	if err != nil {
		return nil, err
	}
	return p.Probe, nil
}

// Prober probes nodes at their public addresses.
type Prober struct {
	tcp       bool
	transport *http.Transport
}

// NewProber returns a Prober for the flags. Probe must not be "none".
func (f ProbeFlags) NewProber() (*Prober, error) {
	roots, err := process.ReadRoots(f.ProbeCA)
	if err != nil {
		return nil, process.FlagError{Flag: "--probe-ca", Err: err}
	}
	// Connections are not reused: each probe checks that a new one can be opened.
	return &Prober{tcp: f.Probe == "tcp", transport: &http.Transport{
		DisableKeepAlives: true, Proxy: nil, TLSClientConfig: &tls.Config{RootCAs: roots}, MaxResponseHeaderBytes: 16 << 10,
	}}, nil
}

// Errors of a probe that got an answer.
var (
	errAnswer    = errors.New("the answer is not a node's")
	errOtherNode = errors.New("another node answers")
)

// Probe reports whether a client could attach at the node's URL. A node answers
// 426 with its id to a request that is not a WebSocket handshake. A missing page,
// a gateway without its node, or another node answer differently.
func (p *Prober) Probe(ctx context.Context, node, raw string) error {
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

func (p *Prober) dial(ctx context.Context, u *url.URL) error {
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

// probeResults are the metric labels for the results of probes.
var probeResults = []string{"ok", "refused", "timeout", "tls", "dns", "answer", "other_node", "failed"}

// probeResult returns the metric label for the result of a probe.
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
