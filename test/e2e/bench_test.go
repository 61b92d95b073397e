package e2e

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"testing"
)

// benchReport is the JSON output of usher-bench.
type benchReport struct {
	Processes int
	Tallies   map[string]struct {
		Done   int64
		P50MS  float64 `json:"p50_ms"`
		Failed map[string]int64
	}
	Facts map[string]float64
}

// bench runs "usher-bench name" against the cluster and returns its report.
func (c *cluster) bench(name string, flags ...string) benchReport {
	c.t.Helper()
	bin, err := benchBin()
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.Command(bin, append([]string{name, "--output=json", "--auth=" + c.url("")}, flags...)...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		c.t.Fatalf("usher-bench %s: %v\n%s%s", name, err, out.String(), errOut.String())
	}
	var b benchReport
	if err := json.Unmarshal(out.Bytes(), &b); err != nil {
		c.t.Fatalf("usher-bench %s: %v\n%s", name, err, out.String())
	}
	return b
}

// check fails the test unless each operation was done as often as given, without
// failures, and no message was lost, duplicated or unanswered.
func (b benchReport) check(t *testing.T, done map[string]int64) {
	t.Helper()
	for name, n := range done {
		if got := b.Tallies[name]; got.Done != n || len(got.Failed) > 0 || got.P50MS <= 0 {
			t.Errorf("%s: %+v, want %d", name, got, n)
		}
	}
	for _, f := range []string{"lost", "duplicated", "resets", "unanswered"} {
		if b.Facts[f] != 0 {
			t.Errorf("%s: %v", f, b.Facts[f])
		}
	}
}

// TestBench runs every bench except fanout, and some of them with several
// processes, and checks the counts they report.
func TestBench(t *testing.T) {
	c := startCluster(t, 2)
	c.bench("login", "--rate=100", "--duration=1s", "--ramp=500ms").check(t, map[string]int64{"login": 75})
	if b := c.bench("login", "--rate=0", "--workers=4", "--duration=300ms"); b.Tallies["login"].Done == 0 {
		t.Errorf("%+v", b)
	}
	c.bench("connect", "--sessions=60", "--rate=200", "--hold=100ms").check(t, map[string]int64{"journey": 60, "login": 60, "attach": 60, "answer": 60})
	c.bench("echo", "--sessions=40", "--rate=400", "--duration=1s").check(t, map[string]int64{"attach": 40, "echo": 400})
	c.bench("resume", "--sessions=80", "--away=100ms", "--login-rate=0").check(t, map[string]int64{"attach": 80, "resume": 80, "echo": 320})

	b := c.bench("echo", "--sessions=41", "--rate=300", "--duration=1s", "--processes=3")
	b.check(t, map[string]int64{"attach": 41, "echo": 300})
	if b.Processes != 3 {
		t.Errorf("%d processes", b.Processes)
	}
	b = c.bench("resume", "--sessions=50", "--away=100ms", "--processes=2", "--over=300ms")
	b.check(t, map[string]int64{"resume": 50, "echo": 200})

	b = c.bench("soak", "--sessions=20", "--rate=20", "--cut=400ms", "--stay=1s", "--duration=3s")
	b.check(t, nil)
	if b.Facts["cuts"] == 0 || b.Facts["resumes"] == 0 || b.Tallies["echo"].Done < 100 || b.Tallies["login"].Done < 20 {
		t.Errorf("%+v", b)
	}
}

// TestBenchFanout runs the fanout bench against a node with --app=fan, which
// sends each message to all clients. Each client must receive it once.
func TestBenchFanout(t *testing.T) {
	c := startCluster(t, 0)
	c.startNode("node-1", "--app=fan")
	c.awaitNodes()
	b := c.bench("fanout", "--sessions=30", "--rate=20", "--duration=1s")
	b.check(t, map[string]int64{"attach": 30, "delivery": 600})
	b = c.bench("fanout", "--sessions=20", "--rate=10", "--duration=1s", "--processes=2")
	b.check(t, map[string]int64{"attach": 20})
	if b.Tallies["delivery"].Done < 200 {
		t.Errorf("%+v", b)
	}
}
