package token

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/usher-broker/usher/proto"
)

// forgery is a token that must be refused, and as what.
type forgery struct {
	name string
	raw  string
	want error
}

func TestCorpus(t *testing.T) {
	list := corpus(t)
	if len(list) < 60 {
		t.Errorf("only %d cases", len(list))
	}
	seen := make(map[string]bool)
	for _, c := range list {
		if seen[c.name] {
			t.Errorf("%q twice", c.name)
		}
		seen[c.name] = true
		t.Run(c.name, func(t *testing.T) {
			claims, err := testVerifier().Verify(t.Context(), c.raw)
			if !errors.Is(err, c.want) || !errors.Is(err, ErrInvalid) {
				t.Fatalf("error is %v, want %v", err, c.want)
			}
			if !reflect.DeepEqual(claims, proto.Claims{}) {
				t.Errorf("claims came with it: %+v", claims)
			}
			if msg := err.Error(); len(msg) > 1000 || strings.ContainsAny(msg, "\r\x00") {
				t.Errorf("message is %q", msg)
			}
		})
	}
}

func corpus(t testing.TB) []forgery {
	return slices.Concat(badForm(t), badHeaders(t), badSignatures(t), badClaims(t), badTimes(t))
}

func badForm(t testing.TB) []forgery {
	good := mint(goodHeader, payload(t, nil))
	parts := strings.Split(good, ".")
	padded := base64.URLEncoding.EncodeToString([]byte(goodHeader))
	return []forgery{
		{"empty", "", ErrMalformed},
		{"dots only", "..", ErrMalformed},
		{"one part", parts[0], ErrMalformed},
		{"two parts", parts[0] + "." + parts[1], ErrMalformed},
		{"four parts", good + "." + parts[2], ErrMalformed},
		{"five parts, as encrypted", strings.Repeat(parts[0]+".", 4) + parts[0], ErrMalformed},
		{"trailing newline", good + "\n", ErrMalformed},
		{"leading space", " " + good, ErrMalformed},
		{"newline inside the signature", good[:len(good)-4] + "\n" + good[len(good)-4:], ErrMalformed},
		{"carriage return inside the header", good[:4] + "\r" + good[4:], ErrMalformed},
		{"NUL at the end", good + "\x00", ErrMalformed},
		{"with scheme", "Bearer " + good, ErrMalformed},
		{"padding", strings.TrimRight(padded, "=") + "==." + parts[1] + "." + parts[2], ErrMalformed},
		{"standard alphabet", signWith(pair(1), b64(goodHeader)+"."+strings.ReplaceAll(b64(payload(t, map[string]any{"sub": "???>>>"})), "_", "/")), ErrMalformed},
		{"not base64", "!!." + parts[1] + "." + parts[2], ErrMalformed},
		{"not ASCII", "é" + good, ErrMalformed},
		{"bits beyond the end of the signature", lastBits(good), ErrMalformed},
		{"empty header", "." + parts[1] + "." + parts[2], ErrMalformed},
		{"empty claims", signWith(pair(1), parts[0]+"."), ErrMalformed},
		{"one byte too long", strings.Repeat("A", proto.MaxTokenBytes+1), ErrMalformed},
		{"well signed but too long", mint(goodHeader, payload(t, map[string]any{"x": longName(4000)})), ErrMalformed},
		{"JSON serialization", `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`, ErrMalformed},
	}
}

// lastBits sets bits of the last character that stand for no byte.
func lastBits(raw string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, raw[len(raw)-1])
	return raw[:len(raw)-1] + alphabet[last|1:last|1+1]
}

