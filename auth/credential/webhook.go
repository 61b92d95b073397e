package credential

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/sony/gobreaker/v2"

	"github.com/usher-broker/usher/proto"
)

// Headers of the request of a Webhook.
const (
	HeaderTimestamp   = "Usher-Timestamp" // Unix time in seconds
	HeaderSignature   = "Usher-Signature" // see Sign
	HeaderIdempotency = "Idempotency-Key" // the same when the request is repeated
)

// WebhookConfig says whom a Webhook asks.
type WebhookConfig struct {
	URL    string
	Secret []byte // that both sides know, MinSecretBytes or more
	// Timeout bounds one request. Default 1.2 s, so that two fit into what auth
	// gives a provider.
	Timeout time.Duration
	TLS     *tls.Config // default: the system's
}

// MinSecretBytes is the least length of a secret that requests are signed with.
const MinSecretBytes = 16

// Webhook asks a service of the operator's own who the credentials belong to,
// whatever these are. It is safe for concurrent use.
//
// The request is a POST of {"credentials":…}, signed. The answer is 200 and
// {"user":"ada","ext":…} for somebody; 401 or 403 for nobody; 400 or 422 for
// credentials that have the wrong form. Anything else is a failure of the
// service: the request is repeated once, with the same Idempotency-Key, and after
// some failures in a row the service is left alone for a while.
type Webhook struct {
	cfg     WebhookConfig
	client  *http.Client
	breaker *gobreaker.CircuitBreaker[Identity]
}

const (
	webhookTries    = 2
	webhookPause    = 50 * time.Millisecond // before it is repeated, at the least
	webhookFailures = 5                     // in a row, until the service is left alone
	webhookRest     = 2 * time.Second       // for so long
	maxWebhookBytes = proto.MaxExtBytes + 4<<10
)

// NewWebhook returns a provider that asks the service.
func NewWebhook(cfg WebhookConfig) (*Webhook, error) {
	u, err := url.Parse(cfg.URL)
	switch {
	case err != nil:
		return nil, err
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, fmt.Errorf("%q is not an http or https URL", u.Redacted())
	case len(cfg.Secret) < MinSecretBytes:
		return nil, fmt.Errorf("the secret has %d bytes, fewer than %d", len(cfg.Secret), MinSecretBytes)
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 1200 * time.Millisecond
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = cfg.TLS
	transport.MaxIdleConnsPerHost = 32
	transport.MaxResponseHeaderBytes = 16 << 10
	return &Webhook{
		cfg: cfg,
		client: &http.Client{
			Transport: transport, Timeout: cfg.Timeout,
			// Credentials go where the operator said, and nowhere else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		breaker: gobreaker.NewCircuitBreaker[Identity](gobreaker.Settings{
			Timeout:      webhookRest,
			ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= webhookFailures },
			IsSuccessful: func(err error) bool { return !errors.Is(err, ErrUnavailable) },
		}),
	}, nil
}

// Close lets go of idle connections.
func (w *Webhook) Close() { w.client.CloseIdleConnections() }

// Verify asks the service.
func (w *Webhook) Verify(ctx context.Context, credentials json.RawMessage) (Identity, error) {
	if len(credentials) == 0 {
		credentials = json.RawMessage("null")
	}
	body, err := json.Marshal(map[string]json.RawMessage{"credentials": credentials})
	if err != nil {
		return Identity{}, fmt.Errorf("%w: not JSON", ErrMalformed)
	}
	key := rand.Text()
	id, err := w.breaker.Execute(func() (Identity, error) {
		pause := backoff.NewExponentialBackOff()
		pause.InitialInterval = webhookPause
		id, err := backoff.Retry(ctx, func() (Identity, error) {
			id, err := w.ask(ctx, body, key)
			if err != nil && !errors.Is(err, ErrUnavailable) {
				err = backoff.Permanent(err)
			}
			return id, err
		}, backoff.WithBackOff(pause), backoff.WithMaxTries(webhookTries))
		// A caller that gave up says nothing about the service.
		if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
			err = context.Canceled
		}
		return id, err
	})
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		err = fmt.Errorf("%w: it has failed %d times in a row and is left alone for a while", ErrUnavailable, webhookFailures)
	}
	return id, err
}

// Sign returns the signature of a request: v1= and, in hexadecimal, the
// HMAC-SHA256 of timestamp, a dot, and the body. A service that checks it, and that
// the time is near its own, knows that auth asks.
func Sign(secret []byte, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(timestamp + "."))
	mac.Write(body)
	return "v1=" + hex.EncodeToString(mac.Sum(nil))
}

func (w *Webhook) ask(ctx context.Context, body []byte, key string) (Identity, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return Identity{}, err
	}
	now := strconv.FormatInt(time.Now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(HeaderTimestamp, now)
	req.Header.Set(HeaderSignature, Sign(w.cfg.Secret, now, body))
	req.Header.Set(HeaderIdempotency, key)
	resp, err := w.client.Do(req)
	if err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxWebhookBytes+1))
	switch {
	case err != nil:
		return Identity{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusForbidden:
		return Identity{}, ErrInvalidCredentials
	case resp.StatusCode == http.StatusBadRequest, resp.StatusCode == http.StatusUnprocessableEntity:
		return Identity{}, fmt.Errorf("%w: the service that checks them does not understand them", ErrMalformed)
	case resp.StatusCode != http.StatusOK:
		return Identity{}, fmt.Errorf("%w: answered %s", ErrUnavailable, resp.Status)
	case len(text) > maxWebhookBytes:
		return Identity{}, fmt.Errorf("%w: answered more than %d bytes", ErrUnavailable, maxWebhookBytes)
	}
	var who struct {
		User string          `json:"user"`
		Ext  json.RawMessage `json:"ext"`
	}
	if err := json.Unmarshal(text, &who); err != nil {
		return Identity{}, fmt.Errorf("%w: answered what is not JSON: %w", ErrUnavailable, err)
	}
	if err := CheckName(who.User); err != nil {
		return Identity{}, fmt.Errorf("%w: named a user whose name %w", ErrUnavailable, err)
	}
	if string(who.Ext) == "null" {
		who.Ext = nil
	}
	return Identity{User: who.User, Ext: who.Ext}, nil
}
