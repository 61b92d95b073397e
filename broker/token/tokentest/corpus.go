// Package tokentest has, for tests, tokens that every verifier must refuse (forged,
// malformed, with wrong claims or at the wrong time), and clients that make proofs of
// possession.
package tokentest

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/usher-broker/usher/proto"
)

// What is wrong with a token.
const (
	Malformed  = "malformed"
	Signature  = "signature"
	UnknownKey = "unknown key"
	Claims     = "claims"
	NotYet     = "not yet"
)

// Forgery is a token that must be refused, and what is wrong with it: one of the
// constants.
type Forgery struct {
	Name string
	Raw  string
	Want string
}

// Mint makes tokens with a signing key. Except where the signature is what is wrong
// with a token, it is valid.
type Mint struct {
	Key ed25519.PrivateKey
	Kid string
	Now int64 // seconds since the Unix epoch
	// Claims are those of a valid token. The times are replaced by Now and times
	// relative to it.
	Claims map[string]any
}

// Corpus returns all forgeries.
func (m Mint) Corpus() []Forgery {
	return slices.Concat(m.badForm(), m.badHeaders(), m.badSignatures(), m.badClaims(), m.badTimes())
}

// Good returns a valid token with a lifetime of an hour.
func (m Mint) Good() string { return m.mint(m.header(), m.payload(nil)) }

func (m Mint) header() string { return `{"alg":"EdDSA","kid":"` + m.Kid + `","typ":"usher+jwt"}` }

// payload returns the valid claims with changes; a nil value removes a claim.
func (m Mint) payload(changes map[string]any) string {
	c := maps.Clone(m.Claims)
	c["iat"], c["nbf"], c["exp"] = m.Now, m.Now, m.Now+3600
	for name, v := range changes {
		if c[name] = v; v == nil {
			delete(c, name)
		}
	}
	b, err := json.Marshal(c)
	if err != nil {
		panic(err) // the claims of the caller cannot be encoded
	}
	return string(b)
}

func (m Mint) expires() string { return strconv.FormatInt(m.Now+3600, 10) }

// mint signs any header and payload with the key of m.
func (m Mint) mint(header, payload string) string {
	return signWith(m.Key, b64(header)+"."+b64(payload))
}

// otherKey returns a key that no verifier knows.
func (m Mint) otherKey() ed25519.PrivateKey {
	seed := sha256.Sum256(m.Key.Seed())
	return ed25519.NewKeyFromSeed(seed[:])
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func signWith(key ed25519.PrivateKey, text string) string {
	return text + "." + b64(string(ed25519.Sign(key, []byte(text))))
}

func longName(n int) string { return strings.Repeat("n", n) }

func (m Mint) badForm() []Forgery {
	good := m.mint(m.header(), m.payload(nil))
	parts := strings.Split(good, ".")
	padded := base64.URLEncoding.EncodeToString([]byte(m.header()))
	return []Forgery{
		{"empty", "", Malformed},
		{"dots only", "..", Malformed},
		{"one part", parts[0], Malformed},
		{"two parts", parts[0] + "." + parts[1], Malformed},
		{"four parts", good + "." + parts[2], Malformed},
		{"five parts, as encrypted", strings.Repeat(parts[0]+".", 4) + parts[0], Malformed},
		{"trailing newline", good + "\n", Malformed},
		{"leading space", " " + good, Malformed},
		{"newline inside the signature", good[:len(good)-4] + "\n" + good[len(good)-4:], Malformed},
		{"carriage return inside the header", good[:4] + "\r" + good[4:], Malformed},
		{"NUL at the end", good + "\x00", Malformed},
		{"with scheme", "Bearer " + good, Malformed},
		{"padding", strings.TrimRight(padded, "=") + "==." + parts[1] + "." + parts[2], Malformed},
		{"standard alphabet", signWith(m.Key, b64(m.header())+"."+strings.ReplaceAll(b64(m.payload(map[string]any{"sub": "???>>>"})), "_", "/")), Malformed},
		{"not base64", "!!." + parts[1] + "." + parts[2], Malformed},
		{"not ASCII", "é" + good, Malformed},
		{"bits beyond the end of the signature", lastBits(good), Malformed},
		{"empty header", "." + parts[1] + "." + parts[2], Malformed},
		{"empty claims", signWith(m.Key, parts[0]+"."), Malformed},
		{"one byte too long", strings.Repeat("A", proto.MaxTokenBytes+1), Malformed},
		{"well signed but too long", m.mint(m.header(), m.payload(map[string]any{"x": longName(4000)})), Malformed},
		{"JSON serialization", `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`, Malformed},
	}
}

// lastBits sets the bits of the last character that belong to no byte.
func lastBits(raw string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, raw[len(raw)-1])
	return raw[:len(raw)-1] + alphabet[last|1:last|1+1]
}

