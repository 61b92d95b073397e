// Package script tests the command line. Each script in testdata lists commands and
// the output that a user must see.
package script

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

var bin string // the directory of the built binaries

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "usher-script-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", dir, "./cmd/usher", "./cmd/usher-bench")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the commands: %v\n%s", err, out)
		return 1
	}
	bin = dir
	return m.Run()
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("TMPDIR", env.WorkDir)
			for _, name := range []string{"AUTH", "API", "OPS"} { // addresses for scripts that start a cluster
				ln, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					return err
				}
				defer ln.Close()
				env.Setenv(name, ln.Addr().String())
			}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": func(ts *testscript.TestScript, neg bool, args []string) { exits(ts, neg, "usher", args) },
			"bench": func(ts *testscript.TestScript, neg bool, args []string) { exits(ts, neg, "usher-bench", args) },
			"mode":  mode,
			"ready": ready,
			"login": login,
		},
	})
}

// exits runs a program and checks its exit code. exits CODE ARGS... is for usher, bench
// CODE ARGS... for usher-bench.
func exits(ts *testscript.TestScript, neg bool, program string, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: exits code args...")
	}
	err := ts.Exec(program, args[1:]...)
	code := 0
	if exit, ok := err.(*exec.ExitError); ok {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%s: %v", program, err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("%s %q exits with %d, not %s", program, args[1:], code, args[0])
	}
}

// mode checks the permissions of a file: mode 600 FILE
func mode(ts *testscript.TestScript, neg bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[1]))
	if err != nil {
		ts.Fatalf("%v", err)
	}
	if got := fmt.Sprintf("%o", info.Mode().Perm()); (got == args[0]) == neg {
		ts.Fatalf("%s has mode %s", args[1], got)
	}
}

// ready waits until the process with the ops port is ready: ready ADDR
func ready(ts *testscript.TestScript, _ bool, args []string) {
	for range 200 {
		resp, err := http.Get("http://" + args[0] + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("no process is ready at %s", args[0])
}

// login logs a guest in at $AUTH and sets $SESSION to the id of the session: login NAME
func login(ts *testscript.TestScript, _ bool, args []string) {
	body := fmt.Sprintf(`{"method":"guest","credentials":{"name":%q}}`, args[0])
	resp, err := http.Post("http://"+ts.Getenv("AUTH")+"/v1/login", "application/json", strings.NewReader(body))
	ts.Check(err)
	defer resp.Body.Close()
	var at struct{ Session string }
	ts.Check(json.NewDecoder(resp.Body).Decode(&at))
	if at.Session == "" {
		ts.Fatalf("login: %s", resp.Status)
	}
	ts.Setenv("SESSION", at.Session)
}
