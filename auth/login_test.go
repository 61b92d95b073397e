package auth

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/usher-broker/usher/auth/credential"
	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

const adaLogin = `{"method":"password","credentials":{"username":"ada","password":"correct horse"}}`

func TestLogin(t *testing.T) {
	d := newFixture(t, nil)
	got := d.login(`{"method":"password","credentials":{"username":"ada","password":"correct horse"},
		"placement":{"region":"eu","pool":"default","group":"match-42"},"later":[1,2]}`).assignment(t)
	if got.User != "ada" || got.Node.ID != "node-7" || got.Session != testSession {
		t.Errorf("assignment is %+v", got)
	}
	want := []proto.AssignmentRequest{{
		User: "ada", Placement: proto.Placement{Region: "eu", Pool: "default", Group: "match-42"}, Ext: []byte(`{"team":"red"}`),
	}}
	if !reflect.DeepEqual(d.broker.assigned, want) {
		t.Errorf("the broker was asked for %+v", d.broker.assigned)
	}
	line := d.log.String()
	for _, part := range []string{"msg=login", "user=ada", "session=" + testSession, "node=node-7"} {
		if !strings.Contains(line, part) {
			t.Errorf("log has no %s: %s", part, line)
		}
	}
	if strings.Count(line, "\n") != 1 || strings.Contains(line, "horse") || strings.Contains(line, got.Token[:20]) {
		t.Errorf("log is %s", line)
	}
}

func TestLoginAsGuest(t *testing.T) {
	d := newFixture(t, func(c *Config) { c.Providers = map[string]credential.Provider{"guest": credential.Guest{}} })
	if got := d.login(`{"method":"guest","credentials":{"name":"Ada Lovelace"}}`).assignment(t); got.User != "Ada Lovelace" {
		t.Errorf("user is %q", got.User)
	}
	for _, body := range []string{
		`{"method":"guest"}`, `{"method":"guest","credentials":null}`, `{"method":"guest","credentials":{}}`,
		`{"method":"guest","credentials":{"name":""}}`, `{"method":"guest","placement":null}`,
	} {
		if got := d.login(body).assignment(t); !strings.HasPrefix(got.User, "guest-") || len(got.User) < 12 {
			t.Errorf("%s: user is %q", body, got.User)
		}
	}
}

// A guest must not take the name of a user of another method.
func TestGuestsHaveAPrefixIfThereAreOtherMethods(t *testing.T) {
	d := newFixture(t, nil)
	if got := d.login(`{"method":"guest","credentials":{"name":"ada"}}`).assignment(t); got.User != "guest:ada" {
		t.Errorf("user is %q", got.User)
	}
	d = newFixture(t, func(c *Config) { c.Providers["guest"] = credential.Guest{Prefix: "~"} })
	if got := d.login(`{"method":"guest","credentials":{"name":"ada"}}`).assignment(t); got.User != "~ada" {
		t.Errorf("user is %q", got.User)
	}
}

func TestLoginRefusesUnknownUsers(t *testing.T) {
	d := newFixture(t, nil)
	wrong := d.login(strings.Replace(adaLogin, "correct", "wrong", 1))
	wrong.problem(t, 401, proto.ProblemInvalidCredentials)
	unknown := d.login(strings.Replace(adaLogin, "ada", "mallory", 1))
	if wrong.body != unknown.body || wrong.status != unknown.status || !reflect.DeepEqual(wrong.header, unknown.header) {
		t.Errorf("unknown user and wrong password differ:\n%+v\n%+v", unknown, wrong)
	}
	if n := d.password.count(); n != 2 {
		t.Errorf("the provider was asked %d times", n)
	}
	if log := d.log.String(); strings.Contains(log, "horse") || strings.Contains(log, "mallory") {
		t.Errorf("log is %s", log)
	}
	p := d.login(`{"method":"oidc"}`).problem(t, 400, proto.ProblemInvalidRequest)
	if !strings.Contains(p.Detail, "guest, password") {
		t.Errorf("detail is %q", p.Detail)
	}
}

func TestLoginProblemsOfTheBroker(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{
		{placement.ErrNoCapacity, 503, proto.ProblemNoCapacity},
		{session.ErrConnected, 409, proto.ProblemAlreadyConnected},
		{placement.ErrNoNodes, 503, proto.ProblemNoCapacity},
		{session.ErrUnavailable, 503, proto.ProblemStoreUnavailable},
		{errors.New("token of 4 kilobytes: s3cret"), 500, proto.ProblemInternal},
	} {
		d := newFixture(t, nil)
		d.broker.err = fmt.Errorf("placing ada: %w", c.err)
		a := d.login(adaLogin)
		a.problem(t, c.status, c.code)
		if strings.Contains(a.body, "s3cret") {
			t.Errorf("the answer contains the internal error: %s", a.body)
		}
		if !strings.Contains(d.log.String(), c.err.Error()) {
			t.Errorf("the log does not contain it: %s", d.log)
		}
		if n := testutil.ToFloat64(d.metrics.logins.WithLabelValues("password", c.code)); n != 1 {
			t.Errorf("%s counted %v times", c.code, n)
		}
	}
}

