package process

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A process that was ready stays ready when something fails that all processes
// share: making all of them not ready at once would make an outage worse.
func TestReadyDuringSharedOutage(t *testing.T) {
	away := errors.New("away")
	store, state := away, error(nil)
	ln, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ops := ServeOps(ln, prometheus.NewRegistry(), []Check{
		{Name: "store", Once: true, F: func() error { return store }},
		{Name: "state", F: func() error { return state }},
	}, slog.New(slog.DiscardHandler))
	defer ops.Close(time.Second)
	ask := func(path string, want int, says string) {
		t.Helper()
		resp, err := http.Get("http://" + ops.Addr() + path)
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
	ask("/readyz", 200, "was ok before, now: away")
	state = errors.New("draining")
	ask("/readyz", 503, "")
	ask("/healthz", 200, "")
}
