package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

// usherBin is the binary under test, the same for all tests of a run.
var usherBin string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "usher-e2e-")
	if err == nil {
		usherBin, err = build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// A schedule is a minute's work for a cluster: the hundred that rapid would
	// run are for faster things. The command line still has the last word.
	_ = flag.Set("rapid.checks", pick("2", "12"))
	_ = flag.Set("rapid.shrinktime", "1s") // timing is the half of it: there is no smaller case to find
	_ = flag.Set("rapid.nofailfile", "true")
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// build builds the binary, with the flags of its own module.
func build(dir string) (string, error) {
	if given := os.Getenv("USHER_BIN"); given != "" {
		return filepath.Abs(given)
	}
	out := filepath.Join(dir, "usher")
	args := []string{"build", "-o", out}
	if os.Getenv("USHER_TEST_RACE") != "" {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, ".")...)
	cmd.Dir = filepath.Join("..", "..", "cmd", "usher")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building usher: %w\n%s", err, text)
	}
	return out, nil
}

// pick returns what an ordinary run uses, or a slow one.
func pick[T any](ordinary, slow T) T {
	if os.Getenv("USHER_SLOW") != "" {
		return slow
	}
	return ordinary
}
