package e2e

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker/token/tokentest"
	"github.com/usher-broker/usher/proto"
)

// object is a JSON object.
type object map[string]any

// with returns a copy with one member set to value, or removed if value is nil.
func (o object) with(name string, value any) object {
	o = maps.Clone(o)
	o[name] = value
	if value == nil {
		delete(o, name)
	}
	return o
}

func (o object) encode() string {
	b, err := json.Marshal(o)
	if err != nil {
		panic(err) // a bug in the tests
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// forger signs tokens with the cluster's own signing key, to make authentic tokens
// that auth would never issue.
type forger struct {
	key    ed25519.PrivateKey
	header object
	claims object
}

// newForger returns a forger with the header and claims of the token.
func newForger(t testing.TB, c *cluster, token string) *forger {
	t.Helper()
	file, err := os.ReadFile(c.keys)
	if err != nil {
		t.Fatal(err)
	}
	var set struct{ Keys []struct{ D string } }
	if err := json.Unmarshal(file, &set); err != nil || len(set.Keys) == 0 {
		t.Fatalf("%s has no signing key: %v", c.keys, err)
	}
	seed, err := base64.RawURLEncoding.DecodeString(set.Keys[0].D)
	if err != nil || len(seed) != ed25519.SeedSize {
		t.Fatalf("the signing key: %d bytes, %v", len(seed), err)
	}
	f := &forger{key: ed25519.NewKeyFromSeed(seed)}
	parts := strings.Split(token, ".")
	for i, dst := range []*object{&f.header, &f.claims} {
		b, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err == nil {
			d := json.NewDecoder(strings.NewReader(string(b)))
			d.UseNumber()
			err = d.Decode(dst)
		}
		if err != nil {
			t.Fatalf("reading a token: %v", err)
		}
	}
	return f
}

// sign returns the signed token.
func (f *forger) sign(header, claims object) string {
	text := header.encode() + "." + claims.encode()
	return text + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(f.key, []byte(text)))
}

// withClaim returns a token that differs in one claim.
func (f *forger) withClaim(name string, value any) string {
	return f.sign(f.header, f.claims.with(name, value))
}

// brokenTokens returns tokens that must be refused as not authentic, keyed by what
// is wrong with them: the tokens of the corpus that can be sent in a header.
func brokenTokens(t testing.TB, c *cluster, good proto.Assignment) map[string]string {
	t.Helper()
	f := newForger(t, c, good.Token)
	m := tokentest.Mint{Key: f.key, Kid: f.header["kid"].(string), Now: time.Now().Unix(), Claims: f.claims}
	tokens := map[string]string{}
	for _, x := range m.Corpus() {
		if x.Want == tokentest.NotYet && x.Name != "not yet, far" {
			continue // it may become valid before it is sent
		}
		if !strings.ContainsFunc(x.Raw, func(r rune) bool { return r <= ' ' || r > '~' }) {
			tokens[x.Name] = x.Raw
		}
	}
	if len(tokens) < 100 {
		t.Errorf("the corpus has only %d tokens, want at least 100", len(tokens))
	}
	return tokens
}

// rejectedConnections returns connections with authentic tokens that the node must
// close with a code.
func rejectedConnections(t testing.TB, c *cluster, good proto.Assignment) []refusal {
	t.Helper()
	f := newForger(t, c, good.Token)
	past := time.Now().Add(-time.Hour).Unix()
	expired := f.claims.with("iat", past-60).with("nbf", past-60).with("exp", past)
	return []refusal{
		{name: "expired", token: f.sign(f.header, expired), code: proto.CloseTokenExpired},
		{name: "of another node", token: f.withClaim("nid", "node-9"), code: proto.CloseMoved},
		{name: "of an unknown session", token: f.withClaim("sid", "01.aaaaaaaaaaaaaaaaaaaaaaaaaa"), code: proto.CloseUnknownSession},
	}
}
