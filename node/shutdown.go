package node

import (
	"context"

	"github.com/usher-broker/usher/proto"
)

// Drain stops the node from taking sessions: State is StateDraining from now
// on, and whoever comes is told to go elsewhere.
func (n *Node) Drain() {
	n.draining.Store(true)
}

// Shutdown closes every connection as going away and waits until all
// goroutines of the node have ended, or ctx does. Handshakes that come later
// are refused. The sessions stay in the
// store: their clients are sent to another node.
func (n *Node) Shutdown(ctx context.Context) error {
	n.Drain()
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	for _, s := range n.all() {
		n.end(s, proto.CloseGoingAway, "", true)
	}
	n.release.Do(n.goes.Done)
	done := make(chan struct{})
	go func() {
		n.goes.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
