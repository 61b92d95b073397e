package broker

import (
	"context"
	"fmt"
	"regexp"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// reasonWord is what a reason may be: it travels as the reason of a close frame.
var reasonWord = regexp.MustCompile(`^[a-z0-9_]{1,64}$`)

func checkReason(reason string) error {
	if reason != "" && !reasonWord.MatchString(reason) {
		return fmt.Errorf("%w: a reason is a word of 1 to 64 letters a to z, digits and underscores", ErrInvalid)
	}
	return nil
}

// End ends a session everywhere; the client's connection closes with the code
// and the reason, a word; "" is the code's own. That it is over already is no
// error. It does not wait for the node. The errors are ErrInvalid,
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
	b.tellEnded(r)
	return nil
}

// EndUser ends all sessions of a user as End does, and returns their ids. A user
// without any is no error. The errors are ErrInvalid and session.ErrUnavailable,
// wrapped.
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
		return nil, fmt.Errorf("ending the sessions of a user: %w", err)
	}
	ids := make([]string, len(records))
	for i, r := range records {
		ids[i] = r.ID
		b.tellEnded(r)
	}
	return ids, nil
}

// tellEnded has the node of a session that is over close its connection.
func (b *Broker) tellEnded(r session.Record) {
	b.tell(r.Node, proto.Command{Op: proto.OpEnd, Session: r.ID, Code: r.Reason, Reason: r.CloseReason})
}
