package proto

import "time"

// DrainRequest is the body of PUT /v1/nodes/{id}/drain on the private API. Zero
// fields are what the node was started with.
type DrainRequest struct {
	WindowMS  int64 `json:"window_ms,omitempty"`  // over which sessions are asked to leave
	TimeoutMS int64 `json:"timeout_ms,omitempty"` // after which those that have not are cut
	Keep      bool  `json:"keep,omitempty"`       // the process does not end when the last has left
}

// Drain is how far a node that gives its sessions away has come.
type Drain struct {
	Total     uint32    `json:"total"`     // sessions held when it began
	Remaining uint32    `json:"remaining"` // of those and of later ones
	Held      uint32    `json:"held"`      // of the remaining, those the application holds back
	Cut       uint32    `json:"cut"`       // closed at the deadline
	Deadline  time.Time `json:"deadline"`
	Keep      bool      `json:"keep"`
}

// field takes in a field of a Report.
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
