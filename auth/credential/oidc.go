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

	"github.com/usher-broker/usher/auth/internal/strictjson"
	"github.com/usher-broker/usher/proto"
)

// OIDCConfig says whose ID tokens are taken.
type OIDCConfig struct {
	Issuer  string   // exactly as in its tokens; its keys are found by discovery
	Clients []string // audiences of which one must be named; at least one
	// UserClaim is the claim that names the user. Default "sub", the only one that
	// OpenID Connect promises never to give to somebody else.
	UserClaim string
	Prefix    string   // before every name, where there are other methods
	Claims    []string // that the application is told, in the token's ext
	TLS       *tls.Config
	Logger    *slog.Logger // default: no logs
}

// OIDC takes ID tokens of an OpenID Connect issuer: credentials
// {"id_token":"…","nonce":"…"}. The nonce is the one that the client gave the issuer
// when it asked for the token; a token that has one is no good without it. It is
// safe for concurrent use.
type OIDC struct {
	cfg    OIDCConfig
	client *http.Client
	parser *jwt.Parser

	ctx    context.Context // ends what follows the keys
	cancel context.CancelFunc

	mu    sync.Mutex
	keys  keyfunc.Keyfunc // nil until discovery has succeeded
	tried time.Time
	err   error // of the last try
}

const (
	oidcTimeout   = 2 * time.Second  // of a request to the issuer
	oidcRetry     = 2 * time.Second  // between two tries to discover it
	oidcUnknown   = 10 * time.Second // between two fetches for a key that is not known
	oidcRefresh   = 15 * time.Minute
	oidcLeeway    = 30 * time.Second
	maxOIDCBytes  = 256 << 10 // of an answer of the issuer
	discoveryPath = "/.well-known/openid-configuration"
)

// NewOIDC returns a provider. It does not wait for the issuer: as long as that
// has not answered, Verify returns ErrUnavailable.
func NewOIDC(cfg OIDCConfig) (*OIDC, error) {
	u, err := url.Parse(cfg.Issuer)
	switch {
	case err != nil:
		return nil, err
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("%q is not the URL of an issuer", u.Redacted())
	case len(cfg.Clients) == 0 || slices.Contains(cfg.Clients, ""):
		return nil, errors.New("no client ids: tokens for any application of the issuer would be taken")
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
			// What is public can be verified by; a secret shared with the issuer is
			// not what this is for, and «none» never.
			jwt.WithValidMethods([]string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}),
			jwt.WithIssuer(cfg.Issuer), jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(oidcLeeway), jwt.WithStrictDecoding(),
		),
	}
	o.ctx, o.cancel = context.WithCancel(context.Background())
	return o, nil
}

// Close stops following the issuer's keys.
func (o *OIDC) Close() {
	o.cancel()
	o.client.CloseIdleConnections()
}

// Verify checks the token, and returns whose it is.
func (o *OIDC) Verify(ctx context.Context, credentials json.RawMessage) (Identity, error) {
	fields, err := strictjson.Read(credentials)
	if err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	raw, err := fields.Text("id_token")
	if err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	nonce, err := fields.Text("nonce")
	if err != nil {
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

// find returns the key of a token. If that is not known the issuer is asked, though
// not without end: a key that may be a new one, and cannot be asked for now, is not
// one that there is not.
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
		return nil, fmt.Errorf("the key is for %s", alg)
	}
	return key.Key(), nil
}

// check looks at what the parser has not.
func (o *OIDC) check(claims jwt.MapClaims, nonce string) error {
	audience, err := claims.GetAudience()
	if err != nil || !slices.ContainsFunc(audience, func(a string) bool { return slices.Contains(o.cfg.Clients, a) }) {
		return errors.New("it is for another audience")
	}
	if azp, ok := claims["azp"].(string); ok || len(audience) > 1 {
		if !slices.Contains(o.cfg.Clients, azp) {
			return errors.New("it was given to another application (azp)")
		}
	}
	if at, err := claims.GetIssuedAt(); err != nil || at == nil {
		return errors.New("it does not say when it was issued")
	}
	said, _ := claims["nonce"].(string)
	if subtle.ConstantTimeCompare([]byte(said), []byte(nonce)) != 1 {
		return errors.New("the nonce is another")
	}
	return nil
}

func (o *OIDC) identity(claims jwt.MapClaims) (Identity, error) {
	name, _ := claims[o.cfg.UserClaim].(string)
	user := o.cfg.Prefix + name
	if name == "" || CheckName(user) != nil {
		o.cfg.Logger.Warn("ID token refused: it names no user that could be one here", "issuer", o.cfg.Issuer, "claim", o.cfg.UserClaim)
		return Identity{}, ErrInvalidCredentials
	}
	told := map[string]any{}
	for _, c := range o.cfg.Claims {
		if v, ok := claims[c]; ok {
			told[c] = v
		}
	}
	if len(told) == 0 {
		return Identity{User: user}, nil
	}
	ext, err := json.Marshal(told)
	if err != nil || len(ext) > proto.MaxExtBytes {
		return Identity{}, fmt.Errorf("the claims for the application are %d bytes, more than %d, or no JSON: %w", len(ext), proto.MaxExtBytes, err)
	}
	return Identity{User: user, Ext: ext}, nil
}

// follow returns the issuer's keys, having found out where they are. While the
// issuer does not answer it is asked now and then, by one caller at a time.
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
			RateLimitWaitMax: oidcTimeout, // for its turn and the fetch together
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
		o.cfg.Logger.Warn("the issuer does not say where its keys are; ID tokens are refused", "issuer", o.cfg.Issuer, "error", err)
	}
	return o.keys, err
}

// discover returns where the issuer's keys are.
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
		return "", fmt.Errorf("answered what is not JSON: %w", err)
	}
	if d.Issuer != o.cfg.Issuer {
		return "", fmt.Errorf("says that it is %q", d.Issuer)
	}
	u, err := url.Parse(d.JWKS)
	if err != nil || u.Host == "" || u.Scheme != "https" && !strings.HasPrefix(o.cfg.Issuer, "http://") {
		return "", fmt.Errorf("has its keys at %q, which is no https URL", d.JWKS)
	}
	return d.JWKS, nil
}
