package credential

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// issuer is a fake OpenID Connect issuer: the parts that a verifier uses.
type issuer struct {
	t   *testing.T
	srv *httptest.Server

	mu    sync.Mutex
	keys  map[string]crypto.Signer // by kid; all are published
	down  bool
	says  string // the name in its discovery document, if it is wrong
	asked int    // requests for keys
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{t: t, keys: map[string]crypto.Signer{}}
	i.srv = httptest.NewServer(i)
	t.Cleanup(i.srv.Close)
	i.add("rsa-1", rsaKey(t))
	return i
}

func rsaKey(t *testing.T) crypto.Signer {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func ecKey(t *testing.T) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (i *issuer) add(kid string, k crypto.Signer) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys[kid] = k
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.down {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	b64 := func(n *big.Int, size int) string {
		return base64.RawURLEncoding.EncodeToString(n.FillBytes(make([]byte, size)))
	}
	switch r.URL.Path {
	case discoveryPath:
		name := i.srv.URL
		if i.says != "" {
			name = i.says
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": name, "jwks_uri": i.srv.URL + "/keys"})
	case "/keys":
		i.asked++
		var list []map[string]string
		for kid, k := range i.keys {
			switch p := k.Public().(type) {
			case *rsa.PublicKey:
				list = append(list, map[string]string{
					"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", "n": b64(p.N, 256), "e": b64(big.NewInt(int64(p.E)), 3),
				})
			case *ecdsa.PublicKey:
				raw, err := p.Bytes()
				if err != nil {
					i.t.Error(err)
				}
				list = append(list, map[string]string{
					"kty": "EC", "kid": kid, "use": "sig", "alg": "ES256", "crv": "P-256",
					"x": base64.RawURLEncoding.EncodeToString(raw[1:33]), "y": base64.RawURLEncoding.EncodeToString(raw[33:]),
				})
			}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": list})
	default:
		http.NotFound(w, r)
	}
}

// token signs an ID token for ada; change may change the claims.
func (i *issuer) token(kid string, k crypto.Signer, change func(h map[string]any, c jwt.MapClaims)) string {
	i.t.Helper()
	var method jwt.SigningMethod = jwt.SigningMethodRS256
	if _, ok := k.(*ecdsa.PrivateKey); ok {
		method = jwt.SigningMethodES256
	}
	now := time.Now()
	tok := jwt.NewWithClaims(method, jwt.MapClaims{
		"iss": i.srv.URL, "aud": "game", "sub": "ada", "nonce": "n-1", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(), "level": 7,
	})
	tok.Header["kid"] = kid
	if change != nil {
		change(tok.Header, tok.Claims.(jwt.MapClaims))
	}
	raw, err := tok.SignedString(k)
	if err != nil {
		i.t.Fatal(err)
	}
	return raw
}

func (i *issuer) provider(change func(*OIDCConfig)) *OIDC {
	i.t.Helper()
	cfg := OIDCConfig{Issuer: i.srv.URL, Clients: []string{"game", "game-web"}}
	if change != nil {
		change(&cfg)
	}
	o, err := NewOIDC(cfg)
	if err != nil {
		i.t.Fatal(err)
	}
	i.t.Cleanup(o.Close)
	return o
}

func idToken(raw, nonce string) json.RawMessage {
	b, _ := json.Marshal(map[string]string{"id_token": raw, "nonce": nonce})
	return b
}

func TestOIDC(t *testing.T) {
	i := newIssuer(t)
	i.add("ec-1", ecKey(t))
	for kid, k := range i.keys {
		id, err := i.provider(nil).Verify(t.Context(), idToken(i.token(kid, k, nil), "n-1"))
		if err != nil || id.User != "ada" || id.Ext != nil {
			t.Errorf("%s: %+v, %v", kid, id, err)
		}
	}
	o := i.provider(func(c *OIDCConfig) { c.Prefix, c.Claims, c.UserClaim = "oidc:", []string{"level", "none"}, "name" })
	raw := i.token("rsa-1", i.keys["rsa-1"], func(_ map[string]any, c jwt.MapClaims) {
		c["aud"], c["azp"], c["name"] = []string{"other", "game-web"}, "game-web", "Ada"
		delete(c, "nonce")
	})
	if id, err := o.Verify(t.Context(), idToken(raw, "")); err != nil || id.User != "oidc:Ada" || string(id.Ext) != `{"level":7}` {
		t.Errorf("%+v, %v", id, err)
	}
}

func TestOIDCRefuses(t *testing.T) {
	i := newIssuer(t)
	k := i.keys["rsa-1"]
	o := i.provider(nil)
	past := time.Now().Add(-time.Hour).Unix()
	for name, change := range map[string]func(h map[string]any, c jwt.MapClaims){
		"another issuer":    func(_ map[string]any, c jwt.MapClaims) { c["iss"] = "https://evil.example.com" },
		"issuer with slash": func(_ map[string]any, c jwt.MapClaims) { c["iss"] = i.srv.URL + "/" },
		"another audience":  func(_ map[string]any, c jwt.MapClaims) { c["aud"] = "shop" },
		"no audience":       func(_ map[string]any, c jwt.MapClaims) { delete(c, "aud") },
		"two, without azp":  func(_ map[string]any, c jwt.MapClaims) { c["aud"] = []string{"game", "shop"} },
		"given to another":  func(_ map[string]any, c jwt.MapClaims) { c["azp"] = "shop" },
		"expired":           func(_ map[string]any, c jwt.MapClaims) { c["exp"] = past },
		"never expires":     func(_ map[string]any, c jwt.MapClaims) { delete(c, "exp") },
		"of the future":     func(_ map[string]any, c jwt.MapClaims) { c["iat"] = time.Now().Add(time.Hour).Unix() },
		"never issued":      func(_ map[string]any, c jwt.MapClaims) { delete(c, "iat") },
		"not valid yet":     func(_ map[string]any, c jwt.MapClaims) { c["nbf"] = time.Now().Add(time.Hour).Unix() },
		"another nonce":     func(_ map[string]any, c jwt.MapClaims) { c["nonce"] = "n-2" },
		"no nonce":          func(_ map[string]any, c jwt.MapClaims) { delete(c, "nonce") },
		"no user":           func(_ map[string]any, c jwt.MapClaims) { delete(c, "sub") },
		"user a number":     func(_ map[string]any, c jwt.MapClaims) { c["sub"] = 7 },
		"invisible user":    func(_ map[string]any, c jwt.MapClaims) { c["sub"] = "a\u0000b" },
		"unknown key":       func(h map[string]any, _ jwt.MapClaims) { h["kid"] = "rsa-9" },
		"key of another":    func(h map[string]any, _ jwt.MapClaims) { h["jwk"] = "x"; h["kid"] = "evil" },
	} {
		id, err := o.Verify(t.Context(), idToken(i.token("rsa-1", k, change), "n-1"))
		// Keys are fetched once for an unknown key, and not again at once for the next.
		if unknown := strings.Contains(name, "key") && errors.Is(err, ErrUnavailable); !unknown && !errors.Is(err, ErrInvalidCredentials) {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
	}
	good := i.token("rsa-1", k, nil)
	parts := strings.Split(good, ".")
	// The public key as a shared secret, which some verifiers accept.
	confused := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"iss": i.srv.URL, "aud": "game", "sub": "ada", "nonce": "n-1", "iat": past, "exp": past + 7200})
	confused.Header["kid"] = "rsa-1"
	hs, err := confused.SignedString([]byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string]string{
		"another's signature": i.token("rsa-1", rsaKey(t), nil), "no signature": parts[0] + "." + parts[1] + ".",
		"none":          base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".",
		"shared secret": hs, "changed": good[:len(good)-6] + "AAAAAA", "words": "hello", "two parts": parts[0] + "." + parts[1],
	} {
		if id, err := o.Verify(t.Context(), idToken(raw, "n-1")); !errors.Is(err, ErrInvalidCredentials) {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
	}
	for _, c := range []string{"", "null", "[]", "{}", `{"id_token":7}`, `{"id_token":"x","nonce":7}`, `{"id_token":""}`} {
		if id, err := o.Verify(t.Context(), json.RawMessage(c)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %+v, %v", c, id, err)
		}
	}
	if id, err := o.Verify(t.Context(), idToken(good, "n-1")); err != nil {
		t.Errorf("a good one after all of them: %+v, %v", id, err)
	}
}

func TestOIDCRefreshesTheKeys(t *testing.T) {
	i := newIssuer(t)
	o := i.provider(nil)
	if _, err := o.Verify(t.Context(), idToken(i.token("rsa-1", i.keys["rsa-1"], nil), "n-1")); err != nil {
		t.Fatal(err)
	}
	i.add("rsa-2", rsaKey(t))
	if _, err := o.Verify(t.Context(), idToken(i.token("rsa-2", i.keys["rsa-2"], nil), "n-1")); err != nil {
		t.Errorf("a new key: %v", err)
	}
	// Tokens with unknown keys do not cause requests to the issuer without a limit.
	before := i.asked
	for range 50 {
		if _, err := o.Verify(t.Context(), idToken(i.token("rsa-9", i.keys["rsa-1"], nil), "n-1")); !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
		if _, err := o.Verify(t.Context(), idToken(i.token("rsa-2", i.keys["rsa-2"], nil), "n-1")); err != nil {
			t.Fatalf("a known key, meanwhile: %v", err)
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if n := i.asked - before; n > 1 {
		t.Errorf("%d requests for unknown keys", n)
	}
}

func TestOIDCWithoutTheIssuer(t *testing.T) {
	i := newIssuer(t)
	i.down = true
	o := i.provider(nil)
	good := idToken(i.token("rsa-1", i.keys["rsa-1"], nil), "n-1")
	for range 3 {
		if _, err := o.Verify(t.Context(), good); !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
	}
	i.mu.Lock()
	i.down = false
	i.mu.Unlock()
	time.Sleep(oidcRetry)
	if id, err := o.Verify(t.Context(), good); err != nil || id.User != "ada" {
		t.Errorf("%+v, %v", id, err)
	}
	i.mu.Lock()
	i.down = true // its keys are known
	i.mu.Unlock()
	if _, err := o.Verify(t.Context(), good); err != nil {
		t.Error(err)
	}

	liar := newIssuer(t)
	liar.says = "https://accounts.example.com"
	if _, err := liar.provider(nil).Verify(t.Context(), good); !errors.Is(err, ErrUnavailable) {
		t.Errorf("an issuer with another name: %v", err)
	}
}

func TestNewOIDCRefuses(t *testing.T) {
	for _, c := range []OIDCConfig{
		{Issuer: "https://example.com"},
		{Issuer: "https://example.com", Clients: []string{""}},
		{Issuer: "example.com", Clients: []string{"x"}},
		{Issuer: "https://example.com?x=1", Clients: []string{"x"}},
		{Issuer: "ftp://example.com", Clients: []string{"x"}},
	} {
		if o, err := NewOIDC(c); err == nil {
			o.Close()
			t.Errorf("%+v was accepted", c)
		}
	}
}
