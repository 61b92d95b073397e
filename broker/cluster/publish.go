package cluster

import (
	"time"

	"github.com/usher-broker/usher/proto"
)

const (
	pollInterval   = reportSpacing / 2     // so that a poll a little early does not halve the rate
	reportInterval = time.Second           // between reports, when nothing happens
	reportSpacing  = 50 * time.Millisecond // between reports, whatever happens
	reportMove     = 100                   // a report is due when the load moved by 1/100 of capacity
	metaInterval   = 10 * time.Second      // between changes of metadata
	metaMove       = 10                    // they are due when the load moved by 1/10 of capacity
	signInterval   = time.Hour             // between signatures of metadata that does not change
)

// standing is what a node has to publish.
type standing struct {
	state proto.NodeState
	live  uint32
}

func (s standing) moved(from standing, capacity, part uint32) bool {
	d := uint64(max(s.live, from.live) - min(s.live, from.live))
	return d > 0 && d*uint64(part) >= uint64(capacity)
}

// publisher decides what a node publishes when. The zero value with metaAt and
// published set has sent no report.
type publisher struct {
	capacity uint32
	signs    bool

	published standing // as metadata
	metaAt    time.Time

	reported   standing
	reportedAt time.Time
	observers  uint64 // as of the last report
}

// due says whether a report and whether metadata are due, and takes it that
// they are published then. observers changes when there is a new one.
func (p *publisher) due(now time.Time, s standing, observers uint64) (report, meta bool) {
	since := now.Sub(p.reportedAt)
	news := s.state != p.reported.state || s.moved(p.reported, p.capacity, reportMove) || observers != p.observers
	if report = since >= reportInterval || news && since >= reportSpacing; report {
		p.reported, p.reportedAt, p.observers = s, now, observers
	}
	changed := s.state != p.published.state
	// What happens seldom in a node's life need not wait: nobody is hurt by it.
	once := changed && (p.published.state == proto.StateStarting || s.state == proto.StateDraining || p.published.state == proto.StateDraining)
	changed = changed || s.moved(p.published, p.capacity, metaMove)
	since = now.Sub(p.metaAt)
	if meta = once || changed && since >= metaInterval || p.signs && since >= signInterval; meta {
		p.published, p.metaAt = s, now
	}
	return report, meta
}
