package console_test

import (
	"net/http"
	"testing"

	"github.com/usher-broker/usher/broker/console"
)

// A key that makes too many requests gets 429 for some of them, and other keys are
// not affected.
func TestRateOfAKey(t *testing.T) {
	h := newFixture(t)
	h.rate = 5
	h.open(h.opened)
	refused := 0
	for range 100 {
		w := h.do(h.request(console.Viewer, "GET", "/v1/nodes", ""))
		switch w.Code {
		case http.StatusTooManyRequests:
			refused++
			if w.Header().Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		case http.StatusOK:
		default:
			t.Fatalf("answered %d", w.Code)
		}
	}
	if refused < 50 || refused == 100 {
		t.Errorf("%d of 100 refused", refused)
	}
	if w := h.do(h.request(console.Operator, "GET", "/v1/nodes", "")); w.Code != http.StatusOK {
		t.Errorf("another key: %d", w.Code)
	}
}
