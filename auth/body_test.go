package auth

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/usher-broker/usher/proto"
)

// malformed returns bodies of a login that are answered with 400.
func malformed() map[string]string {
	deep := func(open, end string, n int) string {
		return `{"method":"guest","credentials":` + strings.Repeat(open, n) + "1" + strings.Repeat(end, n) + `}`
	}
	return map[string]string{
		"nothing":                     ``,
		"spaces":                      "  \n ",
		"NUL":                         "\x00",
		"NUL behind":                  adaLogin + "\x00",
		"NUL inside":                  "{\"method\":\"gu\x00est\"}",
		"not JSON":                    `method=guest&name=ada`,
		"cut short":                   adaLogin[:len(adaLogin)-1],
		"cut in a string":             `{"method":"gue`,
		"array":                       `[` + adaLogin + `]`,
		"string":                      `"guest"`,
		"number":                      `12`,
		"true":                        `true`,
		"null":                        `null`,
		"two objects":                 adaLogin + adaLogin,
		"object and more":             adaLogin + ` x`,
		"comma behind":                adaLogin + `,`,
		"trailing comma":              `{"method":"guest",}`,
		"comment":                     `{"method":"guest"} // me`,
		"single quotes":               `{'method':'guest'}`,
		"BOM":                         "\ufeff" + adaLogin,
		"UTF-16":                      "\xff\xfe{\x00}\x00",
		"invalid UTF-8":               "{\"method\":\"guest\",\"credentials\":{\"name\":\"\xc3\x28\"}}",
		"overlong UTF-8":              "{\"method\":\"guest\",\"credentials\":{\"name\":\"\xc0\xaf\"}}",
		"UTF-8 surrogate":             "{\"method\":\"guest\",\"credentials\":{\"name\":\"\xed\xa0\x80\"}}",
		"lone surrogate escape":       `{"method":"guest","credentials":{"name":"\ud800"}}`,
		"control in a string":         "{\"method\":\"guest\",\"credentials\":{\"name\":\"a\nb\"}}",
		"method twice":                `{"method":"guest","method":"password"}`,
		"method twice, by an escape":  `{"method":"guest","meth\u006fd":"guest"}`,
		"name twice, inside":          `{"method":"guest","credentials":{"name":"a","name":"b"}}`,
		"method missing":              `{}`,
		"method in upper case":        `{"METHOD":"guest"}`,
		"method empty":                `{"method":""}`,
		"method null":                 `{"method":null}`,
		"method a number":             `{"method":1}`,
		"method a list":               `{"method":["guest"]}`,
		"method an object":            `{"method":{"guest":true}}`,
		"method unknown":              `{"method":"oidc"}`,
		"method capital":              `{"method":"Guest"}`,
		"method long":                 `{"method":"` + strings.Repeat("g", 5000) + `"}`,
		"100 deep arrays":             deep("[", "]", 100),
		"100 deep objects":            deep(`{"a":`, "}", 100),
		"5000 deep, unclosed":         `{"credentials":` + strings.Repeat("[", 5000),
		"credentials a string":        `{"method":"guest","credentials":"ada"}`,
		"credentials a number":        `{"method":"guest","credentials":1e999}`,
		"credentials a list":          `{"method":"guest","credentials":[]}`,
		"credentials true":            `{"method":"guest","credentials":true}`,
		"name a number":               `{"method":"guest","credentials":{"name":123456789012345678901234567890}}`,
		"name a list":                 `{"method":"guest","credentials":{"name":["a"]}}`,
		"name with NUL":               `{"method":"guest","credentials":{"name":"a\u0000b"}}`,
		"name with newline":           `{"method":"guest","credentials":{"name":"a\nb"}}`,
		"name with escape sequence":   `{"method":"guest","credentials":{"name":"\u001b[2J"}}`,
		"name with override":          `{"method":"guest","credentials":{"name":"\u202eada"}}`,
		"name with zero width":        `{"method":"guest","credentials":{"name":"a\u200bda"}}`,
		"name with spaces around":     `{"method":"guest","credentials":{"name":" ada "}}`,
		"name of spaces":              `{"method":"guest","credentials":{"name":"   "}}`,
		"name too long":               `{"method":"guest","credentials":{"name":"` + strings.Repeat("n", 129) + `"}}`,
		"name too long with prefix":   `{"method":"guest","credentials":{"name":"` + strings.Repeat("n", 128) + `"}}`,
		"number huge":                 `{"method":"guest","credentials":{"name":1` + strings.Repeat("0", 10000) + `}}`,
		"number wrong":                `{"method":"guest","x":01}`,
		"NaN":                         `{"method":"guest","x":NaN}`,
		"placement a string":          `{"method":"guest","placement":"eu"}`,
		"placement a list":            `{"method":"guest","placement":["eu"]}`,
		"region a number":             `{"method":"guest","placement":{"region":7}}`,
		"region an object":            `{"method":"guest","placement":{"region":{}}}`,
		"region too long":             `{"method":"guest","placement":{"region":"` + strings.Repeat("r", 129) + `"}}`,
		"pool too long":               `{"method":"guest","placement":{"pool":"` + strings.Repeat("p", 129) + `"}}`,
		"group too long":              `{"method":"guest","placement":{"group":"` + strings.Repeat("é", 65) + `"}}`,
		"group with NUL":              `{"method":"guest","placement":{"group":"a\u0000"}}`,
		"group with DEL":              `{"method":"guest","placement":{"group":"a\u007f"}}`,
		"pool with control":           `{"method":"guest","placement":{"pool":"a\u0085"}}`,
		"placement twice":             `{"method":"guest","placement":{},"placement":{}}`,
		"password, credentials empty": `{"method":"password","credentials":[]}`,
	}
}

