package cluster

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/usher-broker/usher/proto"
)

// delegate implements the callbacks of memberlist. Its Notify methods for members
// are called with memberlist's lock held, so they must not call memberlist.
type delegate struct {
	c *Cluster

	conflictLogged time.Time // protected by memberlist's lock
}

var (
	_ memberlist.Delegate         = (*delegate)(nil)
	_ memberlist.EventDelegate    = (*delegate)(nil)
	_ memberlist.ConflictDelegate = (*delegate)(nil)
)

func (d *delegate) NodeMeta(int) []byte {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	return d.c.meta
}

func (d *delegate) NotifyMsg(b []byte) { d.c.receive(b) }

// Gossip carries metadata only.
func (*delegate) GetBroadcasts(int, int) [][]byte { return nil }
func (*delegate) LocalState(bool) []byte          { return nil }
func (*delegate) MergeRemoteState([]byte, bool)   {}

func (d *delegate) NotifyJoin(n *memberlist.Node)   { d.c.update(n) }
func (d *delegate) NotifyUpdate(n *memberlist.Node) { d.c.update(n) }
func (d *delegate) NotifyLeave(n *memberlist.Node)  { d.c.remove(n.Name) }

// NotifyConflict is called for every message of a member that uses the id of
// another live member.
func (d *delegate) NotifyConflict(existing, other *memberlist.Node) {
	c := d.c
	c.counts.conflicts.Add(1)
	if existing.Name == c.cfg.Self.ID {
		c.contested.Store(true)
	}
	if now := time.Now(); now.Sub(d.conflictLogged) >= 10*time.Second {
		d.conflictLogged = now
		c.log.Error("two live members have the same id; messages of the second are ignored", "id", existing.Name, "first", existing.Address(), "second", other.Address())
	}
}

// update adds or changes a member. If its metadata is invalid, the previous one
// stays.
func (c *Cluster) update(n *memberlist.Node) {
	p, err := c.checkPeer(n)
	c.eventMu.Lock()
	defer c.eventMu.Unlock()
	if err != nil {
		c.counts.badMembers.Add(1)
		c.mu.Lock()
		c.refused[n.Name] = *n
		c.mu.Unlock()
		c.log.Warn("invalid metadata of a member is ignored", "id", n.Name, "addr", n.Address(), "error", err)
		return
	}
	c.mu.Lock()
	_, known := c.members[p.ID]
	delete(c.refused, p.ID)
	c.members[p.ID] = member{peer: p, node: *n}
	c.mu.Unlock()
	if p.ID == c.cfg.Self.ID {
		return
	}
	if !known {
		c.log.Info("member joined", "id", p.ID, "role", p.Role.String(), "addr", n.Address())
		if p.Role.Places() {
			c.observers.Add(1)
			select {
			case c.observerJoined <- struct{}{}:
			default: // the reporter has not looked since the last join
			}
		}
	}
	if c.cfg.Events.Update != nil && !c.eventsOff {
		c.cfg.Events.Update(p)
	}
}

// checkPeer decodes and checks the metadata of a member.
func (c *Cluster) checkPeer(n *memberlist.Node) (proto.Peer, error) {
	p, err := proto.ParsePeer(n.Meta)
	if err == nil && p.ID != n.Name {
		err = fmt.Errorf("%w: its id is %q", proto.ErrPeer, p.ID)
	}
	if err == nil && p.Role == proto.RoleNode && p.ID != c.cfg.Self.ID && c.cfg.Accept != nil {
		err = c.cfg.Accept(p, n.Meta)
	}
	return p, err
}

// Recheck calls Accept again for all members, because its answer may have
// changed. A member that is no longer accepted has left, as far as Events are
// concerned.
func (c *Cluster) Recheck() {
	c.mu.Lock()
	list := slices.Collect(maps.Values(c.refused))
	for _, m := range c.members {
		if m.peer.ID != c.cfg.Self.ID {
			list = append(list, m.node)
		}
	}
	c.mu.Unlock()
	for _, n := range list {
		if _, err := c.checkPeer(&n); err != nil {
			c.remove(n.Name)
		}
		c.update(&n)
	}
}

func (c *Cluster) remove(id string) {
	c.eventMu.Lock()
	defer c.eventMu.Unlock()
	c.mu.Lock()
	_, known := c.members[id]
	delete(c.refused, id)
	if id != c.cfg.Self.ID {
		delete(c.members, id)
	}
	c.mu.Unlock()
	if !known || id == c.cfg.Self.ID {
		return
	}
	c.log.Info("member left", "id", id)
	if c.cfg.Events.Leave != nil && !c.eventsOff {
		c.cfg.Events.Leave(id)
	}
}

// deliverReport passes on a report of a node that is a member.
func (c *Cluster) deliverReport(r proto.Report) {
	c.eventMu.Lock()
	defer c.eventMu.Unlock()
	c.mu.Lock()
	m, known := c.members[r.ID]
	_, refused := c.refused[r.ID] // then the report may be from another member with that id
	c.mu.Unlock()
	if !known || refused || m.peer.Role != proto.RoleNode {
		c.counts.strangers.Add(1)
		return
	}
	c.counts.reports.Add(1)
	if c.cfg.Events.Report != nil && !c.eventsOff {
		c.cfg.Events.Report(r)
	}
}