func (m Mint) badHeaders() []Forgery {
	p := m.payload(nil)
	with := func(header string) string {
		return m.mint(strings.Replace(header, `"kid":"k1"`, `"kid":"`+m.Kid+`"`, 1), p)
	}
	public := b64(string(m.Key.Public().(ed25519.PublicKey)))
	secret := hmac.New(sha256.New, m.Key.Public().(ed25519.PublicKey))
	hs := b64(`{"alg":"HS256","kid":"`+m.Kid+`","typ":"usher+jwt"}`) + "." + b64(p)
	secret.Write([]byte(hs))
	return []Forgery{
		{"alg none", strings.Join(append(strings.Split(with(`{"alg":"none","kid":"k1","typ":"usher+jwt"}`), ".")[:2], ""), "."), Malformed},
		{"alg none, signed", with(`{"alg":"none","kid":"k1","typ":"usher+jwt"}`), Malformed},
		{"alg None", with(`{"alg":"None","kid":"k1","typ":"usher+jwt"}`), Malformed},
		{"alg HS256 with the public key as secret", hs + "." + b64(string(secret.Sum(nil))), Malformed},
		{"alg ES256", with(`{"alg":"ES256","kid":"k1","typ":"usher+jwt"}`), Malformed},
		{"alg Ed25519", with(`{"alg":"Ed25519","kid":"k1","typ":"usher+jwt"}`), Malformed},
		{"alg in the wrong case", with(`{"alg":"eddsa","kid":"k1","typ":"usher+jwt"}`), Malformed},
		{"no alg", with(`{"kid":"k1","typ":"usher+jwt"}`), Malformed},
		{"alg not a string", with(`{"alg":["EdDSA"],"kid":"k1","typ":"usher+jwt"}`), Malformed},
		{"alg null", with(`{"alg":null,"kid":"k1","typ":"usher+jwt"}`), Malformed},
		{"alg twice", with(`{"alg":"none","alg":"EdDSA","kid":"k1","typ":"usher+jwt"}`), Malformed},
		{"alg in two cases", with(`{"Alg":"none","alg":"EdDSA","kid":"k1","typ":"usher+jwt"}`), Malformed},
		{"no kid", with(`{"alg":"EdDSA","typ":"usher+jwt"}`), Malformed},
		{"empty kid", with(`{"alg":"EdDSA","kid":"","typ":"usher+jwt"}`), Malformed},
		{"kid not a string", with(`{"alg":"EdDSA","kid":1,"typ":"usher+jwt"}`), Malformed},
		{"kid too long", with(`{"alg":"EdDSA","kid":"` + longName(129) + `","typ":"usher+jwt"}`), Malformed},
		{"kid unknown", with(`{"alg":"EdDSA","kid":"k2","typ":"usher+jwt"}`), UnknownKey},
		{"kid a path", with(`{"alg":"EdDSA","kid":"../../dev/null","typ":"usher+jwt"}`), UnknownKey},
		{"kid with a newline", with(`{"alg":"EdDSA","kid":"k\r\n1","typ":"usher+jwt"}`), UnknownKey},
		{"typ JWT", with(`{"alg":"EdDSA","kid":"k1","typ":"JWT"}`), Malformed},
		{"typ in upper case", with(`{"alg":"EdDSA","kid":"k1","typ":"USHER+JWT"}`), Malformed},
		{"typ with prefix", with(`{"alg":"EdDSA","kid":"k1","typ":"application/usher+jwt"}`), Malformed},
		{"no typ", with(`{"alg":"EdDSA","kid":"k1"}`), Malformed},
		{"crit", with(`{"alg":"EdDSA","kid":"k1","typ":"usher+jwt","crit":["exp"]}`), Malformed},
		{"b64", with(`{"alg":"EdDSA","kid":"k1","typ":"usher+jwt","b64":false}`), Malformed},
		{"jwk", with(`{"alg":"EdDSA","kid":"k1","typ":"usher+jwt","jwk":{"kty":"OKP","crv":"Ed25519","x":"` + public + `"}}`), Malformed},
		{"jku", with(`{"alg":"EdDSA","kid":"k1","typ":"usher+jwt","jku":"http://evil.example/jwks"}`), Malformed},
		{"x5u", with(`{"alg":"EdDSA","kid":"k1","typ":"usher+jwt","x5u":"http://evil.example/cert"}`), Malformed},
		{"x5c", with(`{"alg":"EdDSA","kid":"k1","typ":"usher+jwt","x5c":["MIIB"]}`), Malformed},
		{"x5t", with(`{"alg":"EdDSA","kid":"k1","typ":"usher+jwt","x5t":"abc"}`), Malformed},
		{"zip", with(`{"alg":"EdDSA","kid":"k1","typ":"usher+jwt","zip":"DEF"}`), Malformed},
		{"cty", with(`{"alg":"EdDSA","kid":"k1","typ":"usher+jwt","cty":"JWT"}`), Malformed},
		{"header an array", with(`["EdDSA"]`), Malformed},
		{"header null", with(`null`), Malformed},
		{"header of two objects", with(m.header() + m.header()), Malformed},
		{"header not UTF-8", with("{\"alg\":\"EdDSA\",\"kid\":\"k1\xff\",\"typ\":\"usher+jwt\"}"), Malformed},
		{"header cut short", with(m.header()[:len(m.header())-1]), Malformed},
		{"header with trailing comma", with(`{"alg":"EdDSA","kid":"k1","typ":"usher+jwt",}`), Malformed},
	}
}

