package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// usherBin is the binary under test, the same for all tests of a run.
var usherBin string

// benchBin builds usher-bench on its first call and returns its path.
var benchBin func() (string, error)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "usher-e2e-")
	if err == nil {
		usherBin, err = buildUsher(dir)
		benchBin = sync.OnceValues(func() (string, error) { return build(dir, "usher-bench") })
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// One random schedule takes about a minute, so run fewer than rapid's default
	// of 100. Flags on the command line override these.
	_ = flag.Set("rapid.checks", pick("2", "12"))
	_ = flag.Set("rapid.shrinktime", "1s") // failures depend on timing, so shrinking finds nothing
	_ = flag.Set("rapid.nofailfile", "true")
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// buildUsher builds the binary into dir, or uses USHER_BIN, and returns its path.
func buildUsher(dir string) (string, error) {
	if given := os.Getenv("USHER_BIN"); given != "" {
		return filepath.Abs(given)
	}
	return build(dir, "usher")
}

// build builds the program cmd/name into dir and returns its path.
func build(dir, name string) (string, error) {
	out := filepath.Join(dir, name)
	args := []string{"build", "-o", out}
	if os.Getenv("USHER_TEST_RACE") != "" {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, ".")...)
	cmd.Dir = filepath.Join("..", "..", "cmd", name)
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", name, err, text)
	}
	return out, nil
}

// pick returns ordinary, or slow if USHER_SLOW is set.
func pick[T any](ordinary, slow T) T {
	if os.Getenv("USHER_SLOW") != "" {
		return slow
	}
	return ordinary
}
