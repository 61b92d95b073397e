package cluster

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/memberlist"
)

// networkFilter passes on the packets and connections from the allowed networks
// and drops all others before it reads a byte of them.
type networkFilter struct {
	networks []netip.Prefix
	foreign  *atomic.Uint64 // packets and connections dropped
	packets  chan *memberlist.Packet
	streams  chan net.Conn
	quit     chan struct{} // closed when no one reads packets and streams any more
	done     chan struct{} // closed when the transport delivers nothing any more
	wg       sync.WaitGroup
}

// newNetworkFilter returns nil if members may gossip from anywhere.
func newNetworkFilter(networks []netip.Prefix, foreign *atomic.Uint64) *networkFilter {
	if len(networks) == 0 {
		return nil
	}
	return &networkFilter{
		networks: networks, foreign: foreign,
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn),
		quit: make(chan struct{}), done: make(chan struct{}),
	}
}

func (f *networkFilter) allows(a net.Addr) bool {
	at, err := netip.ParseAddrPort(a.String())
	ip := at.Addr().Unmap().WithZone("")
	if err == nil && slices.ContainsFunc(f.networks, func(p netip.Prefix) bool { return p.Contains(ip) }) {
		return true
	}
	f.foreign.Add(1)
	return false
}

// run filters what t receives, until done is closed.
func (f *networkFilter) run(t *memberlist.NetTransport) {
	for {
		select {
		case p := <-t.PacketCh():
			if !f.allows(p.From) {
				continue
			}
			select {
			case f.packets <- p:
			case <-f.quit:
			}
		case c := <-t.StreamCh():
			if !f.allows(c.RemoteAddr()) {
				c.Close()
				continue
			}
			select {
			case f.streams <- c:
			case <-f.quit:
				c.Close()
			}
		case <-f.done:
			return
		}
	}
}

func (t *transport) PacketCh() <-chan *memberlist.Packet {
	if t.filter == nil {
		return t.NetTransport.PacketCh()
	}
	return t.filter.packets
}

func (t *transport) StreamCh() <-chan net.Conn {
	if t.filter == nil {
		return t.NetTransport.StreamCh()
	}
	return t.filter.streams
}

// Shutdown stops the transport and returns when it receives nothing any more.
func (t *transport) Shutdown() error {
	if t.filter == nil {
		return t.NetTransport.Shutdown()
	}
	close(t.filter.quit)
	err := t.NetTransport.Shutdown() // its listeners end when what they have received has been read
	close(t.filter.done)
	t.filter.wg.Wait()
	return err
}