func (m Mint) badSignatures() []Forgery {
	text := b64(m.header()) + "." + b64(m.payload(nil))
	signature := ed25519.Sign(m.Key, []byte(text))
	flipped := slices.Clone(signature)
	flipped[10] ^= 1
	other := b64(m.header()) + "." + b64(m.payload(map[string]any{"sub": "root"}))
	return []Forgery{
		{"no signature", text + ".", Signature},
		{"signature of another key", signWith(m.otherKey(), text), Signature},
		{"signature flipped", text + "." + b64(string(flipped)), Signature},
		{"signature cut", text + "." + b64(string(signature[:63])), Signature},
		{"signature and more", text + "." + b64(string(signature)+"x"), Signature},
		{"signature of zeros", text + "." + b64(strings.Repeat("\x00", 64)), Signature},
		{"signature of another token", other + "." + b64(string(signature)), Signature},
		{"signature of the claims alone", text + "." + b64(string(ed25519.Sign(m.Key, []byte(b64(m.payload(nil)))))), Signature},
		{"signature with S plus the group order", text + "." + b64(string(malleated(signature))), Signature},
	}
}

// malleated returns the other value that satisfies the equation of the signature. Only
// a check that S is reduced detects it.
func malleated(signature []byte) []byte {
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	s := slices.Clone(signature[32:])
	slices.Reverse(s)
	sum := new(big.Int).Add(new(big.Int).SetBytes(s), order).FillBytes(make([]byte, 32))
	slices.Reverse(sum)
	return append(slices.Clone(signature[:32]), sum...)
}

