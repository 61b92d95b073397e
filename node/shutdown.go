package node

import (
	"context"

	"github.com/usher-broker/usher/proto"
)

// Shutdown persists the stream of every session, closes its connection with
// going_away, and waits until all goroutines of the node have ended or ctx ends; then
// it returns the cause of ctx. It neither asks clients to leave nor waits for
// sessions that the application holds: call Drain first for that. The clients resume
// at another node, or at the next start of this one, and no message is lost whose
// stream the store could persist. Keep serving the handler during Shutdown: it sends
// arriving clients to another node. Handshakes after it are refused. Sessions that
// the application has ended are ended in the store before Shutdown returns.
func (n *Node) Shutdown(ctx context.Context) error {
	defer n.closeDrained()
	n.draining.Store(true)
	n.noteLoad()
	n.stopOnce.Do(func() { close(n.stopping) })
	attempts := n.persistAll(ctx, n.all())
	// Before the waits, which a callback that does not return makes long: an end that
	// the store does not know may keep its user out.
	_ = n.renewer.sendEnds(ctx) // flushEnds below repeats what failed
	n.awaitPersisted(ctx, attempts...)
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.logStuck("session leaves without its stream: a callback of the application, or a move, has not finished", attempts)
	for _, s := range n.all() {
		n.endUnpersisted(s)
	}
	n.drainingConns.Range(func(c, _ any) bool {
		c.(*conn).endDraining()
		return true
	})
	n.stallGuard.close()
	n.mu.Lock()
	n.ended = true
	n.mu.Unlock()
	n.releaseOnce.Do(n.wg.Done)
	if err := n.renewer.flushEnds(ctx); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		n.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return n.renewer.flushEnds(ctx) // ends of callbacks that ran meanwhile
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// endUnpersisted ends a session that Shutdown could not persist in time.
func (n *Node) endUnpersisted(s *Session) {
	n.mu.RLock()
	a := n.persisting[s]
	n.mu.RUnlock()
	result := "failed"
	if a != nil && a.isStuck() {
		result = "busy"
	}
	if n.end(s, proto.CloseGoingAway, "", !n.cfg.Checkpoint) { // output without a checkpoint must not go out
		n.metrics.persisted.WithLabelValues(result).Inc()
	}
}
