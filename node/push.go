package node

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/usher-broker/usher/proto"
)

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
	n.stallGuard.wait()
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
		s.mu.Unlock()
		if done || over {
			return done
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// maxPushKeys is how many message keys a session remembers.
const maxPushKeys = 64

// pushKeys is a ring of the keys of the messages pushed last, oldest first from next
// on. A nil *pushKeys is empty.
type pushKeys struct {
	keys []string
	next int
}

func newPushKeys(keys []string) *pushKeys {
	k := &pushKeys{}
	for _, key := range keys {
		k.add(key)
	}
	return k
}

func (k *pushKeys) has(key string) bool { return k != nil && slices.Contains(k.keys, key) }

func (k *pushKeys) add(key string) {
	if len(k.keys) < maxPushKeys {
		k.keys = append(k.keys, key)
		return
	}
	k.keys[k.next] = key
	k.next = (k.next + 1) % maxPushKeys
}

// list returns the keys, oldest first.
func (k *pushKeys) list() []string {
	if k == nil {
		return nil
	}
	return append(slices.Clone(k.keys[k.next:]), k.keys[:k.next]...)
}
