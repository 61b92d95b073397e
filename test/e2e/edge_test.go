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

// TestEdge runs the sample proxy configurations of deploy/edge, with local
// addresses in place of theirs. Clients must reach auth and all nodes at the single
// address of the proxy, and reconnect through it after a node has died.
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
			addr := "127.0.0.1:" + freePort(t)
			for i := range 2 {
				// Local nodes, on the port range that the samples forward to.
				c.startNode(fmt.Sprint("node-", i+1), fmt.Sprintf("--listen=127.0.%d.1:7000-7099", 70+i),
					"--advertise=wss://localhost:"+addr[len("127.0.0.1:"):]+"/n/{ip-dashed}-{port}/v1/connect")
			}
			sample, err := os.ReadFile(filepath.Join("..", "..", "deploy", "edge", edge.sample))
			if err != nil {
				t.Fatal(err)
			}
			text := strings.NewReplacer(
				"10.0.0.7:8080", c.auth.listen, "10-0-", "127-0-", "10.0.$", "127.0.$", "listen 443", "listen "+addr, "bind :443", "bind "+addr,
				"/etc/usher/", dir+"/",
				"maxconn 190000", "maxconn 2000", "worker_rlimit_nofile 400000", "worker_rlimit_nofile 4000", "worker_connections 100000", "worker_connections 1000",
			).Replace(string(sample))
			file := filepath.Join(dir, edge.sample)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			args := edge.run(file)
			startProgram(t, name, args[0], args[1:]...)
			await(t, name+" to listen", startTimeout, func() bool {
				conn, err := net.Dial("tcp", addr)
				if err != nil {
					return false
				}
				conn.Close()
				return true
			})
			c.awaitNodes()

			clients := startEchoClients(t, 20, 20*time.Millisecond, func(user string) usher.Config {
				return usher.Config{
					Auth: "https://localhost:" + addr[len("127.0.0.1:"):], Credentials: usher.Guest(user), TLS: &tls.Config{RootCAs: ca.pool},
				}
			})
			awaitEchoes(t, clients, startTimeout)
			on := map[string]int{}
			for _, ec := range clients {
				on[ec.session.Node()]++
			}
			if len(on) != 2 {
				t.Errorf("clients per node: %v, want both nodes used", on)
			}
			// Auth learns the client's address and scheme from the proxy's headers.
			if output := c.auth.output.String(); !strings.Contains(output, `"client":"127.0.0.1"`) {
				t.Error("auth does not log the address of the client")
			}

			client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.pool}, DisableKeepAlives: true}}
			get := func(path string, header ...string) *http.Response {
				req, err := http.NewRequest("GET", "https://localhost:"+addr[len("127.0.0.1:"):]+path, nil)
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
				t.Errorf("a GET of the node's path: %s from node %q, want 426 from node-1", resp.Status, resp.Header.Get("Usher-Node"))
			}
			// The proxy must not forward to other hosts, ports or paths. It passes
			// such requests to auth, which knows no such path.
			for _, path := range []string{
				"/n/10-9-0-1-7000/v1/connect", "/n/127-0-70-1-22/v1/connect", "/n/" + node + "/metrics", "/n/" + node + "/../v1/connect",
				"/n/127-0-0-1-" + c.auth.listen[strings.LastIndexByte(c.auth.listen, ':')+1:] + "/v1/connect", "/n/x/v1/connect",
			} {
				if resp := get(path); resp.StatusCode != 404 && resp.StatusCode != 405 {
					t.Errorf("GET %s: %s, want 404 or 405", path, resp.Status)
				}
			}

			// A node dies. Its clients move to the other node at the same proxy address.
			affected, _ := splitByNode(clients, "node-1")
			killed := time.Now()
			c.nodes["node-1"].kill()
			awaitMovedFrom(t, affected, "node-1", killed)
			awaitEchoes(t, clients, startTimeout)
			for _, ec := range clients {
				if err := ec.verify(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
