package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// exported returns the names of all metrics that a cluster can export.
func exported(t *testing.T) map[string]bool {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ops := ln.Addr().String()
	ln.Close()
	ctx, cancel := context.WithCancel(context.Background())
	bin := buildUsher(t)
	cmd := exec.CommandContext(ctx, bin, "dev", "--nodes=2", "--auth=127.0.0.1:0", "--api=127.0.0.1:0", "--waiting-room", "--ops="+ops)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
	})
	var text []byte
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		resp, err := http.Get("http://" + ops + "/metrics")
		if err == nil {
			text, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		if err == nil && strings.Contains(string(text), "usher_nodes_eligible") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("usher dev: %v\n%s", err, output.String())
		}
	}
	names := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (usher_\w+) `).FindAllStringSubmatch(string(text), -1) {
		names[m[1]] = true
	}
	// The cluster above does not export these: they need TLS, Redis, an unreachable
	// node, or an event that has not happened in it.
	for _, name := range []string{
		"usher_connections", "usher_connections_refused_total", "usher_tls_certificate_expiry_timestamp_seconds", "usher_tls_reload_failed_total", "usher_store_seconds", "usher_node_unreachable",
		"usher_auth_logins_total", "usher_auth_reconnects_total", "usher_auth_logouts_total", "usher_auth_refused_total", "usher_auth_credential_seconds",
		"usher_auth_queue_total", "usher_commands_total", "usher_waiting", "usher_waiting_total", "usher_node_closes_total", "usher_node_sessions_ended_total",
		"usher_node_refusals_total", "usher_probes_total", "usher_reassignments_total", "usher_assignments_total", "usher_ends_total",
	} {
		names[name] = true
	}
	return names
}

var metric = regexp.MustCompile(`\busher_[a-z_]+\b`)

// base returns the metric's name without the suffix of a histogram's series.
func base(name string) string {
	for _, suffix := range []string{"_bucket", "_count", "_sum"} {
		if s, ok := strings.CutSuffix(name, suffix); ok && strings.HasSuffix(s, "_seconds") {
			return s
		}
	}
	return name
}

// TestMetrics checks that every metric in the rules, the dashboard and the docs exists,
// and that docs/operations.md explains every metric.
func TestMetrics(t *testing.T) {
	names := exported(t)
	docs := read(t, "docs", "operations.md")
	for name, text := range map[string]string{
		"usher.rules.yml": read(t, "deploy", "prometheus", "usher.rules.yml"),
		"usher.json":      read(t, "deploy", "grafana", "usher.json"),
		"operations.md":   docs,
		"alerts.md":       read(t, "docs", "alerts.md"),
	} {
		for _, found := range metric.FindAllString(text, -1) {
			if m := base(found); !names[m] && m != "usher_fill" && !strings.HasSuffix(m, "_") {
				t.Errorf("%s names %s, which no process exports", name, found)
			}
		}
	}
	for name := range names {
		if !strings.Contains(docs, name) && !strings.HasPrefix(name, "usher_gossip_") {
			t.Errorf("docs/operations.md does not explain %s", name)
		}
	}
}

// TestRules checks the rules and runs their unit tests with promtool. Every alert must
// have a test, and a section in docs/alerts.md.
func TestRules(t *testing.T) {
	rules, alerts := read(t, "deploy", "prometheus", "usher.rules.yml"), read(t, "docs", "alerts.md")
	tests := read(t, "deploy", "prometheus", "usher.rules.test.yml")
	for _, m := range regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(rules, -1) {
		if !strings.Contains(alerts, "\n## "+m[1]+"\n") {
			t.Errorf("docs/alerts.md has no section %s", m[1])
		}
		if !strings.Contains(tests, "alertname: "+m[1]) {
			t.Errorf("usher.rules.test.yml has no test of %s", m[1])
		}
		if !strings.Contains(rules, "docs/alerts.md#"+strings.ToLower(m[1])) {
			t.Errorf("%s has no runbook link to docs/alerts.md#%s", m[1], strings.ToLower(m[1]))
		}
	}
	need(t, "promtool")
	dir := filepath.Join(root, "deploy", "prometheus")
	run(t, dir, "promtool", "check", "rules", "usher.rules.yml")
	run(t, dir, "promtool", "check", "config", "prometheus.yml")
	run(t, dir, "promtool", "test", "rules", "usher.rules.test.yml")
}

// TestDashboard checks the panels of the dashboard, and their expressions with promtool.
func TestDashboard(t *testing.T) {
	var d struct {
		UID    string
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, "deploy", "grafana", "usher.json")), &d); err != nil {
		t.Fatal(err)
	}
	var rules strings.Builder
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	ids, n := []int{}, 0
	for _, p := range d.Panels {
		if slices.Contains(ids, p.ID) || p.Title == "" || len(p.Targets) == 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %d, %q: the id must be unique, the title and targets not empty, and the right edge at most 24", p.ID, p.Title)
		}
		ids = append(ids, p.ID)
		for _, target := range p.Targets {
			n++
			expr := strings.NewReplacer("$__rate_interval", "5m", "$job", ".*").Replace(target.Expr)
			fmt.Fprintf(&rules, "  - record: dashboard:panel%d\n    expr: %q\n", n, expr)
		}
	}
	if n < 20 {
		t.Errorf("the dashboard has %d expressions, want at least 20", n)
	}
	need(t, "promtool")
	file := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, ".", "promtool", "check", "rules", file)
}
