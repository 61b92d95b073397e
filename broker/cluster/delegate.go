package cluster

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/usher-broker/usher/proto"
)

// delegate is what memberlist calls. The Notify methods for members are called
// with memberlist's lock held, and so never call it.
type delegate struct {
	c *Cluster

	conflictLogged time.Time // guarded by memberlist's lock
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

// Nothing rides on gossip but metadata.
func (*delegate) GetBroadcasts(int, int) [][]byte { return nil }
func (*delegate) LocalState(bool) []byte          { return nil }
func (*delegate) MergeRemoteState([]byte, bool)   {}

func (d *delegate) NotifyJoin(n *memberlist.Node)   { d.c.update(n) }
func (d *delegate) NotifyUpdate(n *memberlist.Node) { d.c.update(n) }
func (d *delegate) NotifyLeave(n *memberlist.Node)  { d.c.remove(n.Name) }

// NotifyConflict is called for every message of a member that claims the id of
// another that lives.
func (d *delegate) NotifyConflict(existing, other *memberlist.Node) {
	c := d.c
	c.counts.conflicts.Add(1)
	if existing.Name == c.cfg.Self.ID {
		c.contested.Store(true)
	}
	if now := time.Now(); now.Sub(d.conflictLogged) >= 10*time.Second {
		d.conflictLogged = now
		c.log.Error("two members claim one id; the second is not listened to", "id", existing.Name, "first", existing.Address(), "second", other.Address())
	}
}

// update takes a member into the table, unless its metadata makes no sense:
// then what was known of it stays.
func (c *Cluster) update(n *memberlist.Node) {
	p, err := c.believe(n)
	c.order.Lock()
	defer c.order.Unlock()
	if err != nil {
		c.counts.badMembers.Add(1)
		c.mu.Lock()
		c.refused[n.Name] = *n
		c.mu.Unlock()
		c.log.Warn("metadata of a member is not believed; it is ignored", "id", n.Name, "addr", n.Address(), "error", err)
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
		}
	}
	if c.cfg.Events.Update != nil && !c.quiet {
		c.cfg.Events.Update(p)
	}
}

// believe returns what a member says of itself, if that is to be believed.
func (c *Cluster) believe(n *memberlist.Node) (proto.Peer, error) {
	p, err := proto.ParsePeer(n.Meta)
	if err == nil && p.ID != n.Name {
		err = fmt.Errorf("%w: says it is %q", proto.ErrPeer, p.ID)
	}
	if err == nil && p.Role == proto.RoleNode && p.ID != c.cfg.Self.ID && c.cfg.Accept != nil {
		err = c.cfg.Accept(p, n.Meta)
	}
	return p, err
}

// Recheck has Accept asked again about all members: it may see them otherwise now.
// Those that it no longer takes have left, as far as the Events go.
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
		if _, err := c.believe(&n); err != nil {
			c.remove(n.Name)
		}
		c.update(&n)
	}
}

func (c *Cluster) remove(id string) {
	c.order.Lock()
	defer c.order.Unlock()
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
	if c.cfg.Events.Leave != nil && !c.quiet {
		c.cfg.Events.Leave(id)
	}
}

// reported hands a report on if its node is a member.
func (c *Cluster) reported(r proto.Report) {
	c.order.Lock()
	defer c.order.Unlock()
	c.mu.Lock()
	m, known := c.members[r.ID]
	_, refused := c.refused[r.ID] // then it may be another that reports
	c.mu.Unlock()
	if !known || refused || m.peer.Role != proto.RoleNode {
		c.counts.strangers.Add(1)
		return
	}
	c.counts.reports.Add(1)
	if c.cfg.Events.Report != nil && !c.quiet {
		c.cfg.Events.Report(r)
	}
}
