package upgrade

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// binary is a built usher.
type binary struct {
	name string // "old" or "new"
	path string
}

const repository = "../.."

// The commits that binaries of the working tree report.
const (
	oldStamp = "000000000001"
	newStamp = "000000000002"
)

// errNoRevision means that the clone does not have a git revision.
var errNoRevision = errors.New("this clone does not have the revision; get it with: git fetch --tags --unshallow origin")

// buildTree builds the working tree. The binary reports the commit stamp.
func buildTree(t *testing.T, name, stamp string) binary {
	t.Helper()
	b, err := build(name, repository, filepath.Join(t.TempDir(), "usher-"+name), stamp)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// buildRevision builds a git revision in a directory of its own. The error is
// errNoRevision, wrapped, if the clone does not have it.
func buildRevision(t *testing.T, name, revision string) (binary, error) {
	t.Helper()
	commit, err := git("rev-parse", "--quiet", "--verify", "--end-of-options", revision+"^{commit}")
	if err != nil {
		return binary{}, fmt.Errorf("%s: %w", revision, errNoRevision)
	}
	dir := t.TempDir()
	archive, source := filepath.Join(dir, "source.tar"), filepath.Join(dir, "source")
	if err := os.Mkdir(source, 0o700); err != nil {
		return binary{}, err
	}
	if _, err := git("archive", "--output", archive, commit); err != nil {
		return binary{}, err
	}
	if _, err := output(exec.Command("tar", "-xf", archive, "-C", source)); err != nil {
		return binary{}, err
	}
	return build(name, source, filepath.Join(dir, "usher-"+name), commit[:12])
}

// git runs a git command in the repository, whoever owns its files.
func git(args ...string) (string, error) {
	return output(exec.Command("git", append([]string{"-c", "safe.directory=*", "-C", repository}, args...)...))
}

// build builds cmd/usher of the source and checks that it reports the commit. It uses
// no workspace, so that the modules are those of go.mod.
func build(name, source, path, commit string) (binary, error) {
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", path,
		"-ldflags", "-X github.com/usher-broker/usher/broker/process.commit="+commit, "./cmd/usher")
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if _, err := output(cmd); err != nil {
		return binary{}, err
	}
	text, err := output(exec.Command(path, "version", "--output=json"))
	if err != nil {
		return binary{}, err
	}
	var reports struct{ Commit string }
	if err := json.Unmarshal([]byte(text), &reports); err != nil {
		return binary{}, fmt.Errorf("%s version: %w: %s", path, err, text)
	}
	if reports.Commit != commit {
		return binary{}, fmt.Errorf("%s reports the commit %q, but was built from %s", path, reports.Commit, commit)
	}
	return binary{name, path}, nil
}

// output runs the command and returns what it prints, without space at the ends.
func output(cmd *exec.Cmd) (string, error) {
	var failure strings.Builder
	cmd.Stderr = &failure
	b, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s%s", strings.Join(cmd.Args, " "), err, b, failure.String())
	}
	return strings.TrimSpace(string(b)), nil
}

// released returns the revision in the file from, or "" if it is empty.
func released(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("from")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}