func badHeaders(t testing.TB) []forgery {
	p := payload(t, nil)
	with := func(header string) string { return mint(header, p) }
	public := b64(string(pair(1).Public().(ed25519.PublicKey)))
	secret := hmac.New(sha256.New, pair(1).Public().(ed25519.PublicKey))
	hs := b64(`{"alg":"HS256","kid":"k1","typ":"usher+jwt"}`) + "." + b64(p)
	secret.Write([]byte(hs))
	return []forgery{
		{"alg none", strings.Join(append(strings.Split(with(`{"alg":"none","kid":"k1","typ":"usher+jwt"}`), ".")[:2], ""), "."), ErrMalformed},
		{"alg none, signed", with(`{"alg":"none","kid":"k1","typ":"usher+jwt"}`), ErrMalformed},
		{"alg None", with(`{"alg":"None","kid":"k1","typ":"usher+jwt"}`), ErrMalformed},
		{"alg HS256 with the public key as secret", hs + "." + b64(string(secret.Sum(nil))), ErrMalformed},
		{"alg ES256", with(`{"alg":"ES256","kid":"k1","typ":"usher+jwt"}`), ErrMalformed},
		{"alg Ed25519", with(`{"alg":"Ed25519","kid":"k1","typ":"usher+jwt"}`), ErrMalformed},
		{"alg in the wrong case", with(`{"alg":"eddsa","kid":"k1","typ":"usher+jwt"}`), ErrMalformed},
		{"no alg", with(`{"kid":"k1","typ":"usher+jwt"}`), ErrMalformed},
		{"alg not a string", with(`{"alg":["EdDSA"],"kid":"k1","typ":"usher+jwt"}`), ErrMalformed},
		{"alg null", with(`{"alg":null,"kid":"k1","typ":"usher+jwt"}`), ErrMalformed},
		{"alg twice", with(`{"alg":"none","alg":"EdDSA","kid":"k1","typ":"usher+jwt"}`), ErrMalformed},
		{"alg in two cases", with(`{"Alg":"none","alg":"EdDSA","kid":"k1","typ":"usher+jwt"}`), ErrMalformed},
		{"no kid", with(`{"alg":"EdDSA","typ":"usher+jwt"}`), ErrMalformed},
		{"empty kid", with(`{"alg":"EdDSA","kid":"","typ":"usher+jwt"}`), ErrMalformed},
		{"kid not a string", with(`{"alg":"EdDSA","kid":1,"typ":"usher+jwt"}`), ErrMalformed},
		{"kid too long", with(`{"alg":"EdDSA","kid":"` + longName(129) + `","typ":"usher+jwt"}`), ErrMalformed},
		{"kid unknown", with(`{"alg":"EdDSA","kid":"k2","typ":"usher+jwt"}`), ErrUnknownKey},
		{"kid a path", with(`{"alg":"EdDSA","kid":"../../dev/null","typ":"usher+jwt"}`), ErrUnknownKey},
		{"kid with a newline", with(`{"alg":"EdDSA","kid":"k\r\n1","typ":"usher+jwt"}`), ErrUnknownKey},
		{"typ JWT", with(`{"alg":"EdDSA","kid":"k1","typ":"JWT"}`), ErrMalformed},
		{"typ in upper case", with(`{"alg":"EdDSA","kid":"k1","typ":"USHER+JWT"}`), ErrMalformed},
		{"typ with prefix", with(`{"alg":"EdDSA","kid":"k1","typ":"application/usher+jwt"}`), ErrMalformed},
		{"no typ", with(`{"alg":"EdDSA","kid":"k1"}`), ErrMalformed},
		{"crit", with(`{"alg":"EdDSA","kid":"k1","typ":"usher+jwt","crit":["exp"]}`), ErrMalformed},
		{"b64", with(`{"alg":"EdDSA","kid":"k1","typ":"usher+jwt","b64":false}`), ErrMalformed},
		{"jwk", with(`{"alg":"EdDSA","kid":"k1","typ":"usher+jwt","jwk":{"kty":"OKP","crv":"Ed25519","x":"` + public + `"}}`), ErrMalformed},
		{"jku", with(`{"alg":"EdDSA","kid":"k1","typ":"usher+jwt","jku":"http://evil.example/jwks"}`), ErrMalformed},
		{"x5u", with(`{"alg":"EdDSA","kid":"k1","typ":"usher+jwt","x5u":"http://evil.example/cert"}`), ErrMalformed},
		{"x5c", with(`{"alg":"EdDSA","kid":"k1","typ":"usher+jwt","x5c":["MIIB"]}`), ErrMalformed},
		{"x5t", with(`{"alg":"EdDSA","kid":"k1","typ":"usher+jwt","x5t":"abc"}`), ErrMalformed},
		{"zip", with(`{"alg":"EdDSA","kid":"k1","typ":"usher+jwt","zip":"DEF"}`), ErrMalformed},
		{"cty", with(`{"alg":"EdDSA","kid":"k1","typ":"usher+jwt","cty":"JWT"}`), ErrMalformed},
		{"header an array", with(`["EdDSA"]`), ErrMalformed},
		{"header null", with(`null`), ErrMalformed},
		{"header of two objects", with(goodHeader + goodHeader), ErrMalformed},
		{"header not UTF-8", with("{\"alg\":\"EdDSA\",\"kid\":\"k1\xff\",\"typ\":\"usher+jwt\"}"), ErrMalformed},
		{"header cut short", with(goodHeader[:len(goodHeader)-1]), ErrMalformed},
		{"header with trailing comma", with(`{"alg":"EdDSA","kid":"k1","typ":"usher+jwt",}`), ErrMalformed},
	}
}

