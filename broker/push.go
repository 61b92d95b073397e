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
	// maxPushBytes bounds a pushed message, which is sent in an HTTP body and in
	// a command.
	maxPushBytes = 12 << 10
	// pushRetry is the time between two lookups of a session that is moving.
	pushRetry = 50 * time.Millisecond
	// maxPushSessions bounds the sessions of one user that a message is pushed
	// to.
	maxPushSessions = 100
	pushesAtOnce    = 16
)

// Push sends a message to the client of a session at whatever node it is: over
// its connection, or into the buffer of a detached session. A message with a key
// that the session has received recently is not sent again, and the result is as
// if it had been. The result says what happened. The errors are ErrInvalid,
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

// PushUser pushes to every session of the user that has not ended, at most 100. A
// user without any is session.ErrNotFound.
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
			if err != nil { // the other sessions have their own results
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
		return fmt.Errorf("%w: a message must have either text or data", ErrInvalid)
	case len(m.Data) > maxPushBytes:
		return fmt.Errorf("%w: the message has %d bytes, at most %d are allowed", ErrInvalid, len(m.Data), maxPushBytes)
	case m.Text && !utf8.Valid(m.Data):
		return fmt.Errorf("%w: the text is not valid UTF-8", ErrInvalid)
	case len(key) > proto.MaxKeyBytes:
		return fmt.Errorf("%w: the key has %d bytes, at most %d are allowed", ErrInvalid, len(key), proto.MaxKeyBytes)
	}
	return nil
}

// push retries while the session moves from one node to another, until ctx ends.
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
			b.commands.note(r.Node, proto.Command{Op: proto.OpPush, Session: sid}, statusOf(answer, err), err)
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
