package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// proxies returns the subjects of the proxy case: a node reached directly, and a node
// behind each proxy.
func proxies() []subject {
	list := []subject{node}
	list[0].name = "straight"
	for _, p := range []struct{ name, kind string }{
		{"HAProxy, tcp", "haproxy-tcp"},
		{"HAProxy, http", "haproxy-http"},
		{"nginx, stream", "nginx-stream"},
		{"nginx, http", "nginx-http"},
	} {
		list = append(list, subject{name: p.name, start: startBehind(p.kind), join: node.join})
	}
	return list
}

// startBehind returns a function that starts a node and the kind of proxy in front of it.
func startBehind(kind string) func(*fixture) (*server, error) {
	return func(f *fixture) (*server, error) {
		s, err := node.start(f)
		if err != nil {
			return nil, err
		}
		proxyAddr := freeAddr()
		file := filepath.Join(f.dir, kind+".conf")
		if err := os.WriteFile(file, []byte(fmt.Sprintf(proxyConfigs[kind], proxyAddr, s.addr)), 0o600); err != nil {
			s.stop()
			return nil, err
		}
		args := []string{"haproxy", "-db", "-f", file}
		if kind[0] == 'n' {
			args = []string{"nginx", "-c", file, "-p", f.dir, "-e", filepath.Join(f.dir, "nginx.log")}
		}
		p, err := start(proxyAddr, nil, findTool(args[0]), args[1:]...)
		if err != nil {
			s.stop()
			return nil, err
		}
		s.procs = append(s.procs, p)
		s.addr = proxyAddr
		return s, nil
	}
}

// findTool returns the path of a program, also if it is in an sbin directory outside PATH.
func findTool(name string) string {
	for _, dir := range []string{"/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return filepath.Join(dir, name)
		}
	}
	return name
}

// proxyConfigs holds minimal configurations by the proxies' manuals, with long timeouts.
var proxyConfigs = map[string]string{
	"haproxy-tcp": `
global
  nbthread 1
  maxconn 8000
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen node
  bind %s
  server node %s
`,
	"haproxy-http": `
global
  nbthread 1
  maxconn 8000
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout tunnel 1h
listen node
  bind %s
  server node %s
`,
	"nginx-stream": `
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
worker_processes 1;
pid nginx.pid;
events { worker_connections 8000; }
stream {
  server {
    listen %s;
    proxy_pass %s;
    proxy_timeout 1h;
    tcp_nodelay on;
  }
}
`,
	"nginx-http": `
daemon off;
worker_processes 1;
pid nginx.pid;
events { worker_connections 8000; }
http {
  access_log off;
  server {
    listen %s;
    location / {
      proxy_pass http://%s;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
      proxy_set_header Host $host;
      proxy_read_timeout 1h;
      proxy_send_timeout 1h;
    }
  }
}
`,
}

func runProxy(ctx context.Context, s *server, sub subject) (values, error) {
	e, err := joinEchoes(ctx, s, sub, proxyClients, 8)
	if err != nil {
		return nil, err
	}
	sum, used, err := e.loop(s, proxyTime)
	if err != nil {
		return nil, err
	}
	for _, p := range e.players {
		p.close()
	}
	n, err := closedLoop(16, 2*time.Second, func() error {
		p, err := sub.join(ctx, s, func([]byte) {})
		if err == nil {
			p.close()
		}
		return err
	})
	return values{
		"per_second": sum.PerSecond, "cpu_us": float64(used.Microseconds()) / float64(sum.Done), "p50_ms": sum.P50MS,
		"connects_per_second": float64(n) / 2,
	}, err
}
