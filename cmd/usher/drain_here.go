package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"syscall"
	"time"

	"github.com/usher-broker/usher/proto"
)

// here drains the node on this machine, by its ops door. It returns when the node
// is empty, whose process ends then.
func (c *drainCmd) here(ctx context.Context, e *env) error {
	if c.Keep || c.Window != 0 || c.Timeout != 0 {
		return usageError{"--keep", errors.New("--window and --timeout are for drains through the private API")}
	}
	client, base := opsClient(c.Ops)
	ask := func(method string) (*proto.Drain, error) {
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, method, base+"/drain", nil)
		if err != nil {
			return nil, usageError{"--ops", err}
		}
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		var answer struct{ Drain *proto.Drain }
		body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		if err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s answered %s: %.200s", c.Ops, resp.Status, body)
		}
		err = json.Unmarshal(body, &answer)
		return answer.Drain, err
	}
	if c.Undo {
		if _, err := ask(http.MethodDelete); err != nil {
			return err
		}
		fmt.Fprintln(e.out, "The node is given sessions again.")
		return nil
	}
	if _, err := ask(http.MethodPut); err != nil || c.NoWait {
		return err
	}
	shown, began, last := newBar(e.out), time.Now(), proto.Drain{}
	for {
		d, err := ask(http.MethodGet)
		if d != nil {
			last = *d
		}
		switch {
		case ctx.Err() != nil:
			shown.end()
			return errors.New("no longer watched; the drain goes on (--undo takes it back)")
		case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF),
			err == nil && d != nil && d.Remaining == 0:
			shown.end()
			fmt.Fprintf(e.out, "Empty after %s: %d sessions, %d cut at the deadline.\n", time.Since(began).Round(100*time.Millisecond), last.Total, last.Cut)
			return nil
		case err != nil:
			shown.end()
			return err
		case d == nil:
			shown.end()
			return errors.New("the drain was taken back")
		}
		shown.show(last)
		select {
		case <-ctx.Done():
		case <-time.After(drainPoll):
		}
	}
}
