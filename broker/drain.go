package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/usher-broker/usher/proto"
)

// Errors of what is asked of a node.
var (
	// ErrNoNode: there is no such node; it never was, or it has left.
	ErrNoNode = errors.New("no such node")
	// ErrNodeUnavailable: the node does not answer, or says why it does not do
	// what it is asked. Whether it did it is not known then.
	ErrNodeUnavailable = errors.New("node unavailable")
)

const (
	maxDrainWindow  = time.Hour
	maxDrainTimeout = 24 * time.Hour
)

// Drain has a node give its sessions away; Undrain takes that back. The errors
// are ErrInvalid, ErrNoNode and ErrNodeUnavailable, wrapped. Both may be called
// again and again.
func (b *Broker) Drain(ctx context.Context, id string, req proto.DrainRequest) error {
	switch {
	case req.WindowMS < 0 || req.WindowMS > maxDrainWindow.Milliseconds():
		return fmt.Errorf("%w: a window of %d ms, not 0 to %d", ErrInvalid, req.WindowMS, maxDrainWindow.Milliseconds())
	case req.TimeoutMS < 0 || req.TimeoutMS > maxDrainTimeout.Milliseconds():
		return fmt.Errorf("%w: a timeout of %d ms, not 0 to %d", ErrInvalid, req.TimeoutMS, maxDrainTimeout.Milliseconds())
	}
	return b.order(ctx, id, proto.Command{Op: proto.OpDrain, Drain: &req})
}

// Undrain takes back a drain; see there.
func (b *Broker) Undrain(ctx context.Context, id string) error {
	return b.order(ctx, id, proto.Command{Op: proto.OpUndrain})
}

// order has the node carry out a command, and waits until it has.
func (b *Broker) order(ctx context.Context, id string, cmd proto.Command) error {
	if _, ok := b.find(id); !ok {
		return fmt.Errorf("%w: %q", ErrNoNode, id)
	}
	result, err := b.cfg.Cluster.Call(ctx, id, cmd)
	b.orders.note(id, cmd, statusOf(result, err), err)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %s: %w", ErrNodeUnavailable, id, err)
	case result.Error != "":
		return fmt.Errorf("%w: %s: %s", ErrNodeUnavailable, id, result.Error)
	}
	return nil
}
