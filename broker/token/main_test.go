package token

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/usher-broker/usher/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// moment is the time of the tests, in Unix seconds. The tokens of the corpus are issued
// at this time.
const moment = 1_800_000_000

func atMoment() time.Time { return time.Unix(moment, 0) }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// pair returns a key pair that is the same in every run.
func pair(n byte) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = n
	return ed25519.NewKeyFromSeed(seed)
}

// oneKey is a Keys with one key, whose id is "k1".
type oneKey struct{ key ed25519.PublicKey }

func (o oneKey) PublicKey(_ context.Context, kid string) (ed25519.PublicKey, error) {
	if kid != "k1" {
		return nil, fmt.Errorf("%w: %q", ErrUnknownKey, kid)
	}
	return o.key, nil
}

func testVerifier() *Verifier {
	return &Verifier{Keys: oneKey{pair(1).Public().(ed25519.PublicKey)}, Now: atMoment}
}

const goodHeader = `{"alg":"EdDSA","kid":"k1","typ":"usher+jwt"}`

func goodClaims() proto.Claims {
	return proto.Claims{
		Issuer: "auth-1/8f3a", Audience: "usher", User: "ada", Session: "01.aaaaaaaaaaaaaaaaaaaaaaaaaa",
		Node: "node-7", Epoch: 1, IssuedAt: moment, NotBefore: moment, Expires: moment + 3600, ID: "j1",
	}
}

// payload returns the valid claims with changes; a nil value removes a claim.
func payload(t testing.TB, changes map[string]any) string {
	t.Helper()
	b, err := json.Marshal(goodClaims())
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	for name, v := range changes {
		if m[name] = v; v == nil {
			delete(m, name)
		}
	}
	if b, err = json.Marshal(m); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// mint signs any header and payload with the right key.
func mint(header, payload string) string { return signWith(pair(1), b64(header)+"."+b64(payload)) }

func signWith(key ed25519.PrivateKey, text string) string {
	return text + "." + b64(string(ed25519.Sign(key, []byte(text))))
}

// noKeys is a Keys whose source does not answer.
type noKeys struct{}

func (noKeys) PublicKey(context.Context, string) (ed25519.PublicKey, error) {
	return nil, ErrUnavailable
}

// logBuffer keeps a log.
type logBuffer struct {
	mu sync.Mutex
	b  []byte
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(l.b, b...)
	return len(b), nil
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b)
}
