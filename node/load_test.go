package node

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A node reports the load penalty of its application, limited to 0 to 100.
func TestLoadPenaltyOfApp(t *testing.T) {
	var appPenalty atomic.Int32
	r := newRig(t, Echo{}, func(c *Config) { c.LoadPenalty = func() int { return int(appPenalty.Load()) } })
	for value, want := range map[int32]uint8{0: 0, 40: 40, 100: 100, 500: 100, -3: 0} {
		appPenalty.Store(value)
		eventually(t, func() error {
			// A slow machine may add to it.
			if got := r.node.LoadPenalty(); got != want && !(got > want && got <= maxLagPenalty) {
				return fmt.Errorf("load penalty %d, want %d", got, want)
			}
			return nil
		})
	}
}

// Timers that fire late add to the node's own load penalty; a single late timer does
// not.
func TestLoadPenaltyOfProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Node{}
		late := func(d time.Duration) { n.penalty.addLag(d, lagInterval) }
		late(1900 * time.Millisecond)
		if s := n.lagPenalty(); s != 0 {
			t.Errorf("one late timer: load penalty %d", s)
		}
		for range 100 {
			late(2 * time.Second)
		}
		if s := n.lagPenalty(); s != maxLagPenalty {
			t.Errorf("late timers: load penalty %d", s)
		}
		for range 100 {
			late(0)
		}
		if s := n.lagPenalty(); s != 0 {
			t.Errorf("timers on time again: load penalty %d", s)
		}
		n.penalty.lag.Store(0)
		n.penalty.addLag(2*time.Second, lagIntervalEmpty)
		long := n.penalty.lag.Swap(0)
		for range lagIntervalEmpty / lagInterval {
			late(2 * time.Second)
		}
		if short := n.penalty.lag.Swap(0); long != short {
			t.Errorf("a long interval gives a lag of %v, as many short ones of %v", time.Duration(long), time.Duration(short))
		}
		ctx, stop := context.WithCancel(t.Context())
		go n.watchLoadPenalty(ctx)
		time.Sleep(time.Minute) // with this clock no timer is ever late
		if s := n.LoadPenalty(); s != 0 {
			t.Errorf("timers on time: load penalty %d", s)
		}
		stop()
	})
}