func badSignatures(t testing.TB) []forgery {
	text := b64(goodHeader) + "." + b64(payload(t, nil))
	signature := ed25519.Sign(pair(1), []byte(text))
	flipped := slices.Clone(signature)
	flipped[10] ^= 1
	other := b64(goodHeader) + "." + b64(payload(t, map[string]any{"sub": "root"}))
	return []forgery{
		{"no signature", text + ".", ErrSignature},
		{"signature of another key", signWith(pair(2), text), ErrSignature},
		{"signature flipped", text + "." + b64(string(flipped)), ErrSignature},
		{"signature cut", text + "." + b64(string(signature[:63])), ErrSignature},
		{"signature and more", text + "." + b64(string(signature)+"x"), ErrSignature},
		{"signature of zeros", text + "." + b64(strings.Repeat("\x00", 64)), ErrSignature},
		{"signature of another token", other + "." + b64(string(signature)), ErrSignature},
		{"signature of the claims alone", text + "." + b64(string(ed25519.Sign(pair(1), []byte(b64(payload(t, nil)))))), ErrSignature},
		{"signature with S plus the group order", text + "." + b64(string(malleated(signature))), ErrSignature},
	}
}

// malleated returns the other value that satisfies the equation of the
// signature; only the check that S is reduced tells it apart.
func malleated(signature []byte) []byte {
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	s := slices.Clone(signature[32:])
	slices.Reverse(s)
	sum := new(big.Int).Add(new(big.Int).SetBytes(s), order).FillBytes(make([]byte, 32))
	slices.Reverse(sum)
	return append(slices.Clone(signature[:32]), sum...)
}

