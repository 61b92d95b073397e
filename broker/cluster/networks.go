package cluster

import (
	"net"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/hashicorp/memberlist"
)

// guard passes on what comes from the networks that members gossip from, and drops
// the rest before a byte of it is looked at.
type guard struct {
	networks []netip.Prefix
	foreign  *atomic.Uint64 // packets and connections dropped
	packets  chan *memberlist.Packet
	streams  chan net.Conn
	quit     chan struct{} // closed when nothing is taken any more
	done     chan struct{} // closed when nothing comes any more
}

// guarded returns nil where everybody may gossip.
func guarded(networks []netip.Prefix, foreign *atomic.Uint64) *guard {
	if len(networks) == 0 {
		return nil
	}
	return &guard{
		networks: networks, foreign: foreign,
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn),
		quit: make(chan struct{}), done: make(chan struct{}),
	}
}

func (g *guard) admits(a net.Addr) bool {
	at, err := netip.ParseAddrPort(a.String())
	ip := at.Addr().Unmap().WithZone("")
	if err == nil && slices.ContainsFunc(g.networks, func(p netip.Prefix) bool { return p.Contains(ip) }) {
		return true
	}
	g.foreign.Add(1)
	return false
}

// run passes on what t receives, until done.
func (g *guard) run(t *memberlist.NetTransport) {
	for {
		select {
		case p := <-t.PacketCh():
			if !g.admits(p.From) {
				continue
			}
			select {
			case g.packets <- p:
			case <-g.quit:
			}
		case c := <-t.StreamCh():
			if !g.admits(c.RemoteAddr()) {
				c.Close()
				continue
			}
			select {
			case g.streams <- c:
			case <-g.quit:
				c.Close()
			}
		case <-g.done:
			return
		}
	}
}

func (t *transport) PacketCh() <-chan *memberlist.Packet {
	if t.guard == nil {
		return t.NetTransport.PacketCh()
	}
	return t.guard.packets
}

func (t *transport) StreamCh() <-chan net.Conn {
	if t.guard == nil {
		return t.NetTransport.StreamCh()
	}
	return t.guard.streams
}

// Shutdown returns when nothing is received any more.
func (t *transport) Shutdown() error {
	if t.guard == nil {
		return t.NetTransport.Shutdown()
	}
	close(t.guard.quit)
	err := t.NetTransport.Shutdown() // its listeners end when what they have is taken
	close(t.guard.done)
	return err
}
