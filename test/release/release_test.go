// Package release tests that the project can be released and installed: the version
// is the same everywhere, and the module works outside of this repository.
package release

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/usher-broker/usher/proto"
)

// root is the top of the repository.
var root = filepath.Join("..", "..")

func read(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// versionOf returns the version in the npm package file name, which is package.json or
// package-lock.json. A lock file has it twice.
func versionOf(t testing.TB, name string) string {
	t.Helper()
	var file struct {
		Version  string
		Packages map[string]struct{ Version string }
	}
	if err := json.Unmarshal([]byte(read(t, name)), &file); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if own, ok := file.Packages[""]; ok && own.Version != file.Version {
		t.Errorf("%s has the versions %q and %q", name, file.Version, own.Version)
	}
	return file.Version
}

func TestVersion(t *testing.T) {
	if !regexp.MustCompile(`^\d+\.\d+\.\d+(-(dev|rc\.\d+))?$`).MatchString(proto.Version) {
		t.Errorf("proto.Version is %q: must be like 1.2.3, 1.2.3-rc.1 or 1.2.3-dev", proto.Version)
	}
	for _, name := range []string{"package.json", "package-lock.json"} {
		if v := versionOf(t, filepath.Join(root, "client-sdk", "js", name)); v != proto.Version {
			t.Errorf("client-sdk/js/%s has version %s, proto/version.go has %s: run make set-version VERSION=%[3]s", name, v, proto.Version)
		}
	}
}

func TestChangelog(t *testing.T) {
	changelog := read(t, filepath.Join(root, "CHANGELOG.md"))
	if !strings.Contains(changelog, "\n## Unreleased\n") {
		t.Error("CHANGELOG.md has no section Unreleased")
	}
	heading := regexp.MustCompile(`(?m)^## ` + regexp.QuoteMeta(proto.Version) + ` - \d{4}-\d\d-\d\d$`)
	if !strings.HasSuffix(proto.Version, "-dev") && !heading.MatchString(changelog) {
		t.Errorf("CHANGELOG.md has no section %q", "## "+proto.Version+" - YYYY-MM-DD")
	}
}

// TestLicense checks that each published package contains the license.
func TestLicense(t *testing.T) {
	license := read(t, filepath.Join(root, "LICENSE"))
	if !strings.Contains(license, "Apache License") {
		t.Error("LICENSE is not the Apache License")
	}
	if read(t, filepath.Join(root, "client-sdk", "js", "LICENSE")) != license {
		t.Error("client-sdk/js/LICENSE differs from LICENSE")
	}
}

// TestSetVersion runs make set-version on a copy of the files that contain the version.
func TestSetVersion(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"Makefile", ".ci/set-version", "proto/version.go", "client-sdk/js/package.json", "client-sdk/js/package-lock.json"} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(read(t, filepath.Join(root, filepath.FromSlash(name)))), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	set := func(version string) ([]byte, error) {
		cmd := exec.Command("make", "set-version", "VERSION="+version)
		cmd.Dir = dir
		return cmd.CombinedOutput()
	}
	if out, err := set("3.2.1-rc.4"); err != nil {
		t.Fatalf("make set-version: %v\n%s", err, out)
	}
	if text := read(t, filepath.Join(dir, "proto", "version.go")); !strings.Contains(text, "\nconst Version = \"3.2.1-rc.4\"\n") {
		t.Errorf("proto/version.go is now:\n%s", text)
	}
	for _, name := range []string{"package.json", "package-lock.json"} {
		if v := versionOf(t, filepath.Join(dir, "client-sdk", "js", name)); v != "3.2.1-rc.4" {
			t.Errorf("%s has version %q", name, v)
		}
	}
	files := func() (text string) {
		for _, name := range []string{"proto/version.go", "client-sdk/js/package.json", "client-sdk/js/package-lock.json"} {
			text += read(t, filepath.Join(dir, filepath.FromSlash(name)))
		}
		return text
	}
	before := files()
	for _, version := range []string{
		"", "v1.2.3", "1.2", "1.2.3-beta", "1.2.3 4", "1.2.3\n4.5.6", "1.2.3\n", "x\n1.2.3", "1.2.3\nx", `1.2.3"`, "1.2.3/g",
		"1.2.3';touch ran;'", `1.2.3";touch ran;"`, "1.2.3;touch ran", "$$(touch ran)",
		"1.2.99999999999999999999", // npm refuses it
	} {
		if out, err := set(version); err == nil {
			t.Errorf("make set-version VERSION=%q succeeds:\n%s", version, out)
		}
		cmd := exec.Command(filepath.Join(dir, ".ci", "set-version"), version)
		if out, err := cmd.CombinedOutput(); err == nil {
			t.Errorf("set-version %q succeeds:\n%s", version, out)
		}
		if files() != before {
			t.Fatalf("the refused version %q changed the files:\n%s", version, files())
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "ran")); err == nil {
		t.Error("make set-version runs a command in VERSION")
	}

	// A step that fails leaves no half of a change.
	version, broken := filepath.Join(dir, "proto", "version.go"), "package proto\n"
	if err := os.WriteFile(version, []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	before = files()
	if out, err := set("4.0.0"); err == nil || files() != before {
		t.Errorf("make set-version without a constant Version: %v\n%s\n%s", err, out, files())
	}
}
