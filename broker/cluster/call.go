package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/usher-broker/usher/proto"
)

const (
	// callTimeout bounds a call whose context does not end earlier.
	callTimeout = 10 * time.Second
	// A call without an answer is sent again after firstRetry, then after twice
	// that, and so on up to maxRetry.
	firstRetry = 250 * time.Millisecond
	maxRetry   = 2 * time.Second
)

// Call has a member execute a command and returns its result. CommandResult.Error
// is why the member did not execute it. The command is sent again until it is
// answered, for at most 10 s or until ctx ends; the member executes it at most
// once. Without an answer the error is ErrNoAnswer, and whether the command was
// executed is not known. If the member is not in the cluster, or leaves it, the
// error is ErrUnknownMember. Only members that place sessions may call.
func (c *Cluster) Call(ctx context.Context, to string, cmd proto.Command) (proto.CommandResult, error) {
	c.counts.calls.Add(1)
	r, err := c.call(ctx, to, cmd)
	if err != nil {
		c.counts.callsFailed.Add(1)
	}
	return r, err
}

func (c *Cluster) call(ctx context.Context, to string, cmd proto.Command) (none proto.CommandResult, _ error) {
	if !c.cfg.Self.Role.Places() {
		return none, fmt.Errorf("cluster: a %v may not send commands", c.cfg.Self.Role)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	id := c.nextID()
	frame, err := appendCall(id, c.cfg.Self.ID, cmd)
	if err != nil {
		return none, err
	}
	answer := make(chan proto.CommandResult, 1)
	c.mu.Lock()
	c.pending[id] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.pending, id)
		c.mu.Unlock()
	}()

	sent, err := c.send(to, frame)
	if err != nil {
		return none, err
	}
	var failed error // error of the last send
	retry := firstRetry
	timer := time.NewTimer(retry)
	defer timer.Stop()
	for {
		select {
		case r := <-answer:
			return r, nil
		case failed = <-sent:
			sent = nil
		case <-timer.C:
			retry = min(2*retry, maxRetry)
			timer.Reset(retry)
			if sent != nil {
				continue // the last send is not done
			}
			c.counts.retries.Add(1)
			if sent, err = c.send(to, frame); err != nil {
				return none, err
			}
		case <-ctx.Done():
			return none, fmt.Errorf("%w from %s: %w", ErrNoAnswer, to, errors.Join(ctx.Err(), failed))
		case <-c.ctx.Done():
			return none, ErrClosed
		}
	}
}

// send sends a frame reliably, in a goroutine. The channel delivers the error or
// nil.
func (c *Cluster) send(to string, frame []byte) (<-chan error, error) {
	node, err := c.lookup(to)
	if err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	ok := c.spawn(func() {
		err := c.list.SendReliable(node, frame)
		if err != nil {
			c.counts.sendsFailed.Add(1)
		}
		done <- err
	})
	if !ok {
		return nil, ErrClosed
	}
	return done, nil
}

// deliverAnswer passes an answer to the call that waits for it. It counts and
// drops a repeated or late answer.
func (c *Cluster) deliverAnswer(m message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	answer := c.pending[m.id]
	if answer == nil {
		c.counts.lateAnswers.Add(1)
		return
	}
	delete(c.pending, m.id)
	answer <- m.result // buffered
}
