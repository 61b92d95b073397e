package node

// LoadChanged returns a channel on which a value arrives after a change of what Load
// returns: a session was added or has ended, or a drain has begun or ended. Several
// changes may arrive as one value. The channel is for one receiver.
func (n *Node) LoadChanged() <-chan struct{} { return n.loadChanged }

// noteLoad records a change of the load. It does not block.
func (n *Node) noteLoad() {
	select {
	case n.loadChanged <- struct{}{}:
	default: // the receiver has not looked since the last change
	}
}
