package node

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A node says what its application says, within bounds.
func TestStrainOfTheApplication(t *testing.T) {
	var says atomic.Int32
	r := newRig(t, Echo{}, func(c *Config) { c.LoadPenalty = func() int { return int(says.Load()) } })
	for value, want := range map[int32]uint8{0: 0, 40: 40, 100: 100, 500: 100, -3: 0} {
		says.Store(value)
		eventually(t, func() error {
			// A machine that is slow may add to it.
			if got := r.node.LoadPenalty(); got != want && !(got > want && got <= maxLagPenalty) {
				return fmt.Errorf("strain %d, want %d", got, want)
			}
			return nil
		})
	}
}

// Timers that fire late are the node's own strain, and one of them is not.
func TestStrainOfTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Node{}
		late := n.penalty.late
		late(1900 * time.Millisecond)
		if s := n.lagPenalty(); s != 0 {
			t.Errorf("one hiccup: %d", s)
		}
		for range 100 {
			late(2 * time.Second)
		}
		if s := n.lagPenalty(); s != maxLagPenalty {
			t.Errorf("late all the time: %d", s)
		}
		for range 100 {
			late(0)
		}
		if s := n.lagPenalty(); s != 0 {
			t.Errorf("well again: %d", s)
		}
		ctx, stop := context.WithCancel(t.Context())
		go n.watchLoadPenalty(ctx)
		time.Sleep(time.Minute) // on this clock no timer is ever late
		if s := n.LoadPenalty(); s != 0 {
			t.Errorf("on time: %d", s)
		}
		stop()
	})
}
