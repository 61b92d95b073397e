package auth

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/usher-broker/usher/broker/token/tokentest"
	"github.com/usher-broker/usher/proto"
)

func TestLoginBindsTheToken(t *testing.T) {
	d := newFixture(t, nil)
	key := tokentest.NewHolder(1)
	login := func(more string) answer {
		return d.do("POST", "/v1/login", `{"method":"guest","credentials":{"name":"ada"}`+more+`}`)
	}
	if a := login(`,"cnf":{"jwk":` + key.JWK() + `}`); a.status != 200 {
		t.Fatalf("%+v", a)
	}
	if got := d.broker.assigned[0].Confirm.Thumbprint; got != key.Confirmation().Thumbprint {
		t.Errorf("bound to %q, want %q", got, key.Confirmation().Thumbprint)
	}
	if a := login(""); a.status != 200 || d.broker.assigned[1].Confirm.Thumbprint != "" {
		t.Errorf("without a key: %+v", a)
	}
	for name, cnf := range map[string]string{
		"text": `"x"`, "no key": `{}`, "a thumbprint": `{"jkt":"` + key.Confirmation().Thumbprint + `"}`, "null": `{"jwk":null}`,
		"private":        `{"jwk":` + strings.Replace(key.JWK(), "}", `,"d":"AAAA"}`, 1) + `}`,
		"another kind":   `{"jwk":{"kty":"RSA","n":"AQAB","e":"AQAB"}}`,
		"symmetric":      `{"jwk":{"kty":"oct","k":"AAAA"}}`,
		"off the curve":  `{"jwk":{"kty":"EC","crv":"P-256","x":"` + strings.Repeat("A", 43) + `","y":"` + strings.Repeat("A", 43) + `"}}`,
		"short":          `{"jwk":` + strings.Replace(key.JWK(), `"x":"`, `"x":"A`, 1) + `}`,
		"member twice":   `{"jwk":` + strings.Replace(key.JWK(), "{", `{"crv":"P-256",`, 1) + `}`,
		"unknown member": `{"jwk":` + strings.Replace(key.JWK(), "{", `{"use":"sig",`, 1) + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			login(`,"cnf":`+cnf).problem(t, 400, proto.ProblemInvalidRequest)
		})
	}
	if len(d.broker.assigned) != 2 {
		t.Errorf("%d sessions opened", len(d.broker.assigned))
	}
}

func TestBoundTokensNeedAProof(t *testing.T) {
	for path, act := range map[string]string{"/v1/reconnect": proto.ProofReconnect, "/v1/logout": proto.ProofLogout} {
		t.Run(act, func(t *testing.T) {
			d := newFixture(t, nil)
			owner, thief := tokentest.NewHolder(1), tokentest.NewHolder(2)
			raw := d.token(func(c *proto.Claims) { c.Confirm.Thumbprint = owner.Confirmation().Thumbprint })
			ask := func(proofs ...string) answer {
				header := []string{"Authorization", "Bearer " + raw}
				for _, p := range proofs {
					header = append(header, proto.HeaderProof, p)
				}
				return d.do("POST", path, "{}", header...)
			}
			other := map[string]string{proto.ProofReconnect: proto.ProofLogout, proto.ProofLogout: proto.ProofReconnect}[act]
			for name, proof := range map[string]string{
				"garbage": "x", "a thief's": thief.Proof(act, raw, 1), "to attach": owner.Proof(proto.ProofAttach, raw, 1),
				"for the other endpoint": owner.Proof(other, raw, 1), "of another token": owner.Proof(act, raw+"x", 1),
			} {
				t.Run(name, func(t *testing.T) { ask(proof).problem(t, 401, proto.ProblemInvalidProof) })
			}
			ask().problem(t, 401, proto.ProblemInvalidProof)
			ask(owner.Proof(act, raw, 1)+", "+owner.Proof(act, raw, 2)).problem(t, 401, proto.ProblemInvalidProof)
			if len(d.broker.reassigned)+len(d.broker.ended) != 0 {
				t.Error("the request was carried out")
			}

			var done, stale atomic.Int64
			var wg sync.WaitGroup
			proof := owner.Proof(act, raw, 9)
			for range 100 {
				wg.Go(func() {
					a := ask(proof)
					for a.status == 503 { // a busy machine: the call of the store took too long and changed nothing
						a = ask(proof)
					}
					switch a.status {
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
			if a := ask(owner.Proof(act, raw, 10)); a.status/100 != 2 {
				t.Errorf("the next one: %+v", a)
			}
			if act == proto.ProofReconnect {
				for _, c := range d.broker.reassigned {
					if c.Confirm.Thumbprint != owner.Confirmation().Thumbprint {
						t.Error(fmt.Errorf("the broker did not get the key: %+v", c))
					}
				}
			}
		})
	}
}
