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

// Shutdown lays every session's stream down in the store, closes its connection
// as going away, and waits until all goroutines of the node have ended, or ctx
// does. The clients are sent to another node, or to the next start of this one,
// and resume there: nothing is lost that the store could take. Meanwhile the
// handler must go on being served: those who come are told where to go.
// Handshakes that come after it are refused.
func (n *Node) Shutdown(ctx context.Context) error {
	n.Drain()
	n.parkAll(ctx)
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
