package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestConformance has the scripted server judge a client of the Go SDK, and one
// that knows nothing of resuming: it must be able to fail.
func TestConformance(t *testing.T) {
	player := filepath.Join(t.TempDir(), "player")
	cmd := exec.Command("go", "build", "-o", player, "../player")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building player: %v\n%s", err, text)
	}
	said := usherCommand(t, 0, "conformance", player)
	if !strings.Contains(said, "all 24 scenarios passed") {
		t.Errorf("the Go SDK:\n%s", said)
	}
	t.Setenv("USHER_NAIVE", "1")
	said = usherCommand(t, 1, "conformance", "--patience=8s", "--scenario=plain", "--scenario=cut", "--scenario=moved", "--scenario=kicked", player)
	for _, fault := range []string{
		"it names the stream \"\"",                      // cut
		"it attaches after it was told to stop",         // kicked
		"it asked auth 0 times where to go, and had to", // moved
		"3 of 4 scenarios failed",
	} {
		if !strings.Contains(said, fault) {
			t.Errorf("of a naive client it is not said: %s\n%s", fault, said)
		}
	}
}
