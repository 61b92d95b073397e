package broker

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

const (
	// maxPushBytes bounds what is pushed: it travels in a body of HTTP and in a
	// command.
	maxPushBytes = 12 << 10
	// pushRetry is the time between two looks for a session on its way.
	pushRetry = 50 * time.Millisecond
	// maxPushSessions bounds the sessions of one user that a message goes to.
	maxPushSessions = 100
	pushesAtOnce    = 16
)

// Push sends a message to the client of a session, wherever it is: over its
// connection, or into the buffer that is kept while it is away. A message with a
// key that the session has had lately is not sent again; what has become of it
// is said all the same. The result says what happened; the errors are ErrInvalid,
// session.ErrNotFound and session.ErrUnavailable, wrapped.
func (b *Broker) Push(ctx context.Context, sid, key string, m proto.Push) (proto.PushResult, error) {
	if err := checkPush(key, m); err != nil {
		return proto.PushResult{}, err
	}
	if _, ok := session.TagOf(sid); !ok {
		return proto.PushResult{}, fmt.Errorf("pushing: %w", session.ErrNotFound)
	}
	return b.push(ctx, sid, key, m)
}

// PushUser is Push to every session of the user that is not over, at most 100;
// a user without any is session.ErrNotFound.
func (b *Broker) PushUser(ctx context.Context, user, key string, m proto.Push) ([]proto.PushResult, error) {
	if err := checkPush(key, m); err != nil {
		return nil, err
	}
	records, err := b.Sessions(ctx, user, maxPushSessions)
	if err != nil {
		return nil, err
	}
	if len(records) == 0 {
		return nil, fmt.Errorf("the user has no session: %w", session.ErrNotFound)
	}
	results := make([]proto.PushResult, len(records))
	var all errgroup.Group
	all.SetLimit(pushesAtOnce)
	for i, r := range records {
		all.Go(func() error {
			result, err := b.push(ctx, r.ID, key, m)
			if err != nil { // the others have their own
				result = proto.PushResult{Session: r.ID, Result: proto.PushUnavailable}
				if errors.Is(err, session.ErrNotFound) {
					result.Result = proto.PushEnded
				}
			}
			results[i] = result
			return nil
		})
	}
	_ = all.Wait()
	return results, nil
}

func checkPush(key string, p proto.Push) error {
	m, ok := p.Message()
	switch {
	case !ok:
		return fmt.Errorf("%w: a message has either text or data", ErrInvalid)
	case len(m.Data) > maxPushBytes:
		return fmt.Errorf("%w: a message of %d bytes, more than %d", ErrInvalid, len(m.Data), maxPushBytes)
	case m.Text && !utf8.Valid(m.Data):
		return fmt.Errorf("%w: text is not valid UTF-8", ErrInvalid)
	case len(key) > proto.MaxKeyBytes:
		return fmt.Errorf("%w: a key of %d bytes, more than %d", ErrInvalid, len(key), proto.MaxKeyBytes)
	}
	return nil
}

// push follows a session that is on its way from one node to another until ctx
// ends.
func (b *Broker) push(ctx context.Context, sid, key string, m proto.Push) (proto.PushResult, error) {
	for {
		r, err := b.store.Get(ctx, sid)
		result := proto.PushResult{Session: sid, Node: r.Node}
		switch {
		case errors.Is(err, session.ErrEnded):
			result.Result = proto.PushEnded
			return result, nil
		case err != nil && ctx.Err() == nil || errors.Is(err, session.ErrNotFound):
			return proto.PushResult{}, fmt.Errorf("pushing: %w", err)
		case r.State == session.Assigned && r.Stream == "":
			result.Result = proto.PushNotAttached
			return result, nil
		}
		if err == nil {
			answer, err := b.cfg.Cluster.Call(ctx, r.Node, proto.Command{Op: proto.OpPush, Session: sid, Key: key, Push: &m})
			b.orders.note(r.Node, proto.Command{Op: proto.OpPush, Session: sid}, statusOf(answer, err), err)
			switch {
			case err == nil && answer.Error != "":
				return proto.PushResult{}, fmt.Errorf("%w: %s", ErrInvalid, answer.Error)
			case err == nil && answer.Found:
				result.Result = answer.Result
				return result, nil
			}
		}
		select {
		case <-ctx.Done():
			result.Result = proto.PushUnavailable
			return result, nil
		case <-time.After(pushRetry):
		}
	}
}
