package node

import (
	"slices"
	"testing"
	"time"
)

// Acknowledgements come due in order. When the wall clock is set back, those in the
// queue are due at once and do not hold up the ones behind them.
func TestAckQueue(t *testing.T) {
	a := newAckQueue()
	early, late := &conn{}, &conn{}
	now := at(time.Now())
	check := func(now instant, wait time.Duration, want ...*conn) {
		t.Helper()
		due, next := a.takeDue(now)
		var got []*conn
		for _, d := range due {
			got = append(got, d.conn)
		}
		if !slices.Equal(got, want) || next != wait {
			t.Errorf("%d of %d are due, the next one in %v, want in %v", len(got), len(want), next, wait)
		}
	}
	a.add(early, now+instant(ackDelay))
	a.add(late, now+instant(ackDelay+ackDelay/2))
	check(now, ackDelay)
	check(now+instant(ackDelay), ackDelay/2, early)
	back := now - instant(time.Hour)
	a.add(early, back+instant(ackDelay))
	check(back, ackDelay, late)
	check(back+instant(ackDelay), time.Hour, early)
}
