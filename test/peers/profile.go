package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// profiles is the directory for CPU profiles of Usher, as text; empty for none.
// Profiling makes the measured server slower.
var profiles string

// profile starts a CPU profile of Usher that lasts d. The caller must call wait, which
// returns when the profile is written.
func (s *server) profile(name string, d time.Duration) (wait func()) {
	if profiles == "" || s.ops == "" {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.writeProfile(name, d); err != nil {
			fmt.Fprintf(os.Stderr, "profile of %s: %v\n", name, err)
		}
	}()
	return func() { <-done }
}

func (s *server) writeProfile(name string, d time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), d+30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", s.ops, int(d.Seconds())), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := os.CreateTemp(s.fixture.dir, "profile")
	if err != nil {
		return err
	}
	defer raw.Close()
	if _, err := io.Copy(raw, resp.Body); err != nil {
		return err
	}
	var text strings.Builder
	for _, sort := range []string{"-flat", "-cum"} {
		out, err := exec.Command("go", "tool", "pprof", "-top", "-nodecount=40", sort, raw.Name()).Output()
		if err != nil {
			return fmt.Errorf("go tool pprof: %w", err)
		}
		for line := range strings.Lines(string(out)) {
			if !strings.HasPrefix(line, "File:") && !strings.HasPrefix(line, "Build ID:") && !strings.HasPrefix(line, "Time:") {
				text.WriteString(line)
			}
		}
		text.WriteByte('\n')
	}
	if err := os.MkdirAll(profiles, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(profiles, name+".txt"), []byte(text.String()), 0o644)
}
