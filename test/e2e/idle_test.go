package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// idleLimit is the CPU time per second that an empty auth or node may use. It is three
// times the goal of 3 ms, because machines differ and other tests may run.
const idleLimit = 9 * time.Millisecond

// TestIdle measures the CPU time of an auth and a node without sessions, from the
// scheduler's accounts of all threads of each process.
func TestIdle(t *testing.T) {
	if _, err := os.Stat("/proc/self/schedstat"); err != nil {
		t.Skip("the kernel keeps no accounts in nanoseconds: ", err)
	}
	c := startCluster(t, 1)
	time.Sleep(5 * time.Second) // a broker rests after 2 s without work
	roles := []*process{c.auth, c.nodes["node-1"]}
	before := make([]time.Duration, len(roles))
	for i, p := range roles {
		before[i] = cpuTime(t, p)
	}
	began := time.Now()
	time.Sleep(pick(5*time.Second, 30*time.Second))
	took := time.Since(began)
	for i, p := range roles {
		used := cpuTime(t, p) - before[i]
		perSecond := time.Duration(float64(used) / took.Seconds())
		t.Logf("%s without sessions: %.2f ms of CPU time per second", p.name, perSecond.Seconds()*1000)
		if used <= 0 || perSecond > idleLimit {
			t.Errorf("%s used %v of CPU time per second, want over 0 and at most %v", p.name, perSecond, idleLimit)
		}
	}
}

// cpuTime returns the CPU time that all threads of the process have used. A thread of
// the Go runtime does not end in an idle process.
func cpuTime(t *testing.T, p *process) time.Duration {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has no threads: %v", p.name, err)
	}
	var sum time.Duration
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text, _, _ := strings.Cut(string(b), " ")
		ns, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		sum += time.Duration(ns)
	}
	return sum
}
