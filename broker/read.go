package broker

import (
	"context"
	"fmt"

	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/broker/session"
)

// Session returns a session's record; for one that is over together with
// session.ErrEnded. The other errors are session.ErrNotFound and
// session.ErrUnavailable, wrapped.
func (b *Broker) Session(ctx context.Context, sid string) (session.Record, error) {
	if _, ok := session.TagOf(sid); !ok {
		return session.Record{}, fmt.Errorf("finding the session: %w", session.ErrNotFound)
	}
	return b.store.Get(ctx, sid)
}

// Sessions returns the user's sessions that are not over, oldest first, at most
// limit. A user that nobody has heard of has none; a name that cannot be a
// user's is ErrInvalid.
func (b *Broker) Sessions(ctx context.Context, user string, limit int) ([]session.Record, error) {
	if err := checkName("user", user); err != nil {
		return nil, err
	}
	return b.store.Sessions(ctx, user, limit)
}

// Nodes returns what is known of every node, by id. It costs time proportional
// to their number and keeps the broker from deciding meanwhile: it is for
// people, not for every login.
func (b *Broker) Nodes() []placement.NodeView {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.table.Nodes(b.cfg.Now())
}

// Node returns what is known of one node.
func (b *Broker) Node(id string) (placement.NodeView, bool) {
	for _, v := range b.Nodes() {
		if v.Peer.ID == id {
			return v, true
		}
	}
	return placement.NodeView{}, false
}
