package containers

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// bases are the images that the Dockerfile and docker-compose.yml start from.
type bases struct {
	build, run, redis string
}

// substitutes returns the base images. It makes those that the environment does not
// name from files of this machine.
func substitutes(t testing.TB, tag string) bases {
	t.Helper()
	b := bases{os.Getenv("BUILD_IMAGE"), os.Getenv("RUN_IMAGE"), os.Getenv("REDIS_IMAGE")}
	if b.build == "" {
		b.build = "usher-test-golang:" + tag
		importGolang(t, b.build)
	}
	if b.run == "" {
		b.run = "usher-test-static:" + tag
		importImage(t, b.run, nil, func(i imageTar) { i.dir("/tmp", 0o1777, 0) })
	}
	if b.redis == "" {
		b.redis = "usher-test-redis:" + tag
		importImage(t, b.redis, []string{"ENV PATH=/usr/bin"}, func(i imageTar) {
			added := map[string]bool{}
			i.program("redis-server", "/usr/bin/redis-server", added)
			i.program("redis-cli", "/usr/bin/redis-cli", added)
			i.dir("/data", 0o755, 999)
		})
	}
	return b
}

// importGolang makes an image with a shell, make, Go, and the modules that the build of
// usher needs. The modules are included because a build in the engine may have no
// network.
func importGolang(t testing.TB, name string) {
	t.Helper()
	modules := downloadModules(t)
	goroot := goEnv(t, "GOROOT")
	changes := []string{
		"ENV PATH=/usr/local/go/bin:/bin", "ENV GOPATH=/go", "ENV GOPROXY=off", "ENV GOTOOLCHAIN=local", "ENV HOME=/root",
	}
	importImage(t, name, changes, func(i imageTar) {
		i.dir("/tmp", 0o1777, 0)
		i.dir("/root", 0o700, 0)
		added := map[string]bool{}
		i.program("sh", "/bin/sh", added)
		i.program("make", "/bin/make", added)
		for _, part := range []string{"bin", "lib", "pkg", "src"} {
			i.tree(filepath.Join(goroot, part), "/usr/local/go/"+part)
		}
		i.file(filepath.Join(goroot, "VERSION"), "/usr/local/go/VERSION")
		i.file(filepath.Join(goroot, "go.env"), "/usr/local/go/go.env")
		i.tree(modules, "/go/pkg/mod")
	})
}

// downloadModules returns a module cache with only the modules that the build needs. It
// takes them from this machine's module cache if they are there.
func downloadModules(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	cached := "file://" + filepath.ToSlash(filepath.Join(goEnv(t, "GOMODCACHE"), "cache", "download"))
	cmd := exec.Command("go", "mod", "download")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOMODCACHE="+dir, "GOFLAGS=-modcacherw",
		"GOPROXY="+cached+","+cmp.Or(goEnv(t, "GOPROXY"), "direct"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go mod download: %v\n%s", err, out)
	}
	return dir
}

func goEnv(t testing.TB, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatalf("go env: %v", err)
	}
	return strings.TrimSpace(string(out))
}
