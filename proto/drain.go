package proto

import "time"

// DrainRequest is the body of PUT /v1/nodes/{id}/drain on the private API. A
// zero field stands for the value that the node was started with.
type DrainRequest struct {
	WindowMS  int64 `json:"window_ms,omitempty"`  // time over which the node asks its clients to leave
	TimeoutMS int64 `json:"timeout_ms,omitempty"` // time after which the node closes the remaining connections
	Keep      bool  `json:"keep,omitempty"`       // the process does not end when the node is empty
}

// Drain is the progress of a drain.
type Drain struct {
	Total     uint32    `json:"total"`     // sessions held when the drain began
	Remaining uint32    `json:"remaining"` // sessions held now, later ones included
	Held      uint32    `json:"held"`      // remaining sessions that the application holds back
	Cut       uint32    `json:"cut"`       // connections closed at the deadline
	Deadline  time.Time `json:"deadline"`
	Keep      bool      `json:"keep"` // as in DrainRequest
}

// field sets the member of d that the field of a Report has.
func (d *Drain) field(tag byte, f field) {
	switch tag {
	case tagDrainEnds:
		if ms := f.number(maxUint64 >> 1); ms > 0 {
			d.Deadline = time.UnixMilli(int64(ms))
		}
	case tagDrainTotal:
		d.Total = uint32(f.number(maxUint32))
	case tagDrainRemaining:
		d.Remaining = uint32(f.number(maxUint32))
	case tagDrainHeld:
		d.Held = uint32(f.number(maxUint32))
	case tagDrainCut:
		d.Cut = uint32(f.number(maxUint32))
	case tagDrainKeep:
		d.Keep = f.number(1) == 1
	}
}
