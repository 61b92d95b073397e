package console_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/usher-broker/usher/broker/console"
)

func TestNewKey(t *testing.T) {
	key, line, err := console.NewKey("backend", "shop")
	if err != nil || !regexp.MustCompile(`^usher_[A-Za-z0-9_-]{43}$`).MatchString(key) {
		t.Fatalf("key %q, %v", key, err)
	}
	if want := fmt.Sprintf("backend:shop:%x", sha256.Sum256([]byte(key))); line != want {
		t.Errorf("line %q, want %q", line, want)
	}
	if again, _, _ := console.NewKey("backend", "shop"); again == key {
		t.Error("two calls returned the same key")
	}
	for _, bad := range [][2]string{{"root", "a"}, {"", "a"}, {"viewer", ""}, {"viewer", "a:b"}, {"viewer", "a\nb"}, {"viewer", "a\xff"}, {"viewer", strings.Repeat("x", 129)}} {
		if _, _, err := console.NewKey(bad[0], bad[1]); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestUnknownKeys(t *testing.T) {
	h := newFixture(t)
	key := h.keys[console.Viewer]
	for name, values := range map[string][]string{
		"none":         nil,
		"empty":        {""},
		"other scheme": {"Basic " + key},
		"no scheme":    {key},
		"no key":       {"Bearer "},
		"wrong":        {"Bearer " + key + "x"},
		"cut":          {"Bearer " + key[:len(key)-1]},
		"hash":         {fmt.Sprintf("Bearer %x", sha256.Sum256([]byte(key)))},
		"two":          {"Bearer " + key, "Bearer " + key},
	} {
		r := h.request("", "GET", "/v1/nodes", "")
		r.Header["Authorization"] = values
		w := h.do(r)
		if w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") == "" {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	r := h.request("", "GET", "/v1/nodes", "")
	r.Header.Set("Authorization", "bearer  "+key)
	if w := h.do(r); w.Code != http.StatusOK {
		t.Errorf("in lower case: %d", w.Code)
	}
}

// Many requests with wrong keys get 429. Requests with a valid key are not affected.
func TestManyUnknownKeys(t *testing.T) {
	h := newFixture(t)
	var last int
	for range 50 {
		r := h.request("", "GET", "/v1/nodes", "")
		r.Header.Set("Authorization", "Bearer guess")
		last = h.do(r).Code
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("the 50th guess: %d", last)
	}
	if n := strings.Count(h.log.String(), "unknown API key"); n == 0 || n > 30 {
		t.Errorf("%d lines in the log", n)
	}
	if w := h.do(h.request(console.Viewer, "GET", "/v1/nodes", "")); w.Code != http.StatusOK {
		t.Errorf("with the right key: %d", w.Code)
	}
}

func TestOpenKeysRefuses(t *testing.T) {
	_, good, err := console.NewKey("viewer", "a")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := console.OpenKeys(filepath.Join(dir, "none"), nil); err == nil {
		t.Error("no file: no error")
	}
	for name, text := range map[string]string{
		"empty":         "",
		"comments":      "# none yet\n\n",
		"two fields":    "viewer:a",
		"four fields":   good + ":x",
		"unknown role":  strings.Replace(good, "viewer", "root", 1),
		"short hash":    good[:len(good)-2],
		"hash not hex":  good[:len(good)-1] + "g",
		"a bad line":    good + "\nusher_secret\n",
		"far too large": good + "\n" + strings.Repeat("#\n", 1<<19),
	} {
		path := filepath.Join(dir, "keys")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := console.OpenKeys(path, nil)
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error quotes the line: %v", name, err)
		}
	}
}

// Keys become valid and invalid as the lines of the file change. A file that is not valid
// changes nothing.
func TestKeysFollowTheFile(t *testing.T) {
	h := newFixture(t)
	path := filepath.Join(t.TempDir(), "keys")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first, firstLine, _ := console.NewKey("viewer", "first")
	second, secondLine, _ := console.NewKey("viewer", "second")
	write("# the old one\r\n" + firstLine + "\r\n")
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		keys, err := console.OpenKeys(path, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); keys.Run(ctx) }()
		defer func() { cancel(); <-done }()
		h.open(keys)
		expect := func(when string, key string, want int) {
			t.Helper()
			r := h.request("", "GET", "/v1/nodes", "")
			r.Header.Set("Authorization", "Bearer "+key)
			w := h.do(r)
			if w.Code != want {
				t.Errorf("%s: %d, want %d", when, w.Code, want)
			}
		}
		settle := func() {
			time.Sleep(5 * time.Second)
			synctest.Wait()
		}
		expect("at first", first, 200)
		expect("not added yet", second, 401)
		write(firstLine + "\n" + secondLine)
		settle()
		expect("both", first, 200)
		expect("both", second, 200)
		write("not a key")
		settle()
		expect("with an invalid file", first, 200)
		write(secondLine)
		settle()
		expect("removed", first, 401)
		expect("still there", second, 200)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		settle()
		expect("without a file", second, 200)
		write("")
		settle()
		expect("all removed", second, 401)
		if n := strings.Count(log.String(), "cannot read the API keys"); n != 2 { // once for each lasting error
			t.Errorf("%d errors in the log, want 2:\n%s", n, log.String())
		}
	})
}
