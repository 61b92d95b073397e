package credential

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alexedwards/argon2id"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cheap is a hash that costs almost nothing.
func cheap(t testing.TB, password string) string {
	t.Helper()
	hash, err := argon2id.CreateHash(password, &argon2id.Params{Memory: 8, Iterations: 1, Parallelism: 1, SaltLength: 8, KeyLength: 16})
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

// logBuffer stores the log.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func usersFile(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t testing.TB, content string) *Password {
	t.Helper()
	p, err := OpenPassword(usersFile(t, content), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func creds(user, password string) json.RawMessage {
	return fmt.Appendf(nil, `{"username":%q,"password":%q}`, user, password)
}

func TestPassword(t *testing.T) {
	line, err := HashLine("Ada Lovelace", "pässword:with$signs")
	if err != nil {
		t.Fatal(err)
	}
	p := open(t, "# users\n\n"+line+"\r\n  bob:"+cheap(t, "x")+"  \n#eve:nothing")
	for _, c := range []struct {
		user, password string
		err            error
	}{
		{"Ada Lovelace", "pässword:with$signs", nil},
		{"Ada Lovelace", "pässword:with$sign", ErrInvalidCredentials},
		{"Ada Lovelace", "Pässword:with$signs", ErrInvalidCredentials},
		{"ada lovelace", "pässword:with$signs", ErrInvalidCredentials},
		{"bob", "x", nil},
		{"bob", "x ", ErrInvalidCredentials},
		{"eve", "nothing", ErrInvalidCredentials},
		{"bob", "", ErrMalformed},
		{"bob", strings.Repeat("x", 1024), ErrInvalidCredentials},
		{"bob", strings.Repeat("x", 1025), ErrMalformed},
		{"nobody", "", ErrMalformed},
		{"nobody", strings.Repeat("x", 1025), ErrMalformed},
		{"", "x", ErrMalformed},
		{strings.Repeat("n", 129), "x", ErrMalformed},
	} {
		id, err := p.Verify(t.Context(), creds(c.user, c.password))
		if !errors.Is(err, c.err) {
			t.Errorf("%.20q, %.20q: %v, want %v", c.user, c.password, err, c.err)
		}
		if want := map[bool]string{true: c.user}[c.err == nil]; id.User != want {
			t.Errorf("%.20q is %q", c.user, id.User)
		}
	}
}

// Neither the answer nor its cost reveals whether a user exists.
func TestUnknownUserCostsTheSame(t *testing.T) {
	line, err := HashLine("ada", "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	p := open(t, line)
	var hashes []string
	p.compare = func(password, hash string) (bool, error) {
		hashes = append(hashes, hash)
		return argon2id.ComparePasswordAndHash(password, hash)
	}
	_, wrong := p.Verify(t.Context(), creds("ada", "wrong"))
	_, unknown := p.Verify(t.Context(), creds("eve", "wrong"))
	if wrong == nil || unknown == nil || wrong.Error() != unknown.Error() {
		t.Errorf("wrong password: %v; unknown user: %v", wrong, unknown)
	}
	if len(hashes) != 2 {
		t.Fatalf("%d hashes for two logins", len(hashes))
	}
	first, _, _, err1 := argon2id.DecodeHash(hashes[0])
	second, _, _, err2 := argon2id.DecodeHash(hashes[1])
	if err1 != nil || err2 != nil || *first != *second || hashes[0] == hashes[1] {
		t.Errorf("parameters are %+v and %+v (%v, %v)", first, second, err1, err2)
	}
	if _, err := p.Verify(t.Context(), creds("ada", "correct horse")); err != nil || len(hashes) != 3 {
		t.Errorf("a good login: %v after %d hashes", err, len(hashes))
	}
}

// An unknown user cannot log in, even with the password of the dummy hash.
func TestUnknownUserNeverMatches(t *testing.T) {
	p := open(t, "")
	p.compare = func(string, string) (bool, error) { return true, nil }
	if _, err := p.Verify(t.Context(), creds("eve", "x")); !errors.Is(err, ErrInvalidCredentials) {
		t.Errorf("error is %v", err)
	}
}

func TestHashesAtATimeAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := open(t, "ada:"+cheap(t, "x"))
		var mu sync.Mutex
		now, most := 0, 0
		p.compare = func(string, string) (bool, error) {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(20 * time.Millisecond)
			mu.Lock()
			now--
			mu.Unlock()
			return true, nil
		}
		procs := runtime.GOMAXPROCS(0)
		fit := procs + int(p.queue)
		var wg sync.WaitGroup
		errs := make(chan error, fit+100)
		for range fit + 100 {
			wg.Go(func() {
				_, err := p.Verify(t.Context(), creds("ada", "x"))
				errs <- err
			})
		}
		wg.Wait()
		busy := 0
		for range fit + 100 {
			if err := <-errs; errors.Is(err, ErrBusy) {
				busy++
			} else if err != nil {
				t.Error(err)
			}
		}
		if most != procs || busy != 100 {
			t.Errorf("%d at a time on %d processors, %d of %d refused", most, procs, busy, fit+100)
		}
		if _, err := p.Verify(t.Context(), creds("ada", "x")); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

func TestWaitingToHashEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := open(t, "ada:"+cheap(t, "x"))
		release := make(chan struct{})
		p.compare = func(string, string) (bool, error) { <-release; return true, nil }
		var wg sync.WaitGroup
		for range runtime.GOMAXPROCS(0) {
			wg.Go(func() { _, _ = p.Verify(t.Context(), creds("ada", "x")) })
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.Verify(ctx, creds("ada", "x")); !errors.Is(err, ErrBusy) {
			t.Errorf("error is %v", err)
		}
		close(release)
		wg.Wait()
		if n := p.waiting.Load(); n != 0 {
			t.Errorf("%d wait forever", n)
		}
	})
}

func TestMalformedPasswordCredentials(t *testing.T) {
	p := open(t, "ada:"+cheap(t, "x"))
	p.compare = func(string, string) (bool, error) { t.Error("hashed"); return false, nil }
	for _, in := range []string{
		"", "null", "[]", `"ada"`, "1", "{", `{"username":"ada"}`, `{"password":"x"}`, `{"username":1,"password":"x"}`,
		`{"username":"ada","password":["x"]}`, `{"username":"ada","password":null}`, `{"Username":"ada","password":"x"}`,
		`{"username":"ada","username":"bob","password":"x"}`, `{"username":"a\u0000","password":"x"}`, "{\"username\":\"ada\",\"password\":\"\xff\"}",
		`{"username":"ada","password":"x"}{}`,
	} {
		if _, err := p.Verify(t.Context(), json.RawMessage(in)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", in, err)
		}
		if got := p.Account(json.RawMessage(in)); got != "" {
			t.Errorf("%q is for account %q", in, got)
		}
	}
	if got := p.Account(creds("ada", "y")); got != "ada" {
		t.Errorf("account is %q", got)
	}
}

func TestUsersFileIsReadAgain(t *testing.T) {
	path := usersFile(t, "ada:"+cheap(t, "one"))
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		p, err := OpenPassword(path, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { p.Run(ctx) })
		defer wg.Wait()
		defer cancel()
		expect := func(what, password string, lines int) {
			t.Helper()
			time.Sleep(5 * usersInterval)
			synctest.Wait()
			if _, err := p.Verify(t.Context(), creds("ada", password)); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if n := strings.Count(log.String(), "\n"); n != lines {
				t.Errorf("%s: %d lines logged, want %d:\n%s", what, n, lines, &log)
			}
		}
		write := func(content string) {
			t.Helper()
			if err := errors.Join(os.WriteFile(path+".new", []byte(content), 0o600), os.Rename(path+".new", path)); err != nil {
				t.Fatal(err)
			}
		}
		expect("as it was", "one", 0)
		write("ada:" + cheap(t, "two"))
		expect("changed", "two", 1)
		write("ada:" + cheap(t, "three")[:30])
		expect("broken", "two", 2)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		expect("gone", "two", 3)
		write("ada:" + cheap(t, "four") + "\neve:" + cheap(t, "x"))
		expect("good again", "four", 4)
		if strings.Contains(log.String(), "m=8") {
			t.Errorf("a hash is in the log: %s", &log)
		}
	})
}

func BenchmarkPassword(b *testing.B) {
	line, err := HashLine("ada", "correct horse")
	if err != nil {
		b.Fatal(err)
	}
	p := open(b, line)
	for b.Loop() {
		if _, err := p.Verify(b.Context(), creds("ada", "correct horse")); err != nil {
			b.Fatal(err)
		}
	}
}
