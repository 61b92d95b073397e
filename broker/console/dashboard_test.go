package console_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/usher-broker/usher/broker/console"
)

// page requests a file of the dashboard without a key.
func (h *fixture) page(path string) *httptest.ResponseRecorder {
	h.t.Helper()
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, h.request("", "GET", path, ""))
	return w
}

// The page needs no key, loads nothing from other origins, and every file that it loads
// exists.
func TestDashboard(t *testing.T) {
	h := newFixture(t)
	index := h.page("/")
	policy := index.Header().Get("Content-Security-Policy")
	if index.Code != http.StatusOK || !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
		t.Fatalf("%d, policy %q", index.Code, policy)
	}
	body := index.Body.String()
	if strings.Contains(body, "style=") || strings.Contains(body, "<script>") || regexp.MustCompile(`\son[a-z]+=`).MatchString(body) {
		t.Error("the page contains something that its policy forbids")
	}
	files := regexp.MustCompile(`(?:src|href)="([^"#]+)"`).FindAllStringSubmatch(body, -1)
	if len(files) < 5 {
		t.Fatalf("files %q", files)
	}
	for _, f := range files {
		w := h.page("/" + f[1])
		if w.Code != http.StatusOK || w.Header().Get("X-Content-Type-Options") != "nosniff" || strings.Contains(f[1], "//") {
			t.Errorf("%s: %d", f[1], w.Code)
		}
		r := h.request("", "GET", "/"+f[1], "")
		r.Header.Set("If-None-Match", w.Header().Get("ETag"))
		again := httptest.NewRecorder()
		if h.handler.ServeHTTP(again, r); again.Code != http.StatusNotModified {
			t.Errorf("%s with its ETag: %d, want 304", f[1], again.Code)
		}
	}
	for _, path := range []string{"/index.html", "/vendor/", "/vendor", "/../console.go", "/nowhere", "/v1/nodes", "/v1/me"} {
		if w := h.page(path); w.Code != http.StatusUnauthorized {
			t.Errorf("%s without a key: %d", path, w.Code)
		}
	}
}

// Without API keys the page is served to this machine only.
func TestDashboardIsLocal(t *testing.T) {
	h := newFixture(t)
	h.openLocal()
	if w := h.page("/"); w.Code != http.StatusOK {
		t.Errorf("from this machine: %d", w.Code)
	}
	r := h.request("", "GET", "/", "")
	r.RemoteAddr = "192.0.2.1:1"
	w := httptest.NewRecorder()
	if h.handler.ServeHTTP(w, r); w.Code != http.StatusForbidden {
		t.Errorf("from another machine: %d", w.Code)
	}
}

func TestMeAndEvents(t *testing.T) {
	h := newFixture(t)
	for _, role := range console.Roles {
		var me struct{ Role, Name string }
		if h.get(role, "/v1/me", &me); me.Role != string(role) || me.Name != "the-"+string(role) {
			t.Errorf("%+v", me)
		}
	}
	w := h.do(h.request(console.Viewer, "GET", "/v1/events", ""))
	data, ok := strings.CutPrefix(w.Body.String(), "event: nodes\ndata: ")
	var e struct {
		Nodes []struct{ ID string }
		At    string
	}
	if err := json.Unmarshal([]byte(strings.TrimSuffix(data, "\n\n")), &e); !ok || err != nil || len(e.Nodes) != 2 || e.At == "" {
		t.Errorf("%q: %v", w.Body, err)
	}
}
