package node

import (
	"cmp"
	"context"
	"fmt"

	"github.com/usher-broker/usher/proto"
)

// Command executes a command of a member of the cluster. It can be used as
// cluster.Config.Handle.
func (n *Node) Command(ctx context.Context, _ string, cmd proto.Command) proto.CommandResult {
	switch cmd.Op {
	case proto.OpDrain:
		var req proto.DrainRequest
		if cmd.Drain != nil {
			req = *cmd.Drain
		}
		if err := n.Drain(n.cfg.Drain.with(req)); err != nil {
			return proto.CommandResult{Found: true, Error: err.Error()}
		}
		return proto.CommandResult{Found: true}
	case proto.OpUndrain:
		if err := n.Undrain(); err != nil {
			return proto.CommandResult{Found: true, Error: err.Error()}
		}
		return proto.CommandResult{Found: true}
	case proto.OpShed:
		n.shedTo(cmd.Target)
		return proto.CommandResult{Found: true}
	case proto.OpEnd, proto.OpMoved, proto.OpMove, proto.OpPush:
	default:
		return proto.CommandResult{Error: fmt.Sprintf("unknown command %q", cmd.Op)}
	}
	s := n.session(cmd.Session)
	if s == nil {
		return proto.CommandResult{}
	}
	switch cmd.Op {
	case proto.OpEnd:
		n.end(s, cmp.Or(cmd.Code, proto.CloseSessionEnded), cmd.Reason, false)
	case proto.OpMoved:
		if cmd.Epoch > s.epoch {
			n.end(s, proto.CloseMoved, "", false)
		}
	case proto.OpMove:
		if !n.enter() {
			return proto.CommandResult{Found: true, Result: proto.MoveBusy}
		}
		defer n.wg.Done()
		return n.move(ctx, s, cmd.Epoch, cmd.To)
	case proto.OpPush:
		return n.push(ctx, s, cmd)
	}
	return proto.CommandResult{Found: true}
}