func TestMalformedBodies(t *testing.T) {
	d := newFixture(t, nil)
	list := malformed()
	for name, body := range list {
		t.Run(name, func(t *testing.T) {
			a := d.login(body)
			p := a.problem(t, 400, proto.ProblemInvalidRequest)
			if len(p.Detail) > 400 || strings.Contains(p.Detail, "horse") {
				t.Errorf("detail is %q", p.Detail)
			}
		})
	}
	if len(d.broker.assigned) != 0 {
		t.Errorf("the broker was asked: %+v", d.broker.assigned)
	}
	if len(list) < 60 {
		t.Errorf("only %d bodies", len(list))
	}
}

func TestMalformedReconnects(t *testing.T) {
	d := newFixture(t, nil)
	for name, body := range map[string]string{
		"not JSON": `x`, "array": `[]`, "null": `null`, "two": `{}{}`, "number": `{"unreachable":7}`, "list": `{"unreachable":["node-7"]}`,
		"long":    `{"unreachable":"` + strings.Repeat("n", 129) + `"}`,
		"control": `{"unreachable":"a\u0000"}`, "twice": `{"unreachable":"a","unreachable":"b"}`,
		"deep": `{"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, "UTF-8": "{\"unreachable\":\"\xff\"}",
	} {
		t.Run(name, func(t *testing.T) {
			d.do("POST", "/v1/reconnect", body, "Authorization", "Bearer "+d.token(nil)).problem(t, 400, proto.ProblemInvalidRequest)
		})
	}
	if len(d.broker.reassigned) != 0 {
		t.Error("the broker was asked")
	}
}

func TestLongestNamesAreAccepted(t *testing.T) {
	d := newFixture(t, nil)
	hint := strings.Repeat("h", proto.MaxNameBytes)
	d.login(fmt.Sprintf(`{"method":"guest","placement":{"region":%[1]q,"pool":%[1]q,"group":%[1]q}}`, hint)).assignment(t)
}

func TestBodySize(t *testing.T) {
	d := newFixture(t, nil)
	fill := func(n int) string {
		return adaLogin[:len(adaLogin)-1] + strings.Repeat(" ", n-len(adaLogin)) + "}"
	}
	d.login(fill(proto.MaxBodyBytes)).assignment(t)
	d.login(fill(proto.MaxBodyBytes+1)).problem(t, 413, proto.ProblemBodyTooLarge)
	d.login(strings.Repeat("[", 1<<20)).problem(t, 413, proto.ProblemBodyTooLarge)

	r := post("/v1/login", fill(proto.MaxBodyBytes+1))
	r.ContentLength = -1 // sent in chunks
	w := httptest.NewRecorder()
	d.Handler().ServeHTTP(w, r)
	answer{w.Code, w.Header(), w.Body.String()}.problem(t, 413, proto.ProblemBodyTooLarge)
}

func TestContentTypes(t *testing.T) {
	d := newFixture(t, nil)
	for value, ok := range map[string]bool{
		"application/json":                  true,
		"Application/JSON; charset=UTF-8":   true,
		"":                                  true,
		"application/x-www-form-urlencoded": true, // what curl -d sends for any body
		"application/json; charset=latin1":  false,
		"application/jwt":                   false,
		"text/plain":                        false,
		"text/json":                         false,
		"multipart/form-data; boundary=x":   false,
		"application/xml":                   false,
		"application/":                      false,
		"application/json; charset":         false,
		";":                                 false,
	} {
		a := d.login(adaLogin, "Content-Type", value)
		if ok {
			a.assignment(t)
		} else {
			a.problem(t, http.StatusUnsupportedMediaType, proto.ProblemInvalidRequest)
		}
	}
	d.login(adaLogin, "Content-Encoding", "gzip").problem(t, http.StatusUnsupportedMediaType, proto.ProblemInvalidRequest)
	d.login(adaLogin, "Content-Encoding", "identity").assignment(t)
}

func FuzzLogin(f *testing.F) {
	f.Add(adaLogin, "")
	for _, body := range malformed() {
		f.Add(body, "application/json")
	}
	d := newFixture(f, nil)
	f.Fuzz(func(t *testing.T, body, contentType string) {
		r := httptest.NewRequest("POST", "/v1/login", strings.NewReader(body))
		r.Header.Set("Content-Type", contentType)
		w := httptest.NewRecorder()
		d.Handler().ServeHTTP(w, r)
		if !json.Valid(w.Body.Bytes()) || !utf8.Valid(w.Body.Bytes()) {
			t.Errorf("answer is %q", w.Body)
		}
		switch w.Code {
		case 200:
			var got proto.Assignment
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.User == "" || len(got.User) > proto.MaxNameBytes {
				t.Errorf("%q: %+v, %v", body, got, err)
			}
		case 400, 401, 413, 415, 429:
		default:
			t.Errorf("%q: %d %s", body, w.Code, w.Body)
		}
	})
}

func FuzzClientAddr(f *testing.F) {
	f.Add("10.0.0.1:80", "1.2.3.4, 10.0.0.2", "5.6.7.8")
	f.Add("[::1]:80", "[2001:db8::1]:443,::1", "")
	f.Add("@", ",,,", " ")
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	f.Fuzz(func(t *testing.T, remote, first, second string) {
		r := &http.Request{RemoteAddr: remote, Header: http.Header{"X-Forwarded-For": {first, second}}}
		got := clientAddr(r, trusted)
		peer := parseAddr(remote)
		if !isTrusted(peer, trusted) && got != peer {
			t.Errorf("%q with %q, %q is %s: an address that is not a proxy was trusted", remote, first, second, got)
		}
		if peer.IsValid() && !got.IsValid() {
			t.Errorf("%q with %q, %q is no address", remote, first, second)
		}
		if got.Is4In6() || got.Zone() != "" {
			t.Errorf("%s has another spelling", got)
		}
	})
}
