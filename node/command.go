package node

import (
	"cmp"
	"context"

	"github.com/usher-broker/usher/proto"
)

// Command carries out an order from a member that places. It can be given to
// cluster.Config.Handle.
func (n *Node) Command(ctx context.Context, _ string, cmd proto.Command) proto.CommandResult {
	switch cmd.Op {
	case proto.OpDrain:
		var req proto.DrainRequest
		if cmd.Drain != nil {
			req = *cmd.Drain
		}
		n.Drain(n.cfg.Drain.with(req))
		return proto.CommandResult{Found: true}
	case proto.OpUndrain:
		n.Undrain()
		return proto.CommandResult{Found: true}
	case proto.OpShed:
		n.shedTo(cmd.Target)
		return proto.CommandResult{Found: true}
	case proto.OpEnd, proto.OpMoved, proto.OpMove, proto.OpPush:
	default:
		return proto.CommandResult{Error: "unknown command " + cmd.Op}
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
		defer n.goes.Done()
		return n.move(ctx, s, cmd.Epoch, cmd.To)
	case proto.OpPush:
		return n.push(ctx, s, cmd)
	}
	return proto.CommandResult{Found: true}
}
