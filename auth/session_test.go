package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/proto"
)

// token returns a token for ada; change may change the claims before they are signed.
func (d *fixture) token(change func(*proto.Claims)) string {
	d.t.Helper()
	c := d.broker.claims("ada")
	if change != nil {
		change(&c)
	}
	raw, err := d.broker.keys.Sign(c)
	if err != nil {
		d.t.Fatal(err)
	}
	return raw
}

func expired(c *proto.Claims) {
	c.IssuedAt, c.NotBefore, c.Expires = c.IssuedAt-7200, c.NotBefore-7200, c.Expires-7200
}

func TestReconnect(t *testing.T) {
	for name, c := range map[string]struct {
		body, unreachable string
		change            func(*proto.Claims)
	}{
		"empty object":   {`{}`, "", nil},
		"no body":        {``, "", nil},
		"unreachable":    {`{"unreachable":"node-7"}`, "node-7", nil},
		"null":           {`{"unreachable":null}`, "", nil},
		"expired token":  {`{}`, "", expired},
		"unknown member": {`{"why":"bored"}`, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			d := newFixture(t, nil)
			raw := d.token(c.change)
			got := d.do("POST", "/v1/reconnect", c.body, "Authorization", "Bearer "+raw).assignment(t)
			if got.Token == raw {
				t.Error("the token is not a fresh one")
			}
			if d.broker.unreachable != c.unreachable || len(d.broker.reassigned) != 1 || d.broker.reassigned[0].Session != testSession {
				t.Errorf("the broker was asked %+v, %q", d.broker.reassigned, d.broker.unreachable)
			}
			line := d.log.String()
			if !strings.Contains(line, "msg=reconnect user=ada session="+testSession+" node=node-7") || strings.Contains(line, raw[:20]) {
				t.Errorf("log is %s", line)
			}
			if n := testutil.ToFloat64(d.metrics.reconnects.WithLabelValues("ok")); n != 1 {
				t.Errorf("counted %v times", n)
			}
		})
	}
}

func TestReconnectProblems(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{
		{session.ErrEnded, 410, proto.ProblemSessionEnded},
		{session.ErrNotFound, 410, proto.ProblemSessionEnded},
		{session.ErrUnavailable, 503, proto.ProblemStoreUnavailable},
		{placement.ErrNoCapacity, 503, proto.ProblemNoCapacity},
		{placement.ErrNoNodes, 503, proto.ProblemNoCapacity},
		{context.DeadlineExceeded, 503, proto.ProblemStoreUnavailable},
		{errors.New("?"), 500, proto.ProblemInternal},
	} {
		d := newFixture(t, nil)
		d.broker.err = fmt.Errorf("reassigning: %w", c.err)
		d.do("POST", "/v1/reconnect", `{}`, "Authorization", "Bearer "+d.token(nil)).problem(t, c.status, c.code)
		if n := testutil.ToFloat64(d.metrics.reconnects.WithLabelValues(c.code)); n != 1 {
			t.Errorf("%s counted %v times", c.code, n)
		}
	}
}

func TestLogout(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		status int
	}{
		"ends it":     {nil, 204},
		"ended":       {session.ErrEnded, 204},
		"gone":        {session.ErrNotFound, 204},
		"store hangs": {session.ErrUnavailable, 503},
	} {
		t.Run(name, func(t *testing.T) {
			d := newFixture(t, nil)
			d.broker.err = c.err
			a := d.do("POST", "/v1/logout", "", "Authorization", "bearer "+d.token(expired))
			if c.status != 204 {
				a.problem(t, c.status, proto.ProblemStoreUnavailable)
				return
			}
			if a.status != 204 || a.body != "" {
				t.Errorf("%d %q", a.status, a.body)
			}
			if c.err == nil && (len(d.broker.ended) != 1 || d.broker.ended[0] != testSession || d.broker.code != proto.CloseSessionEnded) {
				t.Errorf("ended %v with %d", d.broker.ended, d.broker.code)
			}
			if !strings.Contains(d.log.String(), "msg=logout user=ada session="+testSession+" node=node-7") {
				t.Errorf("log is %s", d.log)
			}
		})
	}
}

func TestTokensAreChecked(t *testing.T) {
	d := newFixture(t, nil)
	good := d.token(nil)
	for name, c := range map[string]struct {
		header string
		sent   bool // a token was sent, so the challenge says what is wrong with it
	}{
		"none":             {"", false},
		"no scheme":        {good, false},
		"another scheme":   {"Basic " + good, false},
		"empty":            {"Bearer ", false},
		"garbage":          {"Bearer x", true},
		"changed":          {"Bearer " + good[:len(good)-5] + "AAAAA", true},
		"two":              {"Bearer " + good + "," + good, true},
		"very long":        {"Bearer " + strings.Repeat("a", 10_000), true},
		"of another auth":  {"Bearer " + newFixture(t, nil).token(nil), true},
		"not valid yet":    {"Bearer " + d.token(func(c *proto.Claims) { c.NotBefore += 120 }), true},
		"expired, changed": {"Bearer " + strings.TrimSuffix(d.token(expired), "A")[1:], true},
	} {
		for _, path := range []string{"/v1/reconnect", "/v1/logout"} {
			a := d.do("POST", path, "{}", "Authorization", c.header)
			a.problem(t, 401, proto.ProblemInvalidToken)
			challenge := a.header.Get("WWW-Authenticate")
			if !strings.HasPrefix(challenge, "Bearer ") || strings.Contains(challenge, "invalid_token") != c.sent {
				t.Errorf("%s: challenge is %q", name, challenge)
			}
		}
	}
	if len(d.broker.reassigned)+len(d.broker.ended) != 0 {
		t.Error("the broker was asked")
	}
	if strings.Contains(d.log.String(), good[:len(good)-5]) {
		t.Error("a token is in the log")
	}
}

func TestTwoAuthorizationHeadersAreRefused(t *testing.T) {
	d := newFixture(t, nil)
	r := post("/v1/logout", "")
	r.Header["Authorization"] = []string{"Bearer " + d.token(nil), "Bearer " + d.token(nil)}
	w := &discard{header: make(map[string][]string)}
	d.Handler().ServeHTTP(w, r)
	if w.status != 401 {
		t.Errorf("status is %d", w.status)
	}
}

// failing is a verifier that returns an error.
type failing struct{ err error }

func (f failing) Verify(context.Context, string) (proto.Claims, error) { return proto.Claims{}, f.err }

func TestVerifierFailures(t *testing.T) {
	d := newFixture(t, func(c *Config) { c.Verifier = failing{fmt.Errorf("%w: no route", token.ErrUnavailable)} })
	d.do("POST", "/v1/reconnect", "{}", "Authorization", "Bearer x").problem(t, 503, proto.ProblemStoreUnavailable)
	d = newFixture(t, func(c *Config) { c.Verifier = failing{errors.New("broken")} })
	d.do("POST", "/v1/reconnect", "{}", "Authorization", "Bearer x").problem(t, 500, proto.ProblemInternal)
}

func TestReconnectAndLogoutWhileTheStoreHangs(t *testing.T) {
	d := newFixture(t, func(c *Config) { c.BrokerTimeout, c.ReassignTimeout = 50*time.Millisecond, 50*time.Millisecond })
	d.broker.hang = true
	for _, path := range []string{"/v1/reconnect", "/v1/logout"} {
		d.do("POST", path, "{}", "Authorization", "Bearer "+d.token(nil)).problem(t, 503, proto.ProblemStoreUnavailable)
	}
}
