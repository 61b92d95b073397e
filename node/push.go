package node

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/usher-broker/usher/proto"
)

// push sends a message on behalf of a backend. One with a key that the session
// has had lately was sent before.
func (n *Node) push(ctx context.Context, s *Session, cmd proto.Command) proto.CommandResult {
	r := proto.CommandResult{Found: true}
	if cmd.Push == nil {
		r.Error = "no message"
		return r
	}
	m, ok := cmd.Push.Message()
	if !ok {
		r.Error = "a message has text or data, one of them"
		return r
	}
	frame, err := n.frame(m)
	if err != nil {
		r.Error = err.Error()
		return r
	}
	n.fence.pass()
	result, number, err := s.push(m, frame, cmd.Key)
	switch {
	case errors.Is(err, ErrMoving), errors.Is(err, ErrClosed):
		return proto.CommandResult{} // the store knows by now, or will soon, where it is
	case err != nil:
		result = proto.PushFull
	case !s.saved(ctx, number): // it is sent all the same, once it is
		result = proto.PushUnavailable
	}
	n.metrics.pushed.WithLabelValues(result).Inc()
	r.Result = result
	return r
}

// push sends the frame, and says what became of it and, for a reliable one, by
// what number it is saved.
func (s *Session) push(m Message, frame []byte, key string) (result string, number uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	result = proto.PushSent
	if s.conn == nil {
		result = proto.PushBuffered
		if m.Volatile {
			result = proto.PushDropped
		}
	}
	if key != "" && s.endCode == 0 && !s.frozen && s.keys.has(key) {
		return result, s.saves.pending(), nil
	}
	if err := s.send(m, frame); err != nil {
		return "", 0, err
	}
	if s.conn != nil && s.conn.messageWaits() {
		s.conn.kick()
	}
	if key != "" {
		if s.keys == nil {
			s.keys = newPushKeys(nil)
		}
		s.keys.add(key)
	}
	return result, s.saves.pending(), nil
}

// saved waits until the session is saved as of that number, in a node with
// checkpoints. It reports whether it is.
func (s *Session) saved(ctx context.Context, number uint64) bool {
	if !s.node.cfg.Checkpoint {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, s.node.cfg.StoreTimeout)
	defer cancel()
	for {
		s.mu.Lock()
		done, over := s.saves.done >= number, s.endCode != 0
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

// maxPushKeys is how many keys of messages a session remembers.
const maxPushKeys = 64

// pushKeys are the keys of the messages pushed lately, oldest first from next
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
