package importrules

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var root = filepath.Join("..", "..")

// TestImports checks every package of every module.
func TestImports(t *testing.T) {
	seen := map[string]bool{}
	for _, dir := range modules(t) {
		list := packages(t, dir)
		if len(list) == 0 {
			t.Errorf("%s: go list found no package", dir)
		}
		for _, p := range list {
			seen[relativePath(p.ImportPath)] = true
			for _, wrong := range check(p) {
				t.Error(wrong)
			}
		}
	}
	for _, r := range rules {
		dir := strings.TrimSuffix(r.pkg, "/...")
		if info, err := os.Stat(filepath.Join(root, dir)); err != nil || !info.IsDir() {
			t.Errorf("there is a rule for %s, but no such directory", r.pkg)
		} else if !strings.HasSuffix(r.pkg, "/...") && !seen[dir] {
			t.Errorf("there is a rule for %s, but go list did not list the package", r.pkg)
		}
	}
}

// TestDependencies checks what a game server and a game client compile, indirect
// dependencies included. The rules are about direct imports.
func TestDependencies(t *testing.T) {
	for _, path := range dependencies(t, "./node/serve") {
		if self := relativePath(path); match(self, "auth/...") || match(self, "broker/console/...") {
			t.Errorf("node/serve depends on %s", path)
		}
	}
	for _, path := range dependencies(t, "./client-sdk/go") {
		if !matches(relativePath(path), []string{"proto/...", "client-sdk/go/...", "github.com/coder/websocket/..."}) {
			t.Errorf("client-sdk/go depends on %s", path)
		}
	}
}

// TestChecker tests the checker: it must report every violation.
func TestChecker(t *testing.T) {
	for _, c := range []struct {
		name string
		p    listedPackage
		want string // part of the reported violation; "" for none
	}{
		{"auth in node", imports("node", "auth"), "node imports " + prefix + "/auth"},
		{"node in auth", imports("auth/credential", "node"), "auth/credential imports " + prefix + "/node"},
		{"broker in proto", imports("proto/stream", "broker/session"), "proto/stream imports"},
		{"cluster in placement", imports("broker/placement", "broker/cluster"), "may import only proto"},
		{"session in token", imports("broker/token", "broker/session"), "may import only proto, proto/strictjson"},
		{"stream in session", imports("broker/session", "proto/stream"), "may import only proto"},
		{"redis in memory", imports("broker/session/memory", "broker/session/redis"), "broker/session/memory imports"},
		{"redis in broker", imports("broker", "broker/session/redis"), "broker imports"},
		{"cluster in node", imports("node", "broker/cluster"), "node imports"},
		{"broker in the client", imports("client-sdk/go", "broker/token"), "client-sdk/go imports"},
		{"command in broker", imports("broker", "cmd/usher"), "broker imports"},
		{"test in command", imports("cmd/usher", "test/e2e"), "cmd/usher imports"},
		{"a package without a rule", imports("lobby", "proto"), "no rule exists"},
		{"a package that may import none", imports("broker/session/redistest", "proto"), "may import no other package"},
		{"node in a test of auth", listedPackage{ImportPath: prefix + "/auth", XTestImports: []string{prefix + "/node"}}, "auth imports"},
		{"memory in a test of node", listedPackage{ImportPath: prefix + "/node", TestImports: []string{prefix + "/broker/session/memory"}}, ""},
		{"memory in node", imports("node", "broker/session/memory"), "node imports"},

		{"memberlist in broker", importsExternal("broker", "github.com/hashicorp/memberlist"), "only broker/cluster may import it"},
		{"go-redis in memory", importsExternal("broker/session/memory", "github.com/redis/go-redis/v9"), "only broker/session/redis may import it"},
		{"go-redis where it belongs", importsExternal("broker/session/redis", "github.com/redis/go-redis/v9"), ""},
		{"an external module in proto", importsExternal("proto", "golang.org/x/time/rate"), "standard library"},
		{"auth in a game server", imports("node/serve", "auth"), "node/serve imports"},
		{"the private API in a game server", imports("node/serve", "broker/console"), "node/serve imports"},
		{"auth in the development cluster", imports("node/dev", "auth/serve"), ""},
		{"the load generator in the command", imports("cmd/usher", "cmd/usher-bench/load"), "cmd/usher imports"},
		{"kong in the command", importsExternal("cmd/usher", "github.com/alecthomas/kong"), "only broker/process, node/serve, node/dev may import it"},
		{"prometheus in cluster", importsExternal("broker/cluster", "github.com/prometheus/client_golang/prometheus"), "only auth"},
		{"testify", listedPackage{ImportPath: prefix + "/test/e2e", TestImports: []string{"github.com/stretchr/testify/assert"}}, "banned"},
		{"protobuf", importsExternal("cmd/usher", "google.golang.org/protobuf/proto"), "banned"},
		{"a module not agreed to", importsExternal("cmd/usher", "example.com/left/pad"), "not in the list of agreed modules"},
		{"a name that only begins like a banned one", importsExternal("broker/cluster", "go.uber.org/zapper"), "not in the list of agreed modules"},

		{"util", listedPackage{ImportPath: prefix + "/auth/util", Name: "util"}, "does not say what the package does"},
		{"the standard library", importsExternal("proto", "encoding/json"), ""},
		{"an allowed import", imports("node", "proto/stream"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := strings.Join(check(c.p), "\n")
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want it to contain %q", got, c.want)
			}
		})
	}
}

// TestFixture runs the checker on a module in testdata that breaks the rules.
func TestFixture(t *testing.T) {
	var got []string
	for _, p := range packages(t, filepath.Join("testdata", "proto")) {
		got = append(got, check(p)...)
	}
	want := []string{
		"proto imports github.com/stretchr/testify/assert: banned everywhere",
		"proto imports " + prefix + "/auth: it may import only proto/...",
		"proto imports golang.org/x/sync/errgroup: this package may import only the standard library",
		"proto/common: the name common does not say what the package does",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// imports returns a package of the repository that imports another one.
func imports(self, other string) listedPackage {
	return listedPackage{ImportPath: prefix + "/" + self, Imports: []string{prefix + "/" + other}}
}

// importsExternal returns a package of the repository that imports path.
func importsExternal(self, path string) listedPackage {
	return listedPackage{ImportPath: prefix + "/" + self, Imports: []string{path}}
}

// dependencies returns the packages outside the standard library that a package of the
// project is built from, the package itself included.
func dependencies(t *testing.T, pkg string) []string {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", pkg)
	cmd.Dir, cmd.Env = root, append(os.Environ(), "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %s: %v\n%s", pkg, err, stderr.String())
	}
	list := strings.Fields(string(out))
	if len(list) < 2 {
		t.Fatalf("go list %s found only %v", pkg, list)
	}
	return list
}

// modules returns the directories of the workspace's modules.
func modules(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("go", "work", "edit", "-json", filepath.Join(root, "go.work")).Output()
	if err != nil {
		t.Fatal(err)
	}
	var work struct {
		Use []struct{ DiskPath string }
	}
	if err := json.Unmarshal(out, &work); err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for _, u := range work.Use {
		dirs = append(dirs, filepath.Join(root, u.DiskPath))
	}
	return dirs
}

// packages lists the packages of a module, without the workspace. It also lists
// packages that do not build: only their imports matter here.
func packages(t *testing.T, dir string) []listedPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Name,Imports,TestImports,XTestImports", "./...")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: go list: %v\n%s", dir, err, stderr.String())
	}
	var list []listedPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listedPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}
