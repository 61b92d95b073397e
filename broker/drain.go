package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/usher-broker/usher/proto"
)

// Errors of Drain and Undrain.
var (
	// ErrNoNode: no member with that id is a node. It never joined, or it has
	// left.
	ErrNoNode = errors.New("no such node")
	// ErrNodeUnavailable: the node did not answer, or refused the command; the
	// error says which. If it did not answer, whether it executed the command is
	// not known.
	ErrNodeUnavailable = errors.New("node unavailable")
)

const (
	maxDrainWindow  = time.Hour
	maxDrainTimeout = 24 * time.Hour
)

// Drain makes a node move all its sessions to other nodes. Undrain cancels a
// drain. The errors are ErrInvalid, ErrNoNode and ErrNodeUnavailable, wrapped.
// Both may be repeated.
func (b *Broker) Drain(ctx context.Context, id string, req proto.DrainRequest) error {
	switch {
	case req.WindowMS < 0 || req.WindowMS > maxDrainWindow.Milliseconds():
		return fmt.Errorf("%w: the drain window is %d ms, must be 0 to %d", ErrInvalid, req.WindowMS, maxDrainWindow.Milliseconds())
	case req.TimeoutMS < 0 || req.TimeoutMS > maxDrainTimeout.Milliseconds():
		return fmt.Errorf("%w: the drain timeout is %d ms, must be 0 to %d", ErrInvalid, req.TimeoutMS, maxDrainTimeout.Milliseconds())
	}
	return b.call(ctx, id, proto.Command{Op: proto.OpDrain, Drain: &req})
}

// Undrain cancels a drain; see Drain.
func (b *Broker) Undrain(ctx context.Context, id string) error {
	return b.call(ctx, id, proto.Command{Op: proto.OpUndrain})
}

// call sends a command to the node and waits for the result.
func (b *Broker) call(ctx context.Context, id string, cmd proto.Command) error {
	if _, ok := b.find(id); !ok {
		return fmt.Errorf("%w: %q", ErrNoNode, id)
	}
	result, err := b.cfg.Cluster.Call(ctx, id, cmd)
	b.commands.note(id, cmd, statusOf(result, err), err)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %s: %w", ErrNodeUnavailable, id, err)
	case result.Error != "":
		return fmt.Errorf("%w: %s: %s", ErrNodeUnavailable, id, result.Error)
	}
	return nil
}