func TestRetryAfterIsSpread(t *testing.T) {
	d := newFixture(t, nil)
	d.broker.err = placement.ErrNoCapacity
	seen := make(map[string]int)
	for range 200 {
		retry := d.login(adaLogin).header.Get("Retry-After")
		if n, err := strconv.Atoi(retry); err != nil || n < 1 || n > 5 {
			t.Fatalf("Retry-After is %q", retry)
		}
		seen[retry]++
	}
	if len(seen) != 5 {
		t.Errorf("200 answers spread over %v", seen)
	}
}

func TestLoginWhileTheStoreHangs(t *testing.T) {
	d := newFixture(t, nil)
	d.broker.hang = true
	start := time.Now()
	d.login(adaLogin).problem(t, 503, proto.ProblemStoreUnavailable)
	if took := time.Since(start); took < 500*time.Millisecond || took > 950*time.Millisecond {
		t.Errorf("answered after %s", took)
	}
}

func TestLoginProblemsOfTheProvider(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{
		{fmt.Errorf("waiting: %w", credential.ErrBusy), 503, proto.ProblemNoCapacity},
		{fmt.Errorf("%w: id_token is missing", credential.ErrMalformed), 400, proto.ProblemInvalidRequest},
		{errors.New("account service said s3cret"), 500, proto.ProblemInternal},
	} {
		d := newFixture(t, func(c *Config) {})
		d.password.err = c.err
		d.cfg.Providers["password"] = d.password
		if a := d.login(adaLogin); strings.Contains(a.body, "s3cret") {
			t.Errorf("the answer contains the internal error: %s", a.body)
		} else {
			a.problem(t, c.status, c.code)
		}
	}
}

func TestLoginChecksTheNamesOfProviders(t *testing.T) {
	for _, user := range []string{"", "a\x00b", strings.Repeat("x", 129), " x"} {
		d := newFixture(t, nil)
		d.password.user = user
		d.cfg.Providers["password"] = noCheck{user}
		d.login(adaLogin).problem(t, 500, proto.ProblemInternal)
		if len(d.broker.assigned) != 0 {
			t.Errorf("%q reached the broker", user)
		}
	}
}

func TestManyFailuresAreThrottled(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	d := newFixture(t, func(c *Config) {
		c.Throttle = NewThrottle(ThrottleConfig{AccountBurst: 3, ClientBurst: 5, Now: func() time.Time { return now }})
	})
	wrong := strings.Replace(adaLogin, "correct", "wrong", 1)
	for range 3 {
		d.login(wrong).problem(t, 401, proto.ProblemInvalidCredentials)
	}
	asked := d.password.count()
	a := d.login(adaLogin)
	a.problem(t, 429, proto.ProblemTooManyAttempts)
	if a.header.Get("Retry-After") != "30" {
		t.Errorf("Retry-After is %s", a.header.Get("Retry-After"))
	}
	if d.password.count() != asked {
		t.Error("a throttled login reached the provider")
	}
	if n := testutil.ToFloat64(d.metrics.throttled); n != 1 {
		t.Errorf("throttled counted %v times", n)
	}
	now = now.Add(30 * time.Second)
	d.login(adaLogin).assignment(t)

	// The limit of the client, for any account: 3 failures, minus those forgiven in 30 s.
	for i := range 5 {
		d.login(strings.Replace(wrong, "ada", fmt.Sprint("user", i), 1)).problem(t, 401, proto.ProblemInvalidCredentials)
	}
	d.login(`{"method":"guest"}`).problem(t, 429, proto.ProblemTooManyAttempts)
}

func TestThousandsOfGoodLoginsPass(t *testing.T) {
	d := newFixture(t, nil)
	for range 3000 {
		d.login(adaLogin).assignment(t)
	}
	if n := testutil.ToFloat64(d.metrics.logins.WithLabelValues("password", "ok")); n != 3000 {
		t.Errorf("%v logins counted", n)
	}
}

func TestMetricsAreRegistered(t *testing.T) {
	d := newFixture(t, nil)
	d.login(adaLogin)
	d.login("{")
	families, err := d.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, f := range families {
		seen[f.GetName()] = true
	}
	for _, name := range []string{"usher_auth_logins_total", "usher_auth_refused_total", "usher_auth_throttled_total", "usher_auth_credential_seconds"} {
		if !seen[name] {
			t.Errorf("no %s", name)
		}
	}
	cfg := d.cfg
	if _, err := New(cfg); err == nil {
		t.Error("metrics registered twice without an error")
	}
}

func BenchmarkLoginGuest(b *testing.B) {
	d := newFixture(b, nil)
	d.log = nil
	body := `{"method":"guest","credentials":{"name":"ada"},"placement":{"region":"eu","group":"match-42"}}`
	b.ReportAllocs()
	for b.Loop() {
		w := &discard{header: make(http.Header)}
		d.Handler().ServeHTTP(w, post("/v1/login", body))
		if w.status != 0 && w.status != 200 {
			b.Fatal(w.status)
		}
	}
}
