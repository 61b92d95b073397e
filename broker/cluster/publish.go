package cluster

import (
	"time"

	"github.com/usher-broker/usher/proto"
)

const (
	stepInterval   = reportSpacing / 2     // least time between looks at a load that keeps changing
	reportInterval = time.Second           // between reports without changes
	reportSpacing  = 50 * time.Millisecond // least time between reports
	reportMove     = 100                   // a report is due when the load has changed by 1/100 of capacity
	metaInterval   = 10 * time.Second      // least time between changes of metadata
	metaMove       = 10                    // metadata is due when the load has changed by 1/10 of capacity
	signInterval   = time.Hour             // between signatures of unchanged metadata
	never          = 100 * 365 * 24 * time.Hour
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
	if report = !now.Before(p.reportDue(s, observers)); report {
		p.reported, p.reportedAt, p.observers = s, now, observers
	}
	if meta = p.urgent(s) || !now.Before(p.metaDue(s)); meta {
		p.published, p.metaAt = s, now
	}
	return report, meta
}

// next returns when a report or metadata will be due if nothing changes. It is for the
// time after due, which has published what is urgent.
func (p *publisher) next(s nodeLoad, observers uint64) time.Time {
	at := p.reportDue(s, observers)
	if meta := p.metaDue(s); meta.Before(at) {
		at = meta
	}
	return at
}

// reportDue returns when a report of the load is due.
func (p *publisher) reportDue(s nodeLoad, observers uint64) time.Time {
	if s.state != p.reported.state || s.moved(p.reported, p.capacity, reportMove) || observers != p.observers {
		return p.reportedAt.Add(reportSpacing)
	}
	return p.reportedAt.Add(reportInterval)
}

// metaDue returns when metadata with the load is due, unless it is urgent.
func (p *publisher) metaDue(s nodeLoad) time.Time {
	switch {
	case s.state != p.published.state, s.moved(p.published, p.capacity, metaMove):
		return p.metaAt.Add(metaInterval)
	case p.signs:
		return p.metaAt.Add(signInterval)
	}
	return p.metaAt.Add(never)
}

// urgent reports whether metadata is due at once. These changes are rare in the life of
// a node.
func (p *publisher) urgent(s nodeLoad) bool {
	return s.state != p.published.state &&
		(p.published.state == proto.StateStarting || s.state == proto.StateDraining || p.published.state == proto.StateDraining)
}
