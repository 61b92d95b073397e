package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestConformance runs "usher conformance" against a client of the Go SDK, which
// must pass, and against a naive client that never resumes, which must fail.
func TestConformance(t *testing.T) {
	player := filepath.Join(t.TempDir(), "player")
	cmd := exec.Command("go", "build", "-o", player, "../player")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building player: %v\n%s", err, text)
	}
	output := usherCommand(t, 0, "conformance", player)
	if !strings.Contains(output, "all 24 scenarios passed") {
		t.Errorf("the Go SDK:\n%s", output)
	}
	t.Setenv("USHER_NAIVE", "1")
	output = usherCommand(t, 1, "conformance", "--patience=8s", "--scenario=plain", "--scenario=cut", "--scenario=moved", "--scenario=kicked", player)
	for _, fault := range []string{
		"it names the stream \"\"",         // cut
		"it attached after it had to stop", // kicked
		"it called auth 0 times",           // moved
		"3 of 4 scenarios failed",
	} {
		if !strings.Contains(output, fault) {
			t.Errorf("for the naive client the output lacks %q:\n%s", fault, output)
		}
	}
}
