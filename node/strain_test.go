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
	r := newRig(t, Echo{}, func(c *Config) { c.Strain = func() int { return int(says.Load()) } })
	for value, want := range map[int32]uint8{0: 0, 40: 40, 100: 100, 500: 100, -3: 0} {
		says.Store(value)
		eventually(t, func() error {
			// A machine that is slow may add to it.
			if got := r.node.Strain(); got != want && !(got > want && got <= maxLagStrain) {
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
		late := n.strain.late
		late(1900 * time.Millisecond)
		if s := n.lagStrain(); s != 0 {
			t.Errorf("one hiccup: %d", s)
		}
		for range 100 {
			late(2 * time.Second)
		}
		if s := n.lagStrain(); s != maxLagStrain {
			t.Errorf("late all the time: %d", s)
		}
		for range 100 {
			late(0)
		}
		if s := n.lagStrain(); s != 0 {
			t.Errorf("well again: %d", s)
		}
		ctx, stop := context.WithCancel(t.Context())
		go n.watchStrain(ctx)
		time.Sleep(time.Minute) // on this clock no timer is ever late
		if s := n.Strain(); s != 0 {
			t.Errorf("on time: %d", s)
		}
		stop()
	})
}
