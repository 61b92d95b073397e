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

// TestWalls checks every package of every module.
func TestWalls(t *testing.T) {
	seen := map[string]bool{}
	for _, dir := range modules(t) {
		list := packages(t, dir)
		if len(list) == 0 {
			t.Errorf("%s: go list names no package", dir)
		}
		for _, p := range list {
			seen[room(p.ImportPath)] = true
			for _, wrong := range check(p) {
				t.Error(wrong)
			}
		}
	}
	for _, r := range rooms {
		dir := strings.TrimSuffix(r.room, "/...")
		if info, err := os.Stat(filepath.Join(root, dir)); err != nil || !info.IsDir() {
			t.Errorf("the plan has a room %s that is not there", r.room)
		} else if !strings.HasSuffix(r.room, "/...") && !seen[dir] {
			t.Errorf("the package %s was not looked at", r.room)
		}
	}
}

// TestChecker holds the checker itself to finding what is wrong.
func TestChecker(t *testing.T) {
	for _, c := range []struct {
		name string
		p    pkg
		want string // part of the complaint; "" for none
	}{
		{"auth in node", imports("node", "auth"), "node imports " + prefix + "/auth"},
		{"node in auth", imports("auth/credential", "node"), "auth/credential imports " + prefix + "/node"},
		{"broker in proto", imports("proto/stream", "broker/session"), "proto/stream imports"},
		{"cluster in placement", imports("broker/placement", "broker/cluster"), "may enter proto alone"},
		{"session in token", imports("broker/token", "broker/session"), "may enter proto, proto/jsonwalk alone"},
		{"stream in session", imports("broker/session", "proto/stream"), "may enter proto alone"},
		{"redis in memory", imports("broker/session/memory", "broker/session/redis"), "broker/session/memory imports"},
		{"redis in broker", imports("broker", "broker/session/redis"), "broker imports"},
		{"cluster in node", imports("node", "broker/cluster"), "node imports"},
		{"broker in the client", imports("client-sdk/go", "broker/token"), "client-sdk/go imports"},
		{"command in broker", imports("broker", "cmd/usher"), "broker imports"},
		{"test in command", imports("cmd/usher", "test/e2e"), "cmd/usher imports"},
		{"a room nobody knows", imports("lobby", "proto"), "in no room yet"},
		{"node in a test of auth", pkg{ImportPath: prefix + "/auth", XTestImports: []string{prefix + "/node"}}, "auth imports"},
		{"memory in a test of node", pkg{ImportPath: prefix + "/node", TestImports: []string{prefix + "/broker/session/memory"}}, ""},
		{"memory in node", imports("node", "broker/session/memory"), "node imports"},

		{"memberlist in broker", names("broker", "github.com/hashicorp/memberlist"), "only broker/cluster may"},
		{"go-redis in memory", names("broker/session/memory", "github.com/redis/go-redis/v9"), "only broker/session/redis may"},
		{"go-redis where it belongs", names("broker/session/redis", "github.com/redis/go-redis/v9"), ""},
		{"anything in proto", names("proto", "golang.org/x/time/rate"), "standard library"},
		{"prometheus in cluster", names("broker/cluster", "github.com/prometheus/client_golang/prometheus"), "only auth"},
		{"testify", pkg{ImportPath: prefix + "/test/e2e", TestImports: []string{"github.com/stretchr/testify/assert"}}, "banned"},
		{"protobuf", names("cmd/usher", "google.golang.org/protobuf/proto"), "banned"},
		{"a module out of the blue", names("cmd/usher", "example.com/left/pad"), "nobody has agreed"},
		{"a name like a banned one", names("broker/cluster", "go.uber.org/zapper"), "nobody has agreed"},

		{"util", pkg{ImportPath: prefix + "/auth/util", Name: "util"}, "says nothing"},
		{"the standard library", names("proto", "encoding/json"), ""},
		{"the way it is meant", imports("node", "proto/stream"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := strings.Join(check(c.p), "\n")
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q in it", got, c.want)
			}
		})
	}
}

// TestFixture checks, from the files on, a module that breaks walls.
func TestFixture(t *testing.T) {
	var got []string
	for _, p := range packages(t, filepath.Join("testdata", "proto")) {
		got = append(got, check(p)...)
	}
	want := []string{
		"proto imports github.com/stretchr/testify/assert: banned everywhere",
		"proto imports " + prefix + "/auth: it may enter proto/... alone",
		"proto imports golang.org/x/sync/errgroup: only the standard library may be imported here",
		"proto/common: package common says nothing by its name",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func imports(self, other string) pkg {
	return pkg{ImportPath: prefix + "/" + self, Imports: []string{prefix + "/" + other}}
}

func names(self, path string) pkg {
	return pkg{ImportPath: prefix + "/" + self, Imports: []string{path}}
}

// modules returns the directories of the modules of the workspace.
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

// packages lists the packages of a module by itself. A package that does not
// build is listed too: here the walls alone matter.
func packages(t *testing.T, dir string) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Name,Imports,TestImports,XTestImports", "./...")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOWORK=off")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: go list: %v\n%s", dir, err, said.String())
	}
	var list []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}