func badClaims(t testing.TB) []forgery {
	p := payload(t, nil)
	with := func(changes map[string]any) string { return mint(goodHeader, payload(t, changes)) }
	extra := func(member string) string { return mint(goodHeader, p[:len(p)-1]+","+member+"}") }
	list := []forgery{
		{"claims an array", mint(goodHeader, `[]`), ErrMalformed},
		{"claims null", mint(goodHeader, `null`), ErrMalformed},
		{"claims a string", mint(goodHeader, `"ada"`), ErrMalformed},
		{"claims twice", mint(goodHeader, p+p), ErrMalformed},
		{"claims and more", mint(goodHeader, p+"x"), ErrMalformed},
		{"claims not UTF-8", mint(goodHeader, strings.Replace(p, "ada", "ad\xff", 1)), ErrMalformed},
		{"claims cut short", mint(goodHeader, p[:len(p)-1]), ErrMalformed},
		{"sub twice", extra(`"sub":"root"`), ErrMalformed},
		{"sub twice, spelled with an escape", extra(`"s\u0075b":"root"`), ErrMalformed},
		{"exp twice", extra(`"exp":9999999999`), ErrMalformed},
		{"Sub", extra(`"Sub":"root"`), ErrClaims},
		{"EXP", extra(`"EXP":9999999999`), ErrClaims},
		{"sub with a long s", extra(`"ſub":"root"`), ErrClaims},
		{"aud of another service", with(map[string]any{"aud": "other"}), ErrClaims},
		{"aud a list", with(map[string]any{"aud": []string{"usher"}}), ErrClaims},
		{"aud in upper case", with(map[string]any{"aud": "USHER"}), ErrClaims},
		{"sub too long", with(map[string]any{"sub": longName(129)}), ErrClaims},
		{"sub with NUL", with(map[string]any{"sub": "a\x00b"}), ErrClaims},
		{"sub with newline", with(map[string]any{"sub": "a\nb"}), ErrClaims},
		{"sub a number", with(map[string]any{"sub": 7}), ErrClaims},
		{"nid too long", with(map[string]any{"nid": longName(129)}), ErrClaims},
		{"sid too long", with(map[string]any{"sid": longName(129)}), ErrClaims},
		{"iss too long", with(map[string]any{"iss": longName(65)}), ErrClaims},
		{"jti too long", with(map[string]any{"jti": longName(129)}), ErrClaims},
		{"ep zero", with(map[string]any{"ep": 0}), ErrClaims},
		{"ep negative", with(map[string]any{"ep": -1}), ErrClaims},
		{"ep a fraction", with(map[string]any{"ep": 1.5}), ErrClaims},
		{"ep a string", with(map[string]any{"ep": "1"}), ErrClaims},
		{"ep beyond what JSON carries", with(map[string]any{"ep": uint64(1) << 53}), ErrClaims},
		{"ep huge", mint(goodHeader, strings.Replace(p, `"ep":1`, `"ep":1`+strings.Repeat("0", 400), 1)), ErrClaims},
		{"ext too long", with(map[string]any{"ext": longName(1100)}), ErrClaims},
		{"ext broken", extra(`"ext":{`), ErrMalformed},
	}
	for _, name := range []string{"iss", "aud", "sub", "sid", "nid", "ep", "iat", "nbf", "exp", "jti"} {
		list = append(list,
			forgery{"no " + name, with(map[string]any{name: nil}), ErrClaims},
			forgery{name + " null", mint(goodHeader, strings.Replace(payload(t, map[string]any{name: "X"}), `"X"`, "null", 1)), ErrClaims},
			forgery{name + " empty", with(map[string]any{name: ""}), ErrClaims},
		)
	}
	return list
}

func badTimes(t testing.TB) []forgery {
	with := func(changes map[string]any) string { return mint(goodHeader, payload(t, changes)) }
	return []forgery{
		{"iat in the future", with(map[string]any{"iat": moment + 31}), ErrNotYet},
		{"nbf in the future", with(map[string]any{"nbf": moment + 31}), ErrNotYet},
		{"not yet, far", with(map[string]any{"iat": moment + 1e6, "nbf": moment + 1e6, "exp": moment + 1e6 + 60}), ErrNotYet},
		{"exp in 100 years", with(map[string]any{"exp": moment + 100*365*86400}), ErrClaims},
		{"lifetime of a second too many", with(map[string]any{"exp": moment + 86401}), ErrClaims},
		{"exp before iat", with(map[string]any{"exp": moment - 1}), ErrClaims},
		{"exp at iat", with(map[string]any{"exp": moment}), ErrClaims},
		{"exp before nbf", with(map[string]any{"nbf": moment + 20, "exp": moment + 10}), ErrClaims},
		{"long expired and too long lived", with(map[string]any{"iat": 1, "nbf": 1, "exp": moment - 3600}), ErrClaims},
		{"exp a fraction", with(map[string]any{"exp": moment + 0.5}), ErrClaims},
		{"exp with an exponent", mint(goodHeader, strings.Replace(payload(t, nil), "1800003600", "1.8000036e9", 1)), ErrClaims},
		{"exp a string", with(map[string]any{"exp": "1800003600"}), ErrClaims},
		{"exp negative", with(map[string]any{"exp": -1}), ErrClaims},
		{"exp past the year 9999", with(map[string]any{"exp": 253402300800}), ErrClaims},
		{"exp overflowing", mint(goodHeader, strings.Replace(payload(t, nil), "1800003600", "9223372036854775808", 1)), ErrClaims},
		{"iat zero", with(map[string]any{"iat": 0}), ErrClaims},
	}
}
