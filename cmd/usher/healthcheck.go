package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/usher-broker/usher/broker/process"
)

type healthcheckCmd struct {
	Ops  string `help:"Ops port of the process: host:port, or unix:PATH." default:"127.0.0.1:9090" placeholder:"ADDR"`
	Path string `help:"Path to request: /readyz or /healthz." enum:"/readyz,/healthz" default:"/readyz" placeholder:"PATH"`
}

// Help implements kong.HelpProvider.
func (healthcheckCmd) Help() string {
	return "Exits with 1 if the process does not answer, or not with status 200."
}

func (c healthcheckCmd) Run(ctx context.Context, e *process.Env) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	client, base := opsClient(c.Ops)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+c.Path, nil)
	if err != nil {
		return process.FlagError{Flag: "--ops", Err: err}
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	fmt.Fprintf(e.Out, "%s", body)
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", c.Path, resp.Status)
	}
	return nil
}

// opsClient returns a client for the ops port at host:port or unix:PATH, and the base
// URL. The host of :port is 127.0.0.1.
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
