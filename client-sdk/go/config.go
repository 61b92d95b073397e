package usher

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/usher-broker/usher/proto"
)

// Config configures Connect. Auth and one of Credentials and Assignment are
// required; all other fields have a default.
type Config struct {
	// Auth is the base URL of the auth service, http or https, for example
	// "https://auth.example.com". It may have a path.
	Auth string

	// Credentials returns the credentials of the user. Connect calls it once.
	Credentials Credentials

	// Assignment continues a session that was opened before, instead of a login:
	// the result of Session.Assignment, or an assignment that a backend made. If
	// only Token is set, Connect asks auth for the node. The earlier stream of the
	// session ends: only the process that had it can continue it.
	Assignment *proto.Assignment

	// Key is the key that the session's tokens are bound to: a stolen token is of no
	// use without it. It is an Ed25519 key, or an ECDSA key on P-256, and is never
	// sent. Default: a new key, kept in memory. With Assignment it must be the key of
	// the login, which another process gets with Session.Key, or nil for a session
	// that was opened without a key.
	Key crypto.Signer
	// NoKey logs in without a key: the token alone opens the session.
	NoKey bool

	// Placement holds requirements and preferences for the node. Optional.
	Placement proto.Placement

	// OnState is called after each change of the session's state, OnReset after each
	// loss of a stream. One goroutine of the session calls both, in order, and the
	// session does nothing else until they return: they must not block, and must not
	// call Close or Logout. OnReset is called before the first message of the new
	// stream can be received, and may use TrySend to send messages again. Optional.
	OnState func(StateChange)
	OnReset func(Reset)

	// OnQueue is called when the login has to wait because every node is full, and
	// again after each later answer, with the position (1 is next) and the estimated
	// wait. Connect calls it, and waits until the login is admitted or ctx ends.
	// Optional.
	OnQueue func(proto.Queued)

	// Dial opens the network connections to auth and to the node. Default: a
	// net.Dialer. TLS configures https and wss. Default: the root certificates of
	// the system. Both must be empty if HTTPClient is set.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	TLS  *tls.Config

	// HTTPClient makes the requests. Its Transport opens the WebSockets; it must be
	// an *http.Transport or delegate to one. Redirects are never followed, because
	// they would send a secret to another host. Default: a new client with the proxy
	// of the environment.
	HTTPClient *http.Client

	// Header is sent with every request to auth and to the node, for example an
	// Origin. It cannot replace headers of the protocol. Optional.
	Header http.Header

	// AttachTimeout limits an attempt to attach, from dialling to the welcome.
	// Default: 5 s.
	AttachTimeout time.Duration

	// RequestTimeout limits a request to auth. Default: 10 s.
	RequestTimeout time.Duration

	// Logger logs what the session does, never secrets or messages. Default: no log.
	Logger *slog.Logger

	// Rand returns a random number in [0,1) for the waits between attempts. It is
	// called from one goroutine at a time. Default: math/rand/v2.
	Rand func() float64
}

const (
	defaultAttachTimeout  = 5 * time.Second
	defaultRequestTimeout = 10 * time.Second
)

// complete checks the configuration and returns it with its defaults set.
func (c Config) complete() (Config, error) {
	u, err := url.Parse(c.Auth)
	switch invalid := err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https"; {
	case invalid && strings.Contains(c.Auth, "@"): // it may have a password
		return c, errors.New("usher: Config.Auth must be an http or https URL without user, for example https://auth.example.com")
	case invalid:
		return c, fmt.Errorf("usher: Config.Auth is %q, must be an http or https URL, for example https://auth.example.com", c.Auth)
	case u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return c, errors.New("usher: Config.Auth must be a base URL without user, query and fragment")
	case (c.Credentials == nil) == (c.Assignment == nil):
		return c, errors.New("usher: set either Config.Credentials or Config.Assignment")
	case c.Assignment != nil && c.Assignment.Token == "":
		return c, errors.New("usher: Config.Assignment has no token")
	case c.Key != nil && c.NoKey:
		return c, errors.New("usher: set either Config.Key or Config.NoKey, not both")
	case c.HTTPClient != nil && (c.Dial != nil || c.TLS != nil):
		return c, errors.New("usher: Config.HTTPClient is set: set Dial and TLS in its Transport, not in Config")
	case c.AttachTimeout < 0 || c.RequestTimeout < 0:
		return c, fmt.Errorf("usher: Config.AttachTimeout %s and Config.RequestTimeout %s must not be negative", c.AttachTimeout, c.RequestTimeout)
	}
	c.Auth = strings.TrimRight(c.Auth, "/")
	if c.AttachTimeout == 0 {
		c.AttachTimeout = defaultAttachTimeout
	}
	if c.RequestTimeout == 0 {
		c.RequestTimeout = defaultRequestTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Rand == nil {
		c.Rand = rand.Float64
	}
	return c, nil
}

// client returns the HTTP client for all requests, and a function that closes its
// idle connections at the end.
func (c Config) client() (client *http.Client, release func()) {
	release = func() {}
	if c.HTTPClient != nil {
		own := *c.HTTPClient
		client = &own
	} else {
		t := &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: c.Dial, TLSClientConfig: c.TLS,
			TLSHandshakeTimeout: c.AttachTimeout, IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: 64 << 10,
		}
		client, release = &http.Client{Transport: t}, t.CloseIdleConnections
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return client, release
}

// checkAssignment returns an error for an assignment that the client cannot use.
func checkAssignment(a proto.Assignment) error {
	u, err := url.Parse(a.Node.URL)
	switch {
	case a.Token == "" || len(a.Token) > proto.MaxTokenBytes:
		return fmt.Errorf("usher: assignment: the token has %d bytes, must have 1 to %d", len(a.Token), proto.MaxTokenBytes)
	case err != nil || u.Host == "" || u.Scheme != "ws" && u.Scheme != "wss":
		return fmt.Errorf("usher: assignment: the URL of node %q must begin with ws:// or wss:// and a host", a.Node.ID)
	case u.User != nil || u.Fragment != "":
		return fmt.Errorf("usher: assignment: the URL of node %q must not have a user or a fragment", a.Node.ID)
	}
	return nil
}
