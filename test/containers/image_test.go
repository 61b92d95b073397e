package containers

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// imageTar writes the file system of an image as a tar archive.
type imageTar struct {
	t testing.TB
	w *tar.Writer
}

// importImage makes an image from the files that fill adds. The test's cleanup removes it.
func importImage(t testing.TB, name string, changes []string, fill func(imageTar)) {
	t.Helper()
	args := []string{"import"}
	for _, c := range changes {
		args = append(args, "--change", c)
	}
	cmd := exec.Command("docker", append(args, "-", name)...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(in)
	fill(imageTar{t, w})
	err = errors.Join(w.Close(), in.Close())
	if err := errors.Join(cmd.Wait(), err); err != nil {
		t.Fatalf("docker import %s: %v\n%s", name, err, output.String())
	}
	t.Cleanup(func() { _ = exec.Command("docker", "rmi", "--force", name).Run() })
}

// dir adds an empty directory.
func (i imageTar) dir(name string, mode int64, owner int) {
	i.t.Helper()
	h := &tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimPrefix(name, "/") + "/", Mode: mode, Uid: owner, Gid: owner}
	if err := i.w.WriteHeader(h); err != nil {
		i.t.Fatal(err)
	}
}

// file adds the host's file from as the file to. It follows symbolic links.
func (i imageTar) file(from, to string) {
	i.t.Helper()
	f, err := os.Open(from)
	if err != nil {
		i.t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		i.t.Fatal(err)
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(to, "/"), Mode: int64(info.Mode().Perm()), Size: info.Size()}
	if err := i.w.WriteHeader(h); err != nil {
		i.t.Fatal(err)
	}
	if _, err := io.Copy(i.w, f); err != nil {
		i.t.Fatal(err)
	}
}

// tree adds the regular files below the host's directory from, below to.
func (i imageTar) tree(from, to string) {
	i.t.Helper()
	err := filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(from, name)
		i.file(name, path.Join(to, filepath.ToSlash(rel)))
		return err
	})
	if err != nil {
		i.t.Fatal(err)
	}
}

// program adds a program of the host and the libraries that it loads, except those in
// added.
func (i imageTar) program(name, to string, added map[string]bool) {
	i.t.Helper()
	from, err := exec.LookPath(name)
	if err != nil {
		i.t.Fatal(err)
	}
	i.file(from, to)
	out, err := exec.Command("ldd", from).CombinedOutput()
	if err != nil {
		i.t.Fatalf("ldd %s: %v\n%s", from, err, out)
	}
	for _, field := range strings.Fields(string(out)) {
		if strings.HasPrefix(field, "/") && !added[field] {
			added[field] = true
			i.file(field, field)
		}
	}
}
