package broker

import (
	"context"
	"fmt"
	"regexp"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// reasonPattern matches a valid reason, which is sent as the reason of a close
// frame.
var reasonPattern = regexp.MustCompile(`^[a-z0-9_]{1,64}$`)

func checkReason(reason string) error {
	if reason != "" && !reasonPattern.MatchString(reason) {
		return fmt.Errorf("%w: the reason must have 1 to 64 characters, each a to z, 0 to 9 or underscore", ErrInvalid)
	}
	return nil
}

// End ends a session everywhere. The client's connection closes with the code and
// the reason; "" means the default reason of the code. Ending an ended session is
// not an error. End does not wait for the node. The errors are ErrInvalid,
// session.ErrNotFound and session.ErrUnavailable, wrapped.
func (b *Broker) End(ctx context.Context, sid string, code proto.CloseCode, reason string) error {
	err := b.end(ctx, sid, code, reason)
	b.hooks.Ended(resultOf(err))
	return err
}

func (b *Broker) end(ctx context.Context, sid string, code proto.CloseCode, reason string) error {
	if err := checkReason(reason); err != nil {
		return err
	}
	if _, ok := session.TagOf(sid); !ok {
		return fmt.Errorf("ending the session: %w", session.ErrNotFound)
	}
	r, err := b.store.End(ctx, sid, 0, code, reason, b.cfg.tombstoneTTL())
	if err != nil {
		return fmt.Errorf("ending the session: %w", err)
	}
	b.notifyEnded(r)
	return nil
}

// EndUser ends all sessions of a user as End does, and returns their ids. It is
// not an error if the user has none. The errors are ErrInvalid and
// session.ErrUnavailable, wrapped.
func (b *Broker) EndUser(ctx context.Context, user string, code proto.CloseCode, reason string) ([]string, error) {
	ids, err := b.endUser(ctx, user, code, reason)
	b.hooks.Ended(resultOf(err))
	return ids, err
}

func (b *Broker) endUser(ctx context.Context, user string, code proto.CloseCode, reason string) ([]string, error) {
	if err := checkReason(reason); err != nil {
		return nil, err
	}
	if err := checkName("user", user); err != nil {
		return nil, err
	}
	records, err := b.store.EndUser(ctx, user, code, reason, b.cfg.tombstoneTTL())
	if err != nil {
		return nil, fmt.Errorf("ending the sessions of the user: %w", err)
	}
	ids := make([]string, len(records))
	for i, r := range records {
		ids[i] = r.ID
		b.notifyEnded(r)
	}
	return ids, nil
}

// notifyEnded makes the node of an ended session close its connection.
func (b *Broker) notifyEnded(r session.Record) {
	b.notify(r.Node, proto.Command{Op: proto.OpEnd, Session: r.ID, Code: r.Reason, Reason: r.CloseReason})
}
