package node

import (
	"context"

	"github.com/usher-broker/usher/proto"
)

// Shutdown lays every session's stream down in the store, closes its connection
// as going away, and waits until all goroutines of the node have ended, or ctx
// does. It does not ask and does not wait for the application: Drain does, before.
// The clients are sent to another node, or to the next start of this one,
// and resume there: nothing is lost that the store could take. Meanwhile the
// handler must go on being served: those who come are told where to go.
// Handshakes that come after it are refused.
func (n *Node) Shutdown(ctx context.Context) error {
	n.draining.Store(true)
	n.stop.Do(func() { close(n.stopping) })
	n.parkAll(ctx, n.all())
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	for _, s := range n.all() {
		n.end(s, proto.CloseGoingAway, "", true)
	}
	n.lingering.Range(func(c, _ any) bool {
		c.(*conn).linger()
		return true
	})
	n.fence.close()
	n.mu.Lock()
	n.ended = true
	n.mu.Unlock()
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
