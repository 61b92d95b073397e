package broker

import (
	"context"
	"fmt"

	"github.com/usher-broker/usher/broker/session"
)

// Session returns a session's record. For an ended session it returns the record
// and session.ErrEnded. The other errors are session.ErrNotFound and
// session.ErrUnavailable, wrapped.
func (b *Broker) Session(ctx context.Context, sid string) (session.Record, error) {
	if _, ok := session.TagOf(sid); !ok {
		return session.Record{}, fmt.Errorf("finding the session: %w", session.ErrNotFound)
	}
	return b.store.Get(ctx, sid)
}

// Sessions returns the user's sessions that have not ended, oldest first, at most
// limit. An unknown user has none. An invalid user name is ErrInvalid.
func (b *Broker) Sessions(ctx context.Context, user string, limit int) ([]session.Record, error) {
	if err := checkName("user", user); err != nil {
		return nil, err
	}
	return b.store.Sessions(ctx, user, limit)
}
