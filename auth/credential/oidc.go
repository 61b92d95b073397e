package credential

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/time/rate"

	"github.com/usher-broker/usher/proto"
)

// OIDCConfig configures which ID tokens are accepted.
type OIDCConfig struct {
	Issuer  string   // exactly as in its tokens; discovery finds its keys
	Clients []string // client ids; the audience of a token must contain one of them; required
	// UserClaim is the claim that names the user. Default: "sub", the only claim that
	// OpenID Connect never assigns to another user.
	UserClaim string
	Prefix    string   // put before every name, if there are other methods
	Claims    []string // copied into the token's ext, for the application
	TLS       *tls.Config
	Logger    *slog.Logger // default: no logs
}

// OIDC accepts ID tokens of an OpenID Connect issuer. The credentials are
// {"id_token":"…","nonce":"…"}. The nonce is the one that the client sent to the issuer
// when it asked for the token; it is required if the token contains one. OIDC is safe for
// concurrent use.
type OIDC struct {
	cfg    OIDCConfig
	client *http.Client
	parser *jwt.Parser

	ctx    context.Context // of the goroutine that refreshes the keys
	cancel context.CancelFunc

	mu    sync.Mutex
	keys  keyfunc.Keyfunc // nil until discovery has succeeded
	tried time.Time
	err   error // of the last attempt
}

const (
	oidcTimeout   = 2 * time.Second  // of a request to the issuer
	oidcRetry     = 2 * time.Second  // between two attempts at discovery
	oidcUnknown   = 10 * time.Second // between two fetches for an unknown key
	oidcRefresh   = 15 * time.Minute
	oidcLeeway    = 30 * time.Second
	maxOIDCBytes  = 256 << 10 // of a response of the issuer
	discoveryPath = "/.well-known/openid-configuration"
)

// NewOIDC returns a provider. It does not wait for the issuer: Verify returns
// ErrUnavailable until the issuer has answered.
func NewOIDC(cfg OIDCConfig) (*OIDC, error) {
	u, err := url.Parse(cfg.Issuer)
	switch {
	case err != nil || u.Opaque != "":
		return nil, errors.New("not a valid http or https URL") // err quotes the URL and its password
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("%q is not the URL of an issuer; it must be an http or https URL without query and fragment", u.Redacted())
	case len(cfg.Clients) == 0 || slices.Contains(cfg.Clients, ""):
		return nil, errors.New("no client ids: tokens for every application of the issuer would be accepted")
	}
	if cfg.UserClaim == "" {
		cfg.UserClaim = "sub"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = cfg.TLS
	o := &OIDC{
		cfg: cfg, client: &http.Client{Transport: transport, Timeout: oidcTimeout},
		parser: jwt.NewParser(
			// Signatures with public keys only: neither a secret shared with the
			// issuer (HS256) nor "none".
			jwt.WithValidMethods([]string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}),
			jwt.WithIssuer(cfg.Issuer), jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(oidcLeeway), jwt.WithStrictDecoding(),
		),
	}
	o.ctx, o.cancel = context.WithCancel(context.Background())
	return o, nil
}

// Close stops refreshing the issuer's keys.
func (o *OIDC) Close() {
	o.cancel()
	o.client.CloseIdleConnections()
}

// Verify checks the token, and returns the identity of its user.
func (o *OIDC) Verify(ctx context.Context, credentials json.RawMessage) (Identity, error) {
	fields, err := rules.Parse(credentials)
	if err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	raw, nonce := fields.OptionalString("id_token"), fields.OptionalString("nonce")
	if err := fields.Err(); err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if raw == "" {
		return Identity{}, fmt.Errorf("%w: id_token is missing", ErrMalformed)
	}
	keys, err := o.follow(ctx)
	if err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	claims := jwt.MapClaims{}
	_, err = o.parser.ParseWithClaims(raw, claims, func(t *jwt.Token) (any, error) { return find(ctx, keys, t) })
	if errors.Is(err, ErrUnavailable) {
		return Identity{}, err
	}
	if err == nil {
		err = o.check(claims, nonce)
	}
	if err != nil {
		o.cfg.Logger.Info("ID token refused", "issuer", o.cfg.Issuer, "error", err)
		return Identity{}, ErrInvalidCredentials
	}
	return o.identity(claims)
}

