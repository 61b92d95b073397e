package cluster

import (
	"time"

	"github.com/usher-broker/usher/proto"
)

const (
	pollInterval   = reportSpacing / 2     // half, so that a poll that comes slightly early does not halve the rate
	reportInterval = time.Second           // between reports without changes
	reportSpacing  = 50 * time.Millisecond // least time between reports
	reportMove     = 100                   // a report is due when the load has changed by 1/100 of capacity
	metaInterval   = 10 * time.Second      // least time between changes of metadata
	metaMove       = 10                    // metadata is due when the load has changed by 1/10 of capacity
	signInterval   = time.Hour             // between signatures of unchanged metadata
)

// nodeLoad is what a node publishes.
type nodeLoad struct {
	state proto.NodeState
	live  uint32
}

func (s nodeLoad) moved(from nodeLoad, capacity, part uint32) bool {
	d := uint64(max(s.live, from.live) - min(s.live, from.live))
	return d > 0 && d*uint64(part) >= uint64(capacity)
}

// publisher decides what a node publishes, and when. The zero value with metaAt
// and published set has sent no report.
type publisher struct {
	capacity uint32
	signs    bool

	published nodeLoad // as metadata
	metaAt    time.Time

	reported   nodeLoad
	reportedAt time.Time
	observers  uint64 // as of the last report
}

// due returns whether a report and whether metadata are due, and records them as
// published. observers changes when a new observer joins.
func (p *publisher) due(now time.Time, s nodeLoad, observers uint64) (report, meta bool) {
	since := now.Sub(p.reportedAt)
	news := s.state != p.reported.state || s.moved(p.reported, p.capacity, reportMove) || observers != p.observers
	if report = since >= reportInterval || news && since >= reportSpacing; report {
		p.reported, p.reportedAt, p.observers = s, now, observers
	}
	changed := s.state != p.published.state
	// These changes are rare in the life of a node, so they need not wait.
	once := changed && (p.published.state == proto.StateStarting || s.state == proto.StateDraining || p.published.state == proto.StateDraining)
	changed = changed || s.moved(p.published, p.capacity, metaMove)
	since = now.Sub(p.metaAt)
	if meta = once || changed && since >= metaInterval || p.signs && since >= signInterval; meta {
		p.published, p.metaAt = s, now
	}
	return report, meta
}
