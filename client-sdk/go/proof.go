package usher

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"sync"
	"time"

	"github.com/usher-broker/usher/proto"
)

// prover makes proofs that this client has the key that its tokens are bound to. A
// token alone, for example stolen from a log or a page, opens nothing.
type prover struct {
	key    crypto.Signer
	jwk    json.RawMessage // the public key
	header string          // of every proof, in base64url

	mu   sync.Mutex
	last uint64
}

var errKey = errors.New("usher: Config.Key must be an Ed25519 key, or an ECDSA key on P-256")

// newProver returns a prover with the key, or with a new key if key is nil.
func newProver(key crypto.Signer) (*prover, error) {
	if key == nil {
		_, private, err := ed25519.GenerateKey(nil)
		if err != nil {
			return nil, err
		}
		key = private
	}
	p := &prover{key: key}
	var alg string
	var jwk any
	switch public := key.Public().(type) {
	case ed25519.PublicKey:
		alg = "EdDSA"
		jwk = struct {
			Curve string `json:"crv"`
			Type  string `json:"kty"`
			X     string `json:"x"`
		}{"Ed25519", "OKP", b64(public)}
	case *ecdsa.PublicKey:
		if public.Curve != elliptic.P256() {
			return nil, errKey
		}
		point, err := public.Bytes() // 4, x, y
		if err != nil {
			return nil, errKey
		}
		alg = "ES256"
		jwk = struct {
			Curve string `json:"crv"`
			Type  string `json:"kty"`
			X     string `json:"x"`
			Y     string `json:"y"`
		}{"P-256", "EC", b64(point[1:33]), b64(point[33:])}
	default:
		return nil, errKey
	}
	var err error
	if p.jwk, err = json.Marshal(jwk); err != nil {
		return nil, err
	}
	header, err := json.Marshal(struct {
		Alg string          `json:"alg"`
		Typ string          `json:"typ"`
		JWK json.RawMessage `json:"jwk"`
	}{alg, proto.ProofType, p.jwk})
	p.header = b64(header)
	return p, err
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// loginKey returns the public key for the request of a login; nil without a prover.
func (p *prover) loginKey() *proto.LoginKey {
	if p == nil {
		return nil
	}
	return &proto.LoginKey{JWK: p.jwk}
}

// prove returns a proof for the act and the token.
func (p *prover) prove(act, token string) (string, error) {
	body, err := json.Marshal(proto.Proof{Act: act, Token: proto.TokenHash(token), N: p.next()})
	if err != nil {
		return "", err
	}
	text := p.header + "." + b64(body)
	signature, err := p.sign([]byte(text))
	return text + "." + b64(signature), err
}

// next returns a number that is greater than all earlier ones, including those of an
// earlier process with the same key, unless the clock was set back in between.
func (p *prover) next() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = max(p.last+1, uint64(max(time.Now().UnixMilli(), 0)))
	return p.last
}

func (p *prover) sign(text []byte) ([]byte, error) {
	if _, ok := p.key.Public().(ed25519.PublicKey); ok {
		return p.key.Sign(nil, text, crypto.Hash(0))
	}
	sum := sha256.Sum256(text)
	der, err := p.key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	var s struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &s); err != nil {
		return nil, err
	}
	raw := make([]byte, 64) // the format of JWS: r and s, 32 bytes each
	s.R.FillBytes(raw[:32])
	s.S.FillBytes(raw[32:])
	return raw, nil
}
