package main

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// A process that was ready stays so, whatever becomes of what it shares with the
// others: taking all of them out at once would make it worse.
func TestReadinessOutlivesWhatIsShared(t *testing.T) {
	away := errors.New("away")
	store, state := away, error(nil)
	ops, err := serveOps("127.0.0.1:0", prometheus.NewRegistry(), []check{
		{name: "store", once: true, f: func() error { return store }},
		{name: "state", f: func() error { return state }},
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer ops.close(t.Context())
	ask := func(path string, want int, says string) {
		t.Helper()
		resp, err := http.Get("http://" + ops.addr() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var body map[string]string
		if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != want || says != "" && body["store"] != says {
			t.Errorf("%s: %d %v, want %d", path, resp.StatusCode, body, want)
		}
	}
	ask("/readyz", 503, "away")
	ask("/healthz", 200, "")
	store = nil
	ask("/readyz", 200, "ok")
	store = away
	ask("/readyz", 200, "was ok, and is not now: away")
	state = errors.New("draining")
	ask("/readyz", 503, "")
	ask("/healthz", 200, "")
}
