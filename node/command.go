package node

import (
	"cmp"
	"context"
	"errors"
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
		if cmd.Epoch > s.lease.Epoch {
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

// push sends a message for a backend. A message whose key the session has seen
// recently is not sent again.
func (n *Node) push(ctx context.Context, s *Session, cmd proto.Command) proto.CommandResult {
	r := proto.CommandResult{Found: true}
	if cmd.Push == nil {
		r.Error = "the command has no message"
		return r
	}
	m, ok := cmd.Push.Message()
	if !ok {
		r.Error = "a message must have either text or data"
		return r
	}
	frame, err := n.frame(m)
	if err != nil {
		r.Error = err.Error()
		return r
	}
	n.leases.AwaitRunning()
	result, seq, err := s.push(m, frame, cmd.Key)
	switch {
	case errors.Is(err, ErrMoving), errors.Is(err, ErrClosed):
		return proto.CommandResult{} // the store knows where the session is now, or soon will
	case err != nil:
		result = proto.PushFull
	case !s.awaitCheckpoint(ctx, seq): // the message still goes out after its checkpoint
		result = proto.PushUnavailable
	}
	n.metrics.pushed.WithLabelValues(result).Inc()
	r.Result = result
	return r
}

// push sends the frame. It returns the result and the number of the checkpoint that
// will contain a reliable frame.
func (s *Session) push(m Message, frame []byte, key string) (result string, seq uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	result = proto.PushSent
	if s.conn == nil {
		result = proto.PushBuffered
		if m.Volatile {
			result = proto.PushDropped
		}
	}
	if key != "" && s.phase < moving && s.keys.has(key) {
		return result, s.checkpoint.coveringSeq(), nil
	}
	if err := s.send(m, frame); err != nil {
		return "", 0, err
	}
	if s.conn != nil && s.conn.out.MessageWaits(s.conn.lastWritable()) {
		s.conn.wakeWriter()
	}
	if key != "" {
		if s.keys == nil {
			s.keys = newPushKeys(nil)
		}
		s.keys.add(key)
	}
	return result, s.checkpoint.coveringSeq(), nil
}

// awaitCheckpoint waits until the checkpoint of that number is stored, in a node with
// Config.Checkpoint. It reports whether it is; without checkpoints it returns true.
func (s *Session) awaitCheckpoint(ctx context.Context, seq uint64) bool {
	if !s.node.cfg.Checkpoint {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, s.node.cfg.StoreTimeout)
	defer cancel()
	for {
		s.mu.Lock()
		done, over := s.checkpoint.done >= seq, s.phase == ended
		changed := s.checkpoint.changed
		if changed == nil && !done && !over {
			changed = make(chan struct{})
			s.checkpoint.changed = changed
		}
		s.mu.Unlock()
		if done || over {
			return done
		}
		select {
		case <-ctx.Done():
			return false
		case <-changed:
		}
	}
}
