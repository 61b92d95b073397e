package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/usher-broker/usher/broker/process"
)

// TestPasswordIsNotPrinted checks that no error prints the password in a URL.
func TestPasswordIsNotPrinted(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/missing/") {
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = w.Write([]byte("no JSON"))
	}))
	defer server.Close()
	own := strings.Replace(server.URL, "http://", "http://ada:s3cret@", 1)
	for _, base := range []string{
		own, own + "/missing", "http://ada:s3cret@127.0.0.1:1", "ftp://ada:s3cret@host", "ada:s3cret@host",
		"http://ada:s3cret@host:port", "http://ada:s3cret%zz@host", "http://ada:s3/cret@host",
	} {
		for _, args := range [][]string{
			{"nodes", "--api=" + base},
			{"doctor", "--max-sessions=1", "--api=" + base, "--auth=" + base},
			{"try", "--timeout=100ms", "--auth=" + base},
		} {
			var out bytes.Buffer
			if code := run(t.Context(), args, &out, &out); code == 0 {
				t.Errorf("%q succeeds:\n%s", args, out.String())
			}
			if strings.Contains(out.String(), "s3") {
				t.Errorf("%q prints:\n%s", args, out.String())
			}
		}
	}
}

func TestKeyFilesAreBounded(t *testing.T) {
	long := filepath.Join(t.TempDir(), "long")
	if err := os.WriteFile(long, make([]byte, process.MaxPEMBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, flags := range [][]string{{"--api-key-file=" + long}, {"--api-cert=" + long, "--api-cert-key=" + long}} {
		var out bytes.Buffer
		code := run(t.Context(), append([]string{"nodes", "--api=http://127.0.0.1:1"}, flags...), &out, &out)
		if code != 2 || !strings.Contains(out.String(), "longer than") {
			t.Errorf("%q exits with %d:\n%s", flags, code, out.String())
		}
	}
}

// TestOperatorsEnvironment checks which flags of the operators' commands can be set by
// the environment: those of the connection, the output and the log. A variable for
// another command must not select what a command acts on.
func TestOperatorsEnvironment(t *testing.T) {
	general := []string{"USHER_OUTPUT", "USHER_LOG_LEVEL", "USHER_LOG_FORMAT"}
	connection := []string{"USHER_API", "USHER_API_KEY", "USHER_API_KEY_FILE", "USHER_API_CA", "USHER_API_CERT", "USHER_API_CERT_KEY"}
	variable := regexp.MustCompile(`\$(USHER_\w+)`)
	for command, callsAPI := range map[string]bool{
		"nodes": true, "sessions": true, "top": true, "explain": true, "drain": true, "kick": true, "push": true,
		"keys signing": false, "keys gossip": false, "keys node": false, "keys password": false, "keys init": false, "keys api": false,
	} {
		var out bytes.Buffer
		if code := run(t.Context(), append(strings.Fields(command), "--help"), &out, &out); code != 0 {
			t.Fatalf("usher %s --help exits with %d:\n%s", command, code, out.String())
		}
		var has []string
		for _, m := range variable.FindAllStringSubmatch(out.String(), -1) {
			if has = append(has, m[1]); !slices.Contains(general, m[1]) && !slices.Contains(connection, m[1]) {
				t.Errorf("the environment variable %s sets a flag of usher %s", m[1], command)
			}
		}
		if callsAPI && !slices.Contains(has, "USHER_API") {
			t.Errorf("USHER_API does not set --api of usher %s", command)
		}
	}
}

func TestDrainTimes(t *testing.T) {
	for _, flag := range []string{"--window=500us", "--timeout=999us", "--window=-1s", "--timeout=-1ns"} {
		var out bytes.Buffer
		if code := run(t.Context(), []string{"drain", "node-1", "--api=http://127.0.0.1:1", flag}, &out, &out); code != 2 || !strings.Contains(out.String(), "must be 1ms or more") {
			t.Errorf("drain %s exits with %d:\n%s", flag, code, out.String())
		}
	}
}
