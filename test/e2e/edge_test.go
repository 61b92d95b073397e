package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
)

// TestEdge runs the samples of deploy/edge, with the addresses of this machine in
// place of theirs: clients reach auth and all nodes at the one address of a proxy,
// and come back through it after cuts.
func TestEdge(t *testing.T) {
	for name, edge := range map[string]struct {
		sample string
		run    func(file string) []string
	}{
		"nginx": {"nginx.conf", func(file string) []string {
			return []string{"nginx", "-c", file, "-g", "daemon off; master_process off; pid " + file + ".pid;"}
		}},
		"haproxy": {"haproxy.cfg", func(file string) []string { return []string{"haproxy", "-db", "-f", file} }},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath(name); err != nil {
				if os.Getenv("USHER_SLOW") != "" {
					t.Fatal(err)
				}
				t.Skip(err)
			}
			ca, dir := newAuthority(t), t.TempDir()
			cert, key := filepath.Join(dir, "edge.crt"), filepath.Join(dir, "edge.key")
			ca.issue(cert, key)
			both, err := os.ReadFile(cert)
			if err != nil {
				t.Fatal(err)
			}
			secret, err := os.ReadFile(key)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "edge.pem"), append(both, secret...), 0o600); err != nil {
				t.Fatal(err)
			}

			c := startCluster(t, 0, "--trusted-proxies=127.0.0.0/8", "--probe-ca="+ca.file)
			at := "127.0.0.1:" + free(t)
			for i := range 2 {
				// Nodes on this machine, with the ports that the samples let through.
				c.startNode(fmt.Sprint("node-", i+1), fmt.Sprintf("--listen=127.0.%d.1:7000-7099", 70+i),
					"--advertise=wss://localhost:"+at[len("127.0.0.1:"):]+"/n/{ip-dashed}-{port}/v1/connect")
			}
			sample, err := os.ReadFile(filepath.Join("..", "..", "deploy", "edge", edge.sample))
			if err != nil {
				t.Fatal(err)
			}
			text := strings.NewReplacer(
				"10.0.0.7:8080", c.auth.listen, "10-0-", "127-0-", "10.0.$", "127.0.$", "listen 443", "listen "+at, "bind :443", "bind "+at,
				"/etc/usher/", dir+"/",
				"maxconn 190000", "maxconn 2000", "worker_rlimit_nofile 400000", "worker_rlimit_nofile 4000", "worker_connections 100000", "worker_connections 1000",
			).Replace(string(sample))
			file := filepath.Join(dir, edge.sample)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			args := edge.run(file)
			startProgram(t, name, args[0], args[1:]...)
			await(t, name+" to listen", starts, func() bool {
				conn, err := net.Dial("tcp", at)
				if err != nil {
					return false
				}
				conn.Close()
				return true
			})
			c.awaitNodes()

			list := talkers(t, 20, 20*time.Millisecond, func(user string) usher.Config {
				return usher.Config{
					Auth: "https://localhost:" + at[len("127.0.0.1:"):], Credentials: usher.Guest(user), TLS: &tls.Config{RootCAs: ca.pool},
				}
			})
			awaitEchoes(t, list, starts)
			on := map[string]int{}
			for _, tk := range list {
				on[tk.session.Node()]++
			}
			if len(on) != 2 {
				t.Errorf("clients are on %v, want both nodes", on)
			}
			// Who the client is, and that it came by https, auth knows from the proxy.
			if said := c.auth.said.String(); !strings.Contains(said, `"client":"127.0.0.1"`) {
				t.Error("auth does not say where the clients come from")
			}

			client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.pool}, DisableKeepAlives: true}}
			get := func(path string, header ...string) *http.Response {
				req, err := http.NewRequest("GET", "https://localhost:"+at[len("127.0.0.1:"):]+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				for i := 0; i+1 < len(header); i += 2 {
					req.Header.Set(header[i], header[i+1])
				}
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				return resp
			}
			node := strings.ReplaceAll(strings.ReplaceAll(c.nodes["node-1"].listen, ".", "-"), ":", "-")
			if resp := get("/n/" + node + "/v1/connect"); resp.StatusCode != 426 || resp.Header.Get("Usher-Node") != "node-1" {
				t.Errorf("the node answers %s, as %q", resp.Status, resp.Header.Get("Usher-Node"))
			}
			// The proxy is nobody's way to elsewhere: these are auth's, which knows no
			// such path.
			for _, path := range []string{
				"/n/10-9-0-1-7000/v1/connect", "/n/127-0-70-1-22/v1/connect", "/n/" + node + "/metrics", "/n/" + node + "/../v1/connect",
				"/n/127-0-0-1-" + c.auth.listen[strings.LastIndexByte(c.auth.listen, ':')+1:] + "/v1/connect", "/n/x/v1/connect",
			} {
				if resp := get(path); resp.StatusCode != 404 && resp.StatusCode != 405 {
					t.Errorf("%s answers %s", path, resp.Status)
				}
			}

			// A node dies: its clients move, at the same address of the proxy.
			hit, _ := divide(list, "node-1")
			killed := time.Now()
			c.nodes["node-1"].kill()
			awaitElsewhere(t, hit, "node-1", killed)
			awaitEchoes(t, list, starts)
			for _, tk := range list {
				if err := tk.fault(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
