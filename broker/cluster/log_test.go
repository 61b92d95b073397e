package cluster

import (
	"bytes"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestLogBridge(t *testing.T) {
	var out bytes.Buffer
	var warnings atomic.Uint64
	b := logBridge{log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})), warnings: &warnings}
	for _, line := range []string{
		"[DEBUG] memberlist: one\n", "[INFO] memberlist: two\n", "[WARN] memberlist: three\n", "[ERR] memberlist: four\n", "Err: five\n", "six\n",
	} {
		if n, err := b.Write([]byte(line)); n != len(line) || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	for _, want := range []string{
		`level=DEBUG msg="memberlist: one"`, `level=DEBUG msg="memberlist: two"`, `level=WARN msg="memberlist: three"`,
		`level=WARN msg="memberlist: four"`, `level=WARN msg="memberlist: five"`, `level=DEBUG msg="memberlist: six"`,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in\n%s", want, &out)
		}
	}
	if warnings.Load() != 3 {
		t.Errorf("%d warnings counted", warnings.Load())
	}
}

func TestLogFlood(t *testing.T) {
	var warnings atomic.Uint64
	var out bytes.Buffer
	b := logBridge{log: slog.New(slog.NewTextHandler(&out, nil)), warnings: &warnings}
	for range 1000 {
		_, _ = b.Write([]byte("[ERR] memberlist: no\n"))
	}
	if n := strings.Count(out.String(), "\n"); n > 2*warningsLogged || warnings.Load() != 1000 {
		t.Errorf("%d lines logged, %d counted", n, warnings.Load())
	}
	now := time.Now()
	if dropped, ok := b.allow(slog.LevelWarn, now.Add(warningsPeriod)); !ok || dropped < 900 {
		t.Errorf("later: %d dropped, %v", dropped, ok)
	}
	if _, ok := b.allow(slog.LevelDebug, now); !ok {
		t.Error("debug is bounded")
	}
}
