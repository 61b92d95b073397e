package auth

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/usher-broker/usher/proto"
)

// ownKey is a key of a client, and a proof made with it.
type ownKey struct {
	private    ed25519.PrivateKey
	jwk        string
	thumbprint string
}

func newOwnKey(seed byte) ownKey {
	key := ed25519.NewKeyFromSeed(append(make([]byte, 31), seed))
	jwk := `{"crv":"Ed25519","kty":"OKP","x":"` + base64.RawURLEncoding.EncodeToString(key.Public().(ed25519.PublicKey)) + `"}`
	sum := sha256.Sum256([]byte(jwk))
	return ownKey{key, jwk, base64.RawURLEncoding.EncodeToString(sum[:])}
}

func (k ownKey) proof(act, token string, n uint64) string {
	body, _ := json.Marshal(proto.Proof{Act: act, Token: proto.TokenHash(token), N: n})
	e := base64.RawURLEncoding.EncodeToString
	text := e([]byte(`{"alg":"EdDSA","typ":"usher-proof+jwt","jwk":`+k.jwk+`}`)) + "." + e(body)
	return text + "." + e(ed25519.Sign(k.private, []byte(text)))
}

func TestLoginBindsTheToken(t *testing.T) {
	d := newRig(t, nil)
	key := newOwnKey(1)
	login := func(more string) answer {
		return d.do("POST", "/v1/login", `{"method":"guest","credentials":{"name":"ada"}`+more+`}`)
	}
	if a := login(`,"cnf":{"jwk":` + key.jwk + `}`); a.status != 200 {
		t.Fatalf("%+v", a)
	}
	if got := d.broker.assigned[0].Confirm.Thumbprint; got != key.thumbprint {
		t.Errorf("bound to %q, want %q", got, key.thumbprint)
	}
	if a := login(""); a.status != 200 || d.broker.assigned[1].Confirm.Thumbprint != "" {
		t.Errorf("without a key: %+v", a)
	}
	for name, cnf := range map[string]string{
		"text": `"x"`, "no key": `{}`, "a thumbprint": `{"jkt":"` + key.thumbprint + `"}`, "null": `{"jwk":null}`,
		"private":        `{"jwk":` + strings.Replace(key.jwk, "}", `,"d":"AAAA"}`, 1) + `}`,
		"another kind":   `{"jwk":{"kty":"RSA","n":"AQAB","e":"AQAB"}}`,
		"symmetric":      `{"jwk":{"kty":"oct","k":"AAAA"}}`,
		"off the curve":  `{"jwk":{"kty":"EC","crv":"P-256","x":"` + strings.Repeat("A", 43) + `","y":"` + strings.Repeat("A", 43) + `"}}`,
		"short":          `{"jwk":` + strings.Replace(key.jwk, `"x":"`, `"x":"A`, 1) + `}`,
		"member twice":   `{"jwk":` + strings.Replace(key.jwk, "{", `{"crv":"P-256",`, 1) + `}`,
		"unknown member": `{"jwk":` + strings.Replace(key.jwk, "{", `{"use":"sig",`, 1) + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			login(`,"cnf":`+cnf).problem(t, 400, proto.ProblemInvalidRequest)
		})
	}
	if len(d.broker.assigned) != 2 {
		t.Errorf("%d sessions opened", len(d.broker.assigned))
	}
}

func TestBoundTokensTakeAProof(t *testing.T) {
	for path, act := range map[string]string{"/v1/reconnect": proto.ProofReconnect, "/v1/logout": proto.ProofLogout} {
		t.Run(act, func(t *testing.T) {
			d := newRig(t, nil)
			owner, thief := newOwnKey(1), newOwnKey(2)
			raw := d.token(func(c *proto.Claims) { c.Confirm.Thumbprint = owner.thumbprint })
			ask := func(proofs ...string) answer {
				header := []string{"Authorization", "Bearer " + raw}
				for _, p := range proofs {
					header = append(header, proto.HeaderProof, p)
				}
				return d.do("POST", path, "{}", header...)
			}
			other := map[string]string{proto.ProofReconnect: proto.ProofLogout, proto.ProofLogout: proto.ProofReconnect}[act]
			for name, proof := range map[string]string{
				"garbage": "x", "a thief's": thief.proof(act, raw, 1), "to attach": owner.proof(proto.ProofAttach, raw, 1),
				"for the other door": owner.proof(other, raw, 1), "of another token": owner.proof(act, raw+"x", 1),
			} {
				t.Run(name, func(t *testing.T) { ask(proof).problem(t, 401, proto.ProblemInvalidProof) })
			}
			ask().problem(t, 401, proto.ProblemInvalidProof)
			ask(owner.proof(act, raw, 1)+", "+owner.proof(act, raw, 2)).problem(t, 401, proto.ProblemInvalidProof)
			if len(d.broker.reassigned)+len(d.broker.ended) != 0 {
				t.Error("something was done")
			}

			var done, stale atomic.Int64
			var wg sync.WaitGroup
			proof := owner.proof(act, raw, 9)
			for range 100 {
				wg.Go(func() {
					switch a := ask(proof); a.status {
					case 200, 204:
						done.Add(1)
					case 409:
						stale.Add(1)
						a.problem(t, 409, proto.ProblemStaleProof)
					default:
						t.Errorf("%+v", a)
					}
				})
			}
			wg.Wait()
			if done.Load() != 1 || stale.Load() != 99 {
				t.Errorf("%d carried out, %d stale", done.Load(), stale.Load())
			}
			if a := ask(owner.proof(act, raw, 10)); a.status/100 != 2 {
				t.Errorf("the next one: %+v", a)
			}
			if act == proto.ProofReconnect {
				for _, c := range d.broker.reassigned {
					if c.Confirm.Thumbprint != owner.thumbprint {
						t.Error(fmt.Errorf("the broker is not told of the key: %+v", c))
					}
				}
			}
		})
	}
}
