package release

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/usher-broker/usher/proto"
)

// TestInstall uses the module as strangers do: from a module proxy, in directories of
// their own, without replace directives and without a workspace.
func TestInstall(t *testing.T) {
	const version = "v" + proto.Version
	s := newStranger(t, version)

	t.Run("module", func(t *testing.T) {
		for _, name := range []string{"LICENSE", "README.md", "proto/PROTOCOL.md", "proto/vectors/controls.json"} {
			if _, ok := s.files[name]; !ok {
				t.Errorf("the module does not contain %s", name)
			}
		}
		var size int64
		for name, n := range s.files {
			size += n
			if n > 1_000_000 {
				t.Errorf("the module contains %s, %d KB: a built file?", name, n/1000)
			}
			if strings.HasPrefix(name, "test/") {
				t.Errorf("the module contains %s", name)
			}
		}
		t.Logf("the module has %d files, %d KB", len(s.files), size/1000)
	})

	t.Run("commands", func(t *testing.T) {
		for _, name := range []string{"usher", "usher-bench"} {
			bin := t.TempDir()
			s := s.with(t, "GOBIN="+bin)
			s.run(bin, "go", "install", modulePath+"/cmd/"+name+"@"+version)
			out := s.run(bin, filepath.Join(bin, name), "version")
			if !strings.HasPrefix(out, name+" "+proto.Version+" ") {
				t.Errorf("%s version prints %q, not %s", name, out, proto.Version)
			}
		}
	})

	t.Run("game server", func(t *testing.T) {
		s := s.with(t)
		dir := s.newModule("game", version)
		if err := os.CopyFS(filepath.Join(dir, "counter"), os.DirFS(filepath.Join(root, "node", "examples", "counter"))); err != nil {
			t.Fatal(err)
		}
		s.run(dir, "go", "mod", "tidy")
		s.run(dir, "go", "build", "-o", "bin/", "./...")
		if out := s.run(dir, filepath.Join("bin", "game")); out != "echo: hello\n" {
			t.Errorf("the game prints %q", out)
		}
		if out := s.run(dir, filepath.Join("bin", "counter"), "--help"); !strings.Contains(out, "--advertise") {
			t.Errorf("counter --help prints:\n%s", out)
		}
	})

	t.Run("game client", func(t *testing.T) {
		s := s.with(t)
		dir := s.newModule("client", version)
		s.run(dir, "go", "mod", "tidy")
		s.run(dir, "go", "build", "-o", "bin/", "./...")
		// A client compiles nothing of the servers.
		deps := strings.Fields(s.run(dir, "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "."))
		for _, pkg := range deps {
			if !slices.ContainsFunc([]string{"example.com/client", modulePath + "/proto", modulePath + "/client-sdk/go", "github.com/coder/websocket"}, func(of string) bool {
				return pkg == of || strings.HasPrefix(pkg, of+"/")
			}) {
				t.Errorf("a game client compiles %s", pkg)
			}
		}
		lines := func(name string) int { return strings.Count(read(t, filepath.Join(dir, name)), "\n") }
		t.Logf("a game client compiles %d packages outside the standard library; go list -m all has %d lines, go.sum %d, go.mod:\n%s",
			len(deps), strings.Count(s.run(dir, "go", "list", "-m", "all"), "\n"), lines("go.sum"), read(t, filepath.Join(dir, "go.mod")))
	})
}

// with returns s for a subtest, with more environment variables.
func (s *stranger) with(t testing.TB, env ...string) *stranger {
	return &stranger{t, slices.Concat(s.env, env), s.files}
}

// newModule makes a module from testdata/NAME that requires the version of usher.
func (s *stranger) newModule(name, version string) string {
	s.t.Helper()
	dir := s.t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", name))); err != nil {
		s.t.Fatal(err)
	}
	goMod := fmt.Sprintf("module example.com/%s\n\ngo 1.26.0\n\nrequire %s %s\n", name, modulePath, version)
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(goMod), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return dir
}
