package main

import (
	"strings"
	"testing"
)

func parse(t *testing.T, lines ...string) profile {
	t.Helper()
	p, err := parseProfile(strings.NewReader(strings.Join(append([]string{"mode: atomic"}, lines...), "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A report has the blocks that ran, except those that the same role executes idle. A
// block that two roles execute counts once.
func TestReport(t *testing.T) {
	const (
		handler = module + "auth/login.go:10.2,12.3 3 1"
		gossip  = module + "broker/cluster/cluster.go:5.1,5.20 1 7"
		shared  = module + "proto/close.go:1.1,2.2 2 1"
		same    = module + "proto/close.go:2.2,4.2 1 1"
		never   = module + "auth/cors.go:1.1,2.2 9 0"
	)
	ran := map[string]profile{"auth": parse(t, handler, gossip, shared, never), "node": parse(t, gossip, shared, same)}
	idle := map[string]profile{"auth": parse(t, gossip), "node": parse(t)}
	var b strings.Builder
	r := newReport("login", ran, idle)
	r.print(&b)
	want := `login: 3 files in 3 directories, 7 statements on 8 lines
  auth/login.go                                auth          3 statements    3 lines
  broker/cluster/cluster.go                    node          1 statements    1 lines
  proto/close.go                               auth node     3 statements    4 lines

`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	if r.leaveOut(2); len(r.files) != 2 || r.files[0].file != "auth/login.go" || r.files[1].file != "proto/close.go" {
		t.Errorf("without files of fewer than 2 statements: %v", r.files)
	}
}

func TestParseError(t *testing.T) {
	for _, line := range []string{"no block", "a.go:1.1,2 3 4", "a.go:1.1,2.2 3"} {
		if p, err := parseProfile(strings.NewReader(line)); err == nil {
			t.Errorf("%q was read as %v", line, p)
		}
	}
}
