package vectors_test

import (
	"testing"

	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/vectors"
)

// client implements section 13 of PROTOCOL.md literally.
type client struct {
	ceiling  int64 // of the last wait, in ms
	failures int   // failed attempts to attach since the last welcome or assignment
	since    int64 // when the last connection ended, or auth named the node, in ms
}

func (c *client) on(e vectors.BackoffStep) (wait int64, next string) {
	next = vectors.NextReconnect
	switch e.Event {
	case vectors.EventWelcome:
		c.failures = 0
		return 0, ""
	case vectors.EventReconnected:
		c.failures, c.since = 0, e.AtMS
		return 0, vectors.NextAttach
	case vectors.EventReconnectRefused:
		return 0, vectors.NextStop
	case vectors.EventEnded:
		if e.AttachedMS >= 10_000 {
			c.ceiling = 0
		}
		c.since = e.AtMS
		next = c.nextStep(e)
	case vectors.EventAttachFailed:
		c.failures++
		next = c.nextStep(e)
	}
	if next == vectors.NextStop {
		return 0, next
	}
	c.ceiling = max(100, min(2*c.ceiling, 20_000), min(e.HintMS, 60_000))
	return int64(e.Draw * float64(c.ceiling)), next
}

// nextStep returns where the client connects after the event.
func (c *client) nextStep(e vectors.BackoffStep) string {
	switch e.Code.Action() {
	case proto.ActionStop, proto.ActionApp:
		return vectors.NextStop
	case proto.ActionReconnect:
		return vectors.NextReconnect
	}
	if c.failures >= 3 || e.AtMS-c.since >= 10_000 {
		return vectors.NextReconnect
	}
	return vectors.NextAttach
}

func TestBackoffs(t *testing.T) {
	for _, v := range vectors.Backoffs() {
		t.Run(v.Name, func(t *testing.T) {
			c := &client{}
			for i, e := range v.Steps {
				if wait, next := c.on(e); wait != e.WaitMS || next != e.Next {
					t.Errorf("step %d, %s: wait %d, then %q; want %d, %q", i, e.Event, wait, next, e.WaitMS, e.Next)
				}
			}
		})
	}
}
