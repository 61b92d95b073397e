package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

type healthcheckCmd struct {
	Ops  string `help:"Address of the ops door to ask: host:port, or unix:PATH." default:"127.0.0.1:9090" placeholder:"ADDR"`
	Path string `help:"What to ask: /readyz or /healthz." enum:"/readyz,/healthz" default:"/readyz" placeholder:"PATH"`
}

func (c healthcheckCmd) Run(ctx context.Context, e *env) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	client, base := opsClient(c.Ops)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+c.Path, nil)
	if err != nil {
		return usageError{"--ops", err}
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	fmt.Fprintf(e.out, "%s", body)
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", c.Path, resp.Status)
	}
	return nil
}

// opsClient returns a client for the ops door at host:port or unix:PATH, and the
// URL before every path. A port alone is one of this machine.
func opsClient(addr string) (*http.Client, string) {
	path, ok := strings.CutPrefix(addr, "unix:")
	if !ok {
		if strings.HasPrefix(addr, ":") {
			addr = "127.0.0.1" + addr
		}
		return http.DefaultClient, "http://" + addr
	}
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}}}, "http://localhost"
}
