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

// Config says how to connect. Auth and one of Credentials and Assignment are
// required; everything else has a default.
type Config struct {
	// Auth is the base URL of the auth service, http or https, for example
	// "https://auth.example.com". A path in it is kept.
	Auth string

	// Credentials say who logs in. They are asked once, by Connect.
	Credentials Credentials

	// Assignment takes up a session that was opened before instead of logging
	// in: what Session.Assignment returned, or what a backend handed over.
	// With nothing but Token set, auth is asked where to go. The session's
	// earlier stream ends: only the process that had it can continue it.
	Assignment *proto.Assignment

	// Key is what the session's tokens are bound to: whoever has stolen one and not
	// the key attaches nowhere. It is an Ed25519 key, or an ECDSA key on P-256, and
	// is never sent. Default: one that is made for the session and kept in memory.
	// With Assignment it must be the key that the login named, which another process
	// gets by Session.Key; nil for a session that was opened without.
	Key crypto.Signer
	// NoKey logs in without a key: the token alone opens the session.
	NoKey bool

	// Placement carries wishes about the node. Optional.
	Placement proto.Placement

	// OnState is told each change of the session's state, and OnReset each
	// loss of a stream. Both are called from one goroutine of the session, in
	// order, and the session does nothing else until they return: they must
	// not block, and must not call Close or Logout. OnReset is called before
	// the first message of the new stream can be received, and may use TrySend
	// to send again. Optional.
	OnState func(StateChange)
	OnReset func(Reset)

	// OnQueue is told when the login has to wait because every node is full, and
	// again each time it has moved up: Position, which counts from 1, and how long
	// it may take. It is called by Connect, which waits until ctx ends. Optional.
	OnQueue func(proto.Queued)

	// Dial opens the network connections, for auth and for the node. Default:
	// a net.Dialer. TLS configures https and wss. Default: the system's
	// roots. Both must be left empty when HTTPClient is set.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	TLS  *tls.Config

	// HTTPClient makes the requests, and its Transport, which must be an
	// *http.Transport or hand through to one, opens the WebSockets. Redirects
	// are never followed, since they would carry a secret elsewhere. Default:
	// a client of the session's own, with the proxy of the environment.
	HTTPClient *http.Client

	// Header is sent with every request, to auth and to the node: an Origin,
	// for example. It cannot replace what the protocol needs. Optional.
	Header http.Header

	// AttachTimeout bounds an attempt to attach, from dialling to the welcome.
	// Default: 5 s.
	AttachTimeout time.Duration

	// RequestTimeout bounds a request to auth. Default: 10 s.
	RequestTimeout time.Duration

	// Logger hears of what the session does, never of secrets or of messages.
	// Default: nothing is logged.
	Logger *slog.Logger

	// Rand draws from [0,1) for the waits between attempts. It is called from
	// one goroutine at a time. Default: math/rand/v2.
	Rand func() float64
}

const (
	defaultAttachTimeout  = 5 * time.Second
	defaultRequestTimeout = 10 * time.Second
)

// complete checks the configuration and returns it with the defaults filled
// in.
func (c Config) complete() (Config, error) {
	u, err := url.Parse(c.Auth)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return c, errors.New("usher: Config.Auth must be an http or https URL, for example https://auth.example.com")
	case u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return c, errors.New("usher: Config.Auth must be a base URL, without user, query and fragment")
	case (c.Credentials == nil) == (c.Assignment == nil):
		return c, errors.New("usher: set either Config.Credentials or Config.Assignment")
	case c.Assignment != nil && c.Assignment.Token == "":
		return c, errors.New("usher: Config.Assignment has no token")
	case c.Key != nil && c.NoKey:
		return c, errors.New("usher: set Config.Key or NoKey, not both")
	case c.HTTPClient != nil && (c.Dial != nil || c.TLS != nil):
		return c, errors.New("usher: with Config.HTTPClient, set Dial and TLS in its Transport")
	case c.AttachTimeout < 0 || c.RequestTimeout < 0:
		return c, errors.New("usher: a timeout of Config is negative")
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

// client returns what makes the requests, and how to let go of its idle
// connections at the end.
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

// checkAssignment refuses an answer of auth that this client cannot follow.
func checkAssignment(a proto.Assignment) error {
	u, err := url.Parse(a.Node.URL)
	switch {
	case a.Token == "" || len(a.Token) > proto.MaxTokenBytes:
		return errors.New("usher: auth gave no usable token")
	case err != nil || u.Host == "" || u.Scheme != "ws" && u.Scheme != "wss":
		return fmt.Errorf("usher: the URL of node %q is neither ws nor wss", a.Node.ID)
	case u.User != nil || u.Fragment != "":
		return fmt.Errorf("usher: the URL of node %q has a user or a fragment", a.Node.ID)
	}
	return nil
}
