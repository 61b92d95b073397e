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
	HeaderIdempotency = "Idempotency-Key" // the same if the request is repeated
)

// WebhookConfig configures a Webhook.
type WebhookConfig struct {
	URL    string
	Secret []byte // shared with the service; MinSecretBytes or more
	// Timeout limits one request. Default: 1.2 s, so that two fit into the time that
	// auth gives a provider.
	Timeout time.Duration
	TLS     *tls.Config // default: the system's roots
}

// MinSecretBytes is the smallest length of the secret that signs requests.
const MinSecretBytes = 16

// Webhook has a service of the operator verify the credentials, which may be any JSON. It
// is safe for concurrent use.
//
// The request is a signed POST of {"credentials":…}. The service answers 200 and
// {"user":"ada","ext":…} for valid credentials, 401 or 403 for invalid ones, and 400 or
// 422 for malformed ones. Any other answer is a failure of the service: Webhook repeats
// the request once, with the same Idempotency-Key. After some failures in a row it sends no
// requests for a while.
type Webhook struct {
	cfg     WebhookConfig
	client  *http.Client
	breaker *gobreaker.CircuitBreaker[Identity]
}

const (
	webhookTries    = 2
	webhookPause    = 50 * time.Millisecond // before the request is repeated, at least
	webhookFailures = 5                     // in a row, until the circuit breaker opens
	breakerOpenFor  = 2 * time.Second       // how long it stays open
	maxWebhookBytes = proto.MaxExtBytes + 4<<10
)

// NewWebhook returns a provider that asks the service at the URL.
func NewWebhook(cfg WebhookConfig) (*Webhook, error) {
	u, err := url.Parse(cfg.URL)
	switch {
	case err != nil || u.Opaque != "":
		return nil, errors.New("not a valid http or https URL") // err quotes the URL and its password
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
			// Credentials are sent to the URL of the operator only.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		breaker: gobreaker.NewCircuitBreaker[Identity](gobreaker.Settings{
			Timeout:      breakerOpenFor,
			ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= webhookFailures },
			IsSuccessful: func(err error) bool { return !errors.Is(err, ErrUnavailable) },
		}),
	}, nil
}

// Close closes idle connections.
func (w *Webhook) Close() { w.client.CloseIdleConnections() }

// Verify has the service verify the credentials.
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
		err = fmt.Errorf("%w: it failed %d times in a row, and is not asked for %s", ErrUnavailable, webhookFailures, breakerOpenFor)
	}
	return id, err
}

// Sign returns the signature of a request: "v1=" and, in hexadecimal, the HMAC-SHA256 of
// the timestamp, a dot, and the body. A service must check the signature, and that the
// timestamp is close to its own time, to know that auth sent the request.
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
		return Identity{}, fmt.Errorf("%w: the service that checks them does not accept their form", ErrMalformed)
	case resp.StatusCode != http.StatusOK:
		return Identity{}, fmt.Errorf("%w: answered %s", ErrUnavailable, resp.Status)
	case len(text) > maxWebhookBytes:
		return Identity{}, fmt.Errorf("%w: answered more than %d bytes", ErrUnavailable, maxWebhookBytes)
	}
	var reply struct {
		User string          `json:"user"`
		Ext  json.RawMessage `json:"ext"`
	}
	if err := json.Unmarshal(text, &reply); err != nil {
		return Identity{}, fmt.Errorf("%w: answered with invalid JSON: %w", ErrUnavailable, err)
	}
	if err := CheckName(reply.User); err != nil {
		return Identity{}, fmt.Errorf("%w: answered with a user whose name %w", ErrUnavailable, err)
	}
	if string(reply.Ext) == "null" {
		reply.Ext = nil
	}
	return Identity{User: reply.User, Ext: reply.Ext}, nil
}
