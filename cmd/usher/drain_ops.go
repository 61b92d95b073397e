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

	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/proto"
)

// drainByOps drains a node on this machine by its ops port. It returns when the node
// is empty; the process of the node ends then.
func (c *drainCmd) drainByOps(ctx context.Context, e *process.Env) error {
	if c.Keep || c.Window != 0 || c.Timeout != 0 {
		return process.FlagError{Flag: "--ops", Err: errors.New("does not go with --keep, --window and --timeout, which need the private API")}
	}
	if c.Undo {
		s, err := c.callOps(ctx, http.MethodDelete)
		if err != nil {
			return err
		}
		return c.printUndone(e.Out, s.Node)
	}
	s, err := c.callOps(ctx, http.MethodPut)
	if err != nil {
		return err
	}
	w := drainWatch{cmd: c, env: e, node: s.Node, began: time.Now(), progress: newDrainProgress(e.Err)}
	if s.Drain != nil {
		w.last = *s.Drain
	}
	if c.NoWait {
		return w.printStarted()
	}
	return w.byOps(ctx)
}

// byOps returns when the node is empty, or its process has ended.
func (w *drainWatch) byOps(ctx context.Context) error {
	defer w.progress.close()
	for {
		s, err := w.cmd.callOps(ctx, http.MethodGet)
		switch {
		case ctx.Err() != nil:
			return errors.New("interrupted; the drain goes on (--undo cancels it)")
		case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF):
			return w.finish(true)
		case err != nil:
			return err
		case s.Drain == nil:
			return errUndone
		}
		w.last = *s.Drain
		if w.last.Remaining == 0 {
			return w.finish(false)
		}
		w.progress.show(w.node, w.last)
		select {
		case <-ctx.Done():
		case <-time.After(drainPoll):
		}
	}
}

// opsDrain is the answer of /drain of the ops port.
type opsDrain struct {
	Node  string
	Drain *proto.Drain // nil if the node does not drain
}

// callOps sends a request to /drain of the ops port.
func (c *drainCmd) callOps(ctx context.Context, method string) (s opsDrain, err error) {
	client, base := opsClient(c.Ops)
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, base+"/drain", nil)
	if err != nil {
		return s, process.FlagError{Flag: "--ops", Err: err}
	}
	resp, err := client.Do(req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return s, err
	}
	if resp.StatusCode != http.StatusOK {
		return s, fmt.Errorf("%s answered %s: %.200s", c.Ops, resp.Status, body)
	}
	return s, json.Unmarshal(body, &s)
}