// find returns the key of a token. It fetches the issuer's keys if the key is unknown. If
// the limit of fetches does not allow that now, it returns ErrUnavailable, because the key
// may exist.
func find(ctx context.Context, keys keyfunc.Keyfunc, t *jwt.Token) (any, error) {
	kid, ok := t.Header["kid"].(string)
	if !ok {
		return keys.VerificationKeySet(ctx)
	}
	key, err := keys.Storage().KeyRead(ctx, kid)
	switch {
	case errors.Is(err, jwkset.ErrKeyNotFound):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if alg := key.Marshal().ALG.String(); alg != "" && alg != t.Method.Alg() {
		return nil, fmt.Errorf("the key is for %s, not %s", alg, t.Method.Alg())
	}
	return key.Key(), nil
}

// check checks what the parser does not.
func (o *OIDC) check(claims jwt.MapClaims, nonce string) error {
	audience, err := claims.GetAudience()
	if err != nil || !slices.ContainsFunc(audience, func(a string) bool { return slices.Contains(o.cfg.Clients, a) }) {
		return errors.New("the audience (aud) contains no client id of ours")
	}
	if azp, ok := claims["azp"].(string); ok || len(audience) > 1 {
		if !slices.Contains(o.cfg.Clients, azp) {
			return errors.New("it was issued to another application (azp)")
		}
	}
	if at, err := claims.GetIssuedAt(); err != nil || at == nil {
		return errors.New("it has no time of issue (iat)")
	}
	want, _ := claims["nonce"].(string)
	if subtle.ConstantTimeCompare([]byte(want), []byte(nonce)) != 1 {
		return errors.New("its nonce is not that of the credentials")
	}
	return nil
}

func (o *OIDC) identity(claims jwt.MapClaims) (Identity, error) {
	name, _ := claims[o.cfg.UserClaim].(string)
	user := o.cfg.Prefix + name
	if name == "" || CheckName(user) != nil {
		o.cfg.Logger.Warn("ID token refused: its claim is not a valid user name", "issuer", o.cfg.Issuer, "claim", o.cfg.UserClaim)
		return Identity{}, ErrInvalidCredentials
	}
	ext := map[string]any{}
	for _, c := range o.cfg.Claims {
		if v, ok := claims[c]; ok {
			ext[c] = v
		}
	}
	if len(ext) == 0 {
		return Identity{User: user}, nil
	}
	text, err := json.Marshal(ext)
	if err != nil || len(text) > proto.MaxExtBytes {
		return Identity{}, fmt.Errorf("the claims for the application have %d bytes, more than %d, or are not JSON: %w", len(text), proto.MaxExtBytes, err)
	}
	return Identity{User: user, Ext: text}, nil
}

// follow returns the issuer's keys. The first call discovers where they are. While the
// issuer does not answer, one caller at a time repeats this, every oidcRetry at most.
func (o *OIDC) follow(ctx context.Context) (keyfunc.Keyfunc, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.keys != nil:
		return o.keys, nil
	case o.err != nil && time.Since(o.tried) < oidcRetry:
		return nil, o.err
	}
	o.tried = time.Now()
	at, err := o.discover(ctx)
	if err == nil {
		first := false
		o.keys, err = keyfunc.NewDefaultOverrideCtx(o.ctx, []string{at}, keyfunc.Override{
			Client: o.client, HTTPTimeout: oidcTimeout, NoErrorReturnFirstHTTPReq: &first,
			RefreshInterval: oidcRefresh, RefreshUnknownKID: rate.NewLimiter(rate.Every(oidcUnknown), 1),
			RateLimitWaitMax: oidcTimeout, // for the rate limit and the fetch together
			RefreshErrorHandlerFunc: func(u string) func(context.Context, error) {
				return func(_ context.Context, err error) {
					o.cfg.Logger.Warn("keys of the issuer not read", "url", u, "error", err)
				}
			},
		})
		if err != nil {
			o.keys = nil
		}
	}
	if o.err = err; err != nil {
		o.cfg.Logger.Warn("discovery of the issuer's keys failed; ID tokens are refused", "issuer", o.cfg.Issuer, "error", err)
	}
	return o.keys, err
}

// discover returns the URL of the issuer's keys.
func (o *OIDC) discover(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(o.cfg.Issuer, "/")+discoveryPath, nil)
	if err != nil {
		return "", err
	}
	resp, err := o.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("answered %s", resp.Status)
	}
	var d struct {
		Issuer string `json:"issuer"`
		JWKS   string `json:"jwks_uri"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxOIDCBytes)).Decode(&d); err != nil {
		return "", fmt.Errorf("answered with invalid JSON: %w", err)
	}
	if d.Issuer != o.cfg.Issuer {
		return "", fmt.Errorf("its discovery document names the issuer %q", d.Issuer)
	}
	u, err := url.Parse(d.JWKS)
	if err != nil || u.Host == "" || u.Scheme != "https" && !strings.HasPrefix(o.cfg.Issuer, "http://") {
		return "", fmt.Errorf("its discovery document names %q as the URL of its keys, which is not an https URL", d.JWKS)
	}
	return d.JWKS, nil
}