func (m Mint) badClaims() []Forgery {
	p := m.payload(nil)
	with := func(changes map[string]any) string { return m.mint(m.header(), m.payload(changes)) }
	extra := func(member string) string { return m.mint(m.header(), p[:len(p)-1]+","+member+"}") }
	list := []Forgery{
		{"claims an array", m.mint(m.header(), `[]`), Malformed},
		{"claims null", m.mint(m.header(), `null`), Malformed},
		{"claims a string", m.mint(m.header(), `"ada"`), Malformed},
		{"claims twice", m.mint(m.header(), p+p), Malformed},
		{"claims and more", m.mint(m.header(), p+"x"), Malformed},
		{"claims not UTF-8", m.mint(m.header(), strings.Replace(p, "ada", "ad\xff", 1)), Malformed},
		{"claims cut short", m.mint(m.header(), p[:len(p)-1]), Malformed},
		{"sub twice", extra(`"sub":"root"`), Malformed},
		{"sub twice, spelled with an escape", extra(`"s\u0075b":"root"`), Malformed},
		{"exp twice", extra(`"exp":9999999999`), Malformed},
		{"Sub", extra(`"Sub":"root"`), Claims},
		{"EXP", extra(`"EXP":9999999999`), Claims},
		{"sub with a long s", extra(`"ſub":"root"`), Claims},
		{"aud of another service", with(map[string]any{"aud": "other"}), Claims},
		{"aud a list", with(map[string]any{"aud": []string{"usher"}}), Claims},
		{"aud in upper case", with(map[string]any{"aud": "USHER"}), Claims},
		{"sub too long", with(map[string]any{"sub": longName(129)}), Claims},
		{"sub with NUL", with(map[string]any{"sub": "a\x00b"}), Claims},
		{"sub with newline", with(map[string]any{"sub": "a\nb"}), Claims},
		{"sub a number", with(map[string]any{"sub": 7}), Claims},
		{"nid too long", with(map[string]any{"nid": longName(129)}), Claims},
		{"sid too long", with(map[string]any{"sid": longName(129)}), Claims},
		{"iss too long", with(map[string]any{"iss": longName(65)}), Claims},
		{"jti too long", with(map[string]any{"jti": longName(129)}), Claims},
		{"ep zero", with(map[string]any{"ep": 0}), Claims},
		{"ep negative", with(map[string]any{"ep": -1}), Claims},
		{"ep a fraction", with(map[string]any{"ep": 1.5}), Claims},
		{"ep a string", with(map[string]any{"ep": "1"}), Claims},
		{"ep beyond what JSON carries", with(map[string]any{"ep": uint64(1) << 53}), Claims},
		{"ep huge", m.mint(m.header(), strings.Replace(p, `"ep":1`, `"ep":1`+strings.Repeat("0", 400), 1)), Claims},
		{"ext too long", with(map[string]any{"ext": longName(1100)}), Claims},
		{"ext broken", extra(`"ext":{`), Malformed},
	}
	for _, name := range []string{"iss", "aud", "sub", "sid", "nid", "ep", "iat", "nbf", "exp", "jti"} {
		list = append(list,
			Forgery{"no " + name, with(map[string]any{name: nil}), Claims},
			Forgery{name + " null", m.mint(m.header(), strings.Replace(m.payload(map[string]any{name: "X"}), `"X"`, "null", 1)), Claims},
			Forgery{name + " empty", with(map[string]any{name: ""}), Claims},
		)
	}
	return list
}

func (m Mint) badTimes() []Forgery {
	with := func(changes map[string]any) string { return m.mint(m.header(), m.payload(changes)) }
	return []Forgery{
		{"iat in the future", with(map[string]any{"iat": m.Now + 31}), NotYet},
		{"nbf in the future", with(map[string]any{"nbf": m.Now + 31}), NotYet},
		{"not yet, far", with(map[string]any{"iat": m.Now + 1e6, "nbf": m.Now + 1e6, "exp": m.Now + 1e6 + 60}), NotYet},
		{"exp in 100 years", with(map[string]any{"exp": m.Now + 100*365*86400}), Claims},
		{"lifetime of a second too many", with(map[string]any{"exp": m.Now + 86401}), Claims},
		{"exp before iat", with(map[string]any{"exp": m.Now - 1}), Claims},
		{"exp at iat", with(map[string]any{"exp": m.Now}), Claims},
		{"exp before nbf", with(map[string]any{"nbf": m.Now + 20, "exp": m.Now + 10}), Claims},
		{"long expired and too long lived", with(map[string]any{"iat": 1, "nbf": 1, "exp": m.Now - 3600}), Claims},
		{"exp a fraction", with(map[string]any{"exp": float64(m.Now) + 0.5}), Claims},
		{"exp with an exponent", m.mint(m.header(), strings.Replace(m.payload(nil), m.expires(), strconv.FormatFloat(float64(m.Now+3600), 'e', -1, 64), 1)), Claims},
		{"exp a string", with(map[string]any{"exp": m.expires()}), Claims},
		{"exp negative", with(map[string]any{"exp": -1}), Claims},
		{"exp past the year 9999", with(map[string]any{"exp": 253402300800}), Claims},
		{"exp overflowing", m.mint(m.header(), strings.Replace(m.payload(nil), m.expires(), "9223372036854775808", 1)), Claims},
		{"iat zero", with(map[string]any{"iat": 0}), Claims},
	}
}
