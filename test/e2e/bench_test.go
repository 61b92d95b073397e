package e2e

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"testing"
)

// benched is the JSON of «usher bench».
type benched struct {
	Processes int
	Tallies   map[string]struct {
		Done   int64
		P50MS  float64 `json:"p50_ms"`
		Failed map[string]int64
	}
	Facts map[string]float64
}

// bench runs a bench against the cluster.
func (c *cluster) bench(name string, flags ...string) benched {
	c.t.Helper()
	cmd := exec.Command(usherBin, append([]string{"bench", name, "--json", "--auth=" + c.url("")}, flags...)...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		c.t.Fatalf("usher bench %s: %v\n%s%s", name, err, out.String(), errOut.String())
	}
	var b benched
	if err := json.Unmarshal(out.Bytes(), &b); err != nil {
		c.t.Fatalf("usher bench %s: %v\n%s", name, err, out.String())
	}
	return b
}

// want fails unless so many of each were done, and nothing failed, was lost or came
// twice.
func (b benched) want(t *testing.T, done map[string]int64) {
	t.Helper()
	for name, n := range done {
		if got := b.Tallies[name]; got.Done != n || len(got.Failed) > 0 || got.P50MS <= 0 {
			t.Errorf("%s: %+v, want %d", name, got, n)
		}
	}
	for _, f := range []string{"lost", "doubled", "resets", "unanswered"} {
		if b.Facts[f] != 0 {
			t.Errorf("%s: %v", f, b.Facts[f])
		}
	}
}

// Every load that can be put on a cluster does what it says, from one process and
// from several.
func TestBench(t *testing.T) {
	c := startCluster(t, 2)
	c.bench("login", "--rate=100", "--duration=1s", "--ramp=500ms").want(t, map[string]int64{"login": 75})
	if b := c.bench("login", "--rate=0", "--workers=4", "--duration=300ms"); b.Tallies["login"].Done == 0 {
		t.Errorf("%+v", b)
	}
	c.bench("connect", "--sessions=60", "--rate=200", "--hold=100ms").want(t, map[string]int64{"journey": 60, "login": 60, "attach": 60, "answer": 60})
	c.bench("echo", "--sessions=40", "--rate=400", "--duration=1s").want(t, map[string]int64{"attach": 40, "echo": 400})
	c.bench("resume", "--sessions=80", "--away=100ms", "--login-rate=0").want(t, map[string]int64{"attach": 80, "resume": 80, "echo": 320})

	b := c.bench("echo", "--sessions=41", "--rate=300", "--duration=1s", "--processes=3")
	b.want(t, map[string]int64{"attach": 41, "echo": 300})
	if b.Processes != 3 {
		t.Errorf("%d processes", b.Processes)
	}
	b = c.bench("resume", "--sessions=50", "--away=100ms", "--processes=2", "--over=300ms")
	b.want(t, map[string]int64{"resume": 50, "echo": 200})

	b = c.bench("soak", "--sessions=20", "--rate=20", "--cut=400ms", "--stay=1s", "--duration=3s")
	b.want(t, nil)
	if b.Facts["cuts"] == 0 || b.Facts["resumes"] == 0 || b.Tallies["echo"].Done < 100 || b.Tallies["login"].Done < 20 {
		t.Errorf("%+v", b)
	}
}

// A node with --app=fan sends what one says to all, and each of them hears it once.
func TestBenchFanout(t *testing.T) {
	c := startCluster(t, 0)
	c.startNode("node-1", "--app=fan")
	c.awaitNodes()
	b := c.bench("fanout", "--sessions=30", "--rate=20", "--duration=1s")
	b.want(t, map[string]int64{"attach": 30, "delivery": 600})
	b = c.bench("fanout", "--sessions=20", "--rate=10", "--duration=1s", "--processes=2")
	b.want(t, map[string]int64{"attach": 20})
	if b.Tallies["delivery"].Done < 200 {
		t.Errorf("%+v", b)
	}
}
