package e2e

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestQuickstart runs the commands at the top of the README: "usher dev" for a
// cluster in one process, and "usher try" as a client.
func TestQuickstart(t *testing.T) {
	dev := start(t, "dev", "dev", "--auth=127.0.0.1:0", "--api=127.0.0.1:0", "--ops=127.0.0.1:0", "--node-port=0")
	loginAPI := regexp.MustCompile(`login API +(http://\S+)/v1/login`)
	dev.await("print its addresses", startTimeout, func() bool { return loginAPI.MatchString(dev.output.String()) })
	base := loginAPI.FindStringSubmatch(dev.output.String())[1]
	api := regexp.MustCompile(`private API +(http://\S+)/v1/nodes`).FindStringSubmatch(dev.output.String())[1]

	out, err := exec.Command(usherBin, "try", "--auth="+base, "--api="+api).CombinedOutput()
	t.Logf("usher try:\n%s", out)
	if err != nil {
		t.Fatalf("usher try: %v", err)
	}
	for _, text := range []string{"same node", " 0 lost", " 0 duplicated", " 0 out of order", " 0 resets", "logged out"} {
		if !strings.Contains(string(out), text) {
			t.Errorf("the output of usher try lacks %q", text)
		}
	}
	for _, text := range []string{"node-1", "node-2", "node-3", "memory"} {
		if !strings.Contains(dev.output.String(), text) {
			t.Errorf("the output of usher dev lacks %q", text)
		}
	}
	dev.terminate()
	if code := dev.waitExit(20 * time.Second); code != 0 {
		t.Errorf("usher dev ended with exit code %d", code)
	}
}
