package release

import (
	"archive/zip"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"
)

const modulePath = "github.com/usher-broker/usher"

// stranger runs the go command as a user of the released module does, outside of this
// repository. Its module proxy has this checkout as the version, and otherwise the
// modules that the checkout needs. It uses no network.
type stranger struct {
	t     testing.TB
	env   []string
	files map[string]int64 // of the module, with their sizes
}

func newStranger(t testing.TB, version string) *stranger {
	t.Helper()
	proxy := t.TempDir()
	s := &stranger{t: t, files: writeModule(t, proxy, version)}

	// All modules that the checkout needs are now in the cache of this machine.
	download := exec.Command("go", "mod", "download")
	download.Dir, download.Env = root, append(os.Environ(), "GOWORK=off")
	if out, err := download.CombinedOutput(); err != nil {
		t.Fatalf("go mod download: %v\n%s", err, out)
	}
	cache, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		t.Fatalf("go env: %v", err)
	}
	s.env = append(os.Environ(),
		"GOPROXY="+fileURL(proxy)+","+fileURL(filepath.Join(strings.TrimSpace(string(cache)), "cache", "download")),
		"GONOPROXY=none", "GOSUMDB=off", // the checksums in go.sum were checked by the download
		// A cache of its own, because the version is not really this one. -modcacherw
		// lets the test remove it.
		"GOMODCACHE="+t.TempDir(), "GOFLAGS=-modcacherw -trimpath",
		"GOWORK=off", "GOTOOLCHAIN=local", "CGO_ENABLED=0")
	return s
}

// run runs a command in dir and returns its output.
func (s *stranger) run(dir, name string, args ...string) string {
	s.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, s.env
	var errOut strings.Builder
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, errOut.String())
	}
	return string(out)
}

// writeModule writes the checkout to the directory of a module proxy, as the version. It
// leaves out what is not part of the module, as a real proxy does. Files that are not
// committed yet are included.
func writeModule(t testing.TB, proxy, version string) map[string]int64 {
	t.Helper()
	// The checkout may belong to another user.
	list := exec.Command("git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = root
	names, err := list.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	var files []modzip.File
	for name := range strings.SplitSeq(strings.TrimRight(string(names), "\x00"), "\x00") {
		f := file(name)
		if _, err := f.Lstat(); errors.Is(err, fs.ErrNotExist) {
			continue // removed, not committed
		}
		files = append(files, f)
	}
	dir := filepath.Join(proxy, filepath.FromSlash(modulePath), "@v")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name string, content []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	info, err := json.Marshal(map[string]string{"Version": version, "Time": "2026-01-01T00:00:00Z"})
	if err != nil {
		t.Fatal(err)
	}
	write("list", []byte(version+"\n"))
	write(version+".info", info)
	write(version+".mod", []byte(read(t, filepath.Join(root, "go.mod"))))
	archive, err := os.Create(filepath.Join(dir, version+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	if err := modzip.Create(archive, module.Version{Path: modulePath, Version: version}, files); err != nil {
		t.Fatalf("the checkout cannot be a module: %v", err)
	}
	return zipped(t, archive.Name(), modulePath+"@"+version+"/")
}

// zipped returns the files in the archive without the prefix of their names, and their sizes.
func zipped(t testing.TB, archive, prefix string) map[string]int64 {
	t.Helper()
	r, err := zip.OpenReader(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	sizes := map[string]int64{}
	for _, f := range r.File {
		sizes[strings.TrimPrefix(f.Name, prefix)] = int64(f.UncompressedSize64)
	}
	return sizes
}

// file is a file of the repository, named with slashes.
type file string

func (f file) Path() string                 { return string(f) }
func (f file) Lstat() (os.FileInfo, error)  { return os.Lstat(f.path()) }
func (f file) Open() (io.ReadCloser, error) { return os.Open(f.path()) }
func (f file) path() string                 { return filepath.Join(root, filepath.FromSlash(string(f))) }

func fileURL(dir string) string { return "file://" + filepath.ToSlash(dir) }
