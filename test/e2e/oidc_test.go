package e2e

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// startIssuer starts an OpenID Connect issuer with a registered client "game", and
// returns its URL.
func startIssuer(t *testing.T) string {
	t.Helper()
	dir := filepath.Join("..", "issuer")
	if _, err := exec.LookPath("npm"); err != nil {
		if os.Getenv("USHER_SLOW") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	install := exec.Command("npm", "ci", "--silent", "--no-audit", "--no-fund")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	port := freePort(t)
	p := startProgram(t, "issuer", "node", filepath.Join(dir, "server.mjs"), port)
	p.await("listen", startTimeout, func() bool { return strings.Contains(p.output.String(), "listens") })
	return "http://127.0.0.1:" + port
}

// idTokenOf logs in at the issuer as a browser does, with the authorization code
// flow and PKCE, and returns the ID token.
func idTokenOf(t *testing.T, issuer, user, nonce string) string {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	var last *url.URL
	browser := &http.Client{Jar: jar, Transport: web.Transport, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if last = r.URL; r.URL.Path == "/game" { // the redirect URI of the client
			return http.ErrUseLastResponse
		}
		return nil
	}}
	page := func(resp *http.Response, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode >= 400 {
			t.Fatalf("the issuer answered %s, %v\n%s", resp.Status, err, body)
		}
		return string(body)
	}
	verifier := rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(verifier))
	text := page(browser.Get(issuer + "/auth?" + url.Values{
		"client_id": {"game"}, "response_type": {"code"}, "scope": {"openid"}, "redirect_uri": {issuer + "/game"}, "nonce": {nonce},
		"code_challenge_method": {"S256"}, "code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])},
	}.Encode()))
	action := regexp.MustCompile(`action="([^"]+)"`)
	for _, form := range []url.Values{{"prompt": {"login"}, "login": {user}, "password": {"any"}}, {"prompt": {"consent"}}} {
		m := action.FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("the issuer's page has no form:\n%s", text)
		}
		text = page(browser.PostForm(m[1], form))
	}
	code := last.Query().Get("code")
	if last.Path != "/game" || code == "" {
		t.Fatalf("the issuer redirected to %v, want /game with a code", last)
	}
	text = page(browser.PostForm(issuer+"/token", url.Values{
		"grant_type": {"authorization_code"}, "client_id": {"game"}, "code": {code}, "redirect_uri": {issuer + "/game"}, "code_verifier": {verifier},
	}))
	var tokens struct {
		ID string `json:"id_token"`
	}
	if err := json.Unmarshal([]byte(text), &tokens); err != nil || tokens.ID == "" {
		t.Fatalf("the issuer's token response has no ID token: %s, %v", text, err)
	}
	return tokens.ID
}

// TestOIDC logs in with an ID token of a real issuer. Tokens with a wrong nonce or
// signature, tokens of Usher itself and tokens for another client must be refused.
func TestOIDC(t *testing.T) {
	issuer := startIssuer(t)
	c := startCluster(t, 1, "--oidc-issuer="+issuer, "--oidc-client=game")
	raw := idTokenOf(t, issuer, "ada", "n-0S6")
	login := func(method, token, nonce string) answer {
		return post(t, c.url("/v1/login"), "", fmt.Sprintf(`{"method":%q,"credentials":{"id_token":%q,"nonce":%q}}`, method, token, nonce))
	}
	a := login("oidc", raw, "n-0S6")
	if a.status != 200 || a.at.User != "ada" {
		t.Fatalf("login: %v", a)
	}
	attach(t, a.at, "")
	for name, wrong := range map[string]answer{
		"another nonce": login("oidc", raw, "other"), "no nonce": login("oidc", raw, ""),
		"changed": login("oidc", raw[:len(raw)-6]+"AAAAAA", "n-0S6"), "a token of Usher": login("oidc", a.at.Token, ""),
	} {
		if wrong.status != 401 || wrong.problem.Code != "invalid_credentials" {
			t.Errorf("%s: %v", name, wrong)
		}
	}
	// An auth for another client of the same issuer.
	other := c.startAuth("auth-2", "--oidc-issuer="+issuer, "--oidc-client=another")
	if a := post(t, "http://"+other.listen+"/v1/login", "", fmt.Sprintf(`{"method":"oidc","credentials":{"id_token":%q,"nonce":"n-0S6"}}`, raw)); a.status != 401 {
		t.Errorf("a token for another client: %v", a)
	}
	if output := c.auth.output.String(); strings.Contains(output, raw) {
		t.Error("the log contains the ID token")
	}
}
