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
	client, host := http.DefaultClient, c.Ops
	if path, ok := strings.CutPrefix(c.Ops, "unix:"); ok {
		host = "localhost"
		client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		}}}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+c.Path, nil)
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
