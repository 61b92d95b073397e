package node

import (
	"container/heap"
	"iter"
	"maps"
	"time"

	"github.com/usher-broker/usher/node/internal/lock"
)

// drainQueue holds the sessions that a drain is to ask to leave. It is empty while
// there is no drain. It may hold sessions that need not be asked any more: whoever
// takes a session looks at it. Session.mu and Node.mu are locked before mu.
type drainQueue struct {
	wake chan struct{} // has a value when Node.runGoAways has something to do

	mu      lock.Mutex[lock.Leaf]
	started bool
	// An entry of these lists counts only if inDrain of the session says that it is
	// there.
	ready   []*Session // may be asked
	slots   []*Session // wait for a slot to be persisted
	retries retryList  // were asked a moment ago
}

// drainPlace says where in the drainQueue a session is.
type drainPlace uint8

const (
	notInDrain drainPlace = iota
	drainReady
	drainSlot
	drainRetry
)

// retryEntry is a session that is to be asked again, and when.
type retryEntry struct {
	session *Session
	at      instant
}

// signal wakes Node.runGoAways.
func (q *drainQueue) signal() { signal(q.wake) }

// start fills the queue with the sessions.
func (q *drainQueue) start(sessions iter.Seq[*Session]) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.clear()
	q.started = true
	for s := range sessions {
		s.inDrain = drainReady
		q.ready = append(q.ready, s)
	}
	q.signal()
}

// stop empties the queue.
func (q *drainQueue) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.clear()
	q.started = false
	q.signal()
}

// restart fills the queue of a drain that is still the one of the node with all
// sessions.
func (q *drainQueue) restart(d *drain, n *Node) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.drain == d {
		q.start(maps.Values(n.sessions))
	}
}

// clear empties the lists. q.mu is held.
func (q *drainQueue) clear() {
	for _, s := range q.ready {
		s.inDrain = notInDrain
	}
	for _, s := range q.slots {
		s.inDrain = notInDrain
	}
	for _, r := range q.retries {
		r.session.inDrain = notInDrain
	}
	q.ready, q.slots, q.retries = nil, nil, nil
}

// add makes the session ready, because something about it has changed. It does nothing
// while there is no drain.
func (q *drainQueue) add(s *Session) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.started || s.inDrain == drainReady {
		return
	}
	s.inDrain = drainReady
	q.ready = append(q.ready, s)
	q.signal()
}

// retry makes the session ready at the given time, unless it is in the queue already.
func (q *drainQueue) retry(s *Session, at instant) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.started && s.inDrain == notInDrain {
		s.inDrain = drainRetry
		heap.Push(&q.retries, retryEntry{s, at})
	}
}

// awaitSlot makes the session wait for a free slot, unless it is in the queue already.
func (q *drainQueue) awaitSlot(s *Session) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.started && s.inDrain == notInDrain {
		s.inDrain = drainSlot
		q.slots = append(q.slots, s)
	}
}

// readyDue makes the sessions ready whose time has come.
func (q *drainQueue) readyDue(now instant) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.retries) > 0 && q.retries[0].at <= now {
		r := heap.Pop(&q.retries).(retryEntry)
		if r.session.inDrain == drainRetry {
			r.session.inDrain = drainReady
			q.ready = append(q.ready, r.session)
		}
	}
}

// nextRetry returns how long it takes until the next session becomes ready by itself.
func (q *drainQueue) nextRetry(now instant) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.retries) == 0 {
		return forever
	}
	return min(time.Duration(q.retries[0].at-now), goAwayRetry) // less, unless the clock was set back
}

// take removes and returns the next session that is ready, or nil. With slot, those
// that wait for a slot come first.
func (q *drainQueue) take(slot bool) *Session {
	q.mu.Lock()
	defer q.mu.Unlock()
	if slot {
		if s := takeFirst(&q.slots, drainSlot); s != nil {
			return s
		}
	}
	return takeFirst(&q.ready, drainReady)
}

// takeFirst removes and returns the first session of the list that is at the place.
func takeFirst(list *[]*Session, place drainPlace) *Session {
	for len(*list) > 0 {
		s := (*list)[0]
		(*list)[0] = nil
		if *list = (*list)[1:]; s.inDrain == place {
			s.inDrain = notInDrain
			return s
		}
	}
	*list = nil // releases the memory of the old entries
	return nil
}

// retryList implements heap.Interface.
type retryList []retryEntry

func (l retryList) Len() int           { return len(l) }
func (l retryList) Less(i, j int) bool { return l[i].at < l[j].at }
func (l retryList) Swap(i, j int)      { l[i], l[j] = l[j], l[i] }
func (l *retryList) Push(x any)        { *l = append(*l, x.(retryEntry)) }

func (l *retryList) Pop() any {
	last := len(*l) - 1
	e := (*l)[last]
	*l = (*l)[:last]
	return e
}

// departed records that a move is over, or that the connection of a session that has
// moved is closed. A drain waits for both.
func (n *Node) departed() {
	n.departing.Add(-1)
	n.drainQueue.signal()
}

// noteLast wakes the drain when the last session has left. The caller holds n.mu.
func (n *Node) noteLast() {
	if len(n.sessions) == 0 {
		n.drainQueue.signal()
	}
}

// mayRebalance reports whether a rebalance may ask the session to leave, now or a
// moment later. All sessions of a group stay on one node. The caller holds s.mu.
func (s *Session) mayRebalance() bool {
	return s.conn != nil && s.group == "" && s.leaving == 0 && !s.held && s.phase < moving
}

// idleHeap holds the sessions that a rebalance may ask to leave, by their last use.
// The use that it has recorded may be out of date, because messages do not change the
// heap: longestIdle corrects it for the sessions that it looks at. The zero value is
// empty. Session.mu is locked before mu.
type idleHeap struct {
	mu   lock.Mutex[lock.Leaf]
	list idleList
}

// heapPlace is what an idleHeap knows about a session.
type heapPlace struct {
	used  instant // the recorded last use
	index int     // in the heap, from 1 on; 0 if the session is not in it
}

// set records the last use of the session if it is a member of the heap, and removes
// it otherwise.
func (h *idleHeap) set(s *Session, used instant, member bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := &s.inIdleHeap
	switch {
	case member && p.index == 0:
		p.used = used
		heap.Push(&h.list, s)
	case member:
		p.used = used
		heap.Fix(&h.list, p.index-1)
	case p.index != 0:
		heap.Remove(&h.list, p.index-1)
	}
}

// first returns the session with the earliest recorded use, or nil, and that use.
func (h *idleHeap) first() (*Session, instant) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.list) == 0 {
		return nil, 0
	}
	return h.list[0], h.list[0].inIdleHeap.used
}

// idleList implements heap.Interface.
type idleList []*Session

func (l idleList) Len() int { return len(l) }

func (l idleList) Less(i, j int) bool { return l[i].inIdleHeap.used < l[j].inIdleHeap.used }

func (l idleList) Swap(i, j int) {
	l[i], l[j] = l[j], l[i]
	l[i].inIdleHeap.index, l[j].inIdleHeap.index = i+1, j+1
}

func (l *idleList) Push(x any) {
	s := x.(*Session)
	*l = append(*l, s)
	s.inIdleHeap.index = len(*l)
}

func (l *idleList) Pop() any {
	last := len(*l) - 1
	s := (*l)[last]
	(*l)[last] = nil
	*l = (*l)[:last]
	s.inIdleHeap.index = 0
	return s
}
