package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/proto"
)

// TestDrainEnds runs usher drain against a scripted private API, which answers each
// request for the node with the next of the answers, and then repeats the last.
func TestDrainEnds(t *testing.T) {
	const left = `{"type":"urn:usher:problem:not_found","status":404,"code":"not_found","detail":"No node \"n1\"."}`
	draining := func(counts string) string { return `{"id":"n1","state":"draining","drain":{` + counts + `}}` }
	for name, c := range map[string]struct {
		output       string
		answers      []string
		out, failure string
	}{
		"left": {
			"table",
			[]string{draining(`"total":14,"remaining":14`), draining(`"total":14,"remaining":0,"cut":2`), left},
			"n1: drained 14 of 14 sessions, 0 remaining, 2 cut at the deadline; the node has left after ", "",
		},
		"kept": {
			"table",
			[]string{draining(`"total":3,"remaining":0,"keep":true`)},
			"n1: drained 3 of 3 sessions, 0 remaining, 0 cut at the deadline; the node is empty after ", "",
		},
		"json": {
			"json",
			[]string{draining(`"total":3,"remaining":1,"held":1`), draining(`"total":3,"remaining":0,"cut":1`), left},
			`{"node":"n1","state":"drained","total":3,"remaining":0,"held":0,"cut":1,"seconds":`, "",
		},
		"killed": {
			"table",
			[]string{draining(`"total":14,"remaining":5`), left},
			"n1: drained 9 of 14 sessions, 5 remaining, ", `node "n1" left with 5 sessions`,
		},
		"undone": {"table", []string{draining(`"total":14,"remaining":5`), `{"id":"n1","state":"ready"}`}, "", "another command has cancelled the drain"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			next := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				answer := c.answers[min(next, len(c.answers)-1)]
				if r.Method == http.MethodGet {
					next++
				} else {
					answer = `{"id":"n1","state":"draining"}`
				}
				if answer == left {
					w.WriteHeader(http.StatusNotFound)
				}
				_, _ = w.Write([]byte(answer))
			}))
			defer server.Close()
			var out, progress bytes.Buffer
			cmd := drainCmd{apiFlags: apiFlags{API: server.URL}, OutputFlag: process.OutputFlag{Output: c.output}, Node: "n1"}
			err := cmd.Run(t.Context(), &process.Env{Out: &out, Err: &progress})
			if c.failure == "" && err != nil || c.failure != "" && (err == nil || !strings.Contains(err.Error(), c.failure)) {
				t.Errorf("the error is %v, want %q", err, c.failure)
			}
			if !strings.HasPrefix(out.String(), c.out) || strings.Count(out.String(), "\n") > 1 {
				t.Errorf("the output is %q, want one line %q", out.String(), c.out)
			}
			if lines := strings.Count(progress.String(), "\n"); lines != 1 {
				t.Errorf("%d lines of progress within a second, want 1:\n%s", lines, progress.String())
			}
		})
	}
}

func TestDrainText(t *testing.T) {
	for want, d := range map[string]proto.Drain{
		"drained 9 of 14 sessions, 5 remaining, 2 held by the application, deadline in 0s": {Total: 14, Remaining: 5, Held: 2},
		"drained 0 of 6 sessions, 6 remaining, deadline in 0s":                             {Total: 4, Remaining: 6}, // two came later
		"drained 14 of 14 sessions, 0 remaining":                                           {Total: 14},
	} {
		if got := drainText(d); got != want {
			t.Errorf("%+v is described as %q, want %q", d, got, want)
		}
	}
}
