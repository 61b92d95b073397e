package broker

import (
	"testing"
	"time"
)

// TestPace checks that a broker ticks quickly while there is work, and rests without.
func TestPace(t *testing.T) {
	p := &pace{wake: make(chan struct{}, 1)}
	p.stir()
	if wait, wake := p.next(restTick); wait != tick || wake != nil {
		t.Fatalf("after work: %v, wakes %v", wait, wake != nil)
	}
	ticks := 1
	for ; ; ticks++ {
		wait, wake := p.next(restTick)
		if wait == tick {
			continue
		}
		if wait != restTick || wake == nil {
			t.Fatalf("at rest: %v, wakes %v", wait, wake != nil)
		}
		break
	}
	if ticks != workTicks {
		t.Errorf("rests after %d ticks, want %d", ticks, workTicks)
	}
	if wait, _ := p.next(300 * time.Millisecond); wait != 300*time.Millisecond {
		t.Errorf("waits %v for a probe that is due after 300ms", wait)
	}
	for _, due := range []time.Duration{-time.Second, 0, time.Millisecond} { // many nodes, or more probes than may run
		if wait, _ := p.next(due); wait != tick {
			t.Errorf("waits %v for a probe that is due after %v, want %v", wait, due, tick)
		}
	}
	_, wake := p.next(restTick)
	<-wake // of the first work; it had no effect so far
	p.stir()
	p.stir()
	select {
	case <-wake:
	default:
		t.Error("work does not end the rest")
	}
	if wait, _ := p.next(restTick); wait != tick {
		t.Errorf("after a rest: %v", wait)
	}
}
