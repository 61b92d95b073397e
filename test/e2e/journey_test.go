package e2e

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestJourney does what the first screen of the README says: a cluster in one
// terminal, a client in another.
func TestJourney(t *testing.T) {
	dev := start(t, "dev", "dev", "--auth=127.0.0.1:0", "--api=127.0.0.1:0", "--ops=127.0.0.1:0", "--node-port=0")
	door := regexp.MustCompile(`login door +(http://\S+)/v1/login`)
	dev.await("say where it is", starts, func() bool { return door.MatchString(dev.said.String()) })
	base := door.FindStringSubmatch(dev.said.String())[1]
	api := regexp.MustCompile(`private API +(http://\S+)/v1/nodes`).FindStringSubmatch(dev.said.String())[1]

	out, err := exec.Command(usherBin, "try", "--auth="+base, "--api="+api).CombinedOutput()
	t.Logf("usher try:\n%s", out)
	if err != nil {
		t.Fatalf("usher try: %v", err)
	}
	for _, text := range []string{"same node", " 0 lost", " 0 doubled", " 0 out of order", " 0 resets", "logged out"} {
		if !strings.Contains(string(out), text) {
			t.Errorf("it does not say %q", text)
		}
	}
	for _, text := range []string{"node-1", "node-2", "node-3", "memory"} {
		if !strings.Contains(dev.said.String(), text) {
			t.Errorf("usher dev does not mention %q", text)
		}
	}
	dev.terminate()
	if code := dev.ends(20 * time.Second); code != 0 {
		t.Errorf("usher dev ended with exit code %d", code)
	}
}
