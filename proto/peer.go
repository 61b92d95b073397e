package proto

import (
	"errors"
	"fmt"
)

// MaxPeerBytes is the largest size of an encoded Peer or Report in bytes:
// memberlist carries no more as metadata of a member.
const MaxPeerBytes = 512

// ErrPeer is the error that every error of the codec of Peer and Report wraps.
var ErrPeer = errors.New("malformed gossip record")

// Role is the role of a member of the cluster.
type Role uint8

// The roles. Auth and broker members place sessions; nodes hold them.
const (
	RoleNode Role = iota + 1
	RoleAuth
	RoleBroker
)

// String returns "node", "auth" or "broker".
func (r Role) String() string {
	switch r {
	case RoleNode:
		return "node"
	case RoleAuth:
		return "auth"
	case RoleBroker:
		return "broker"
	}
	return fmt.Sprintf("role(%d)", uint8(r))
}

// Places reports whether members of the role place sessions, and therefore need
// the exact load of every node.
func (r Role) Places() bool { return r == RoleAuth || r == RoleBroker }

// NodeState says whether a node may get sessions.
type NodeState uint8

// The states of a node.
const (
	StateStarting NodeState = iota + 1 // has no address yet, or is not ready
	StateReady
	StateFull     // holds as many sessions as it may
	StateDraining // moves its sessions to other nodes and takes no new ones
)

// String returns "starting", "ready", "full" or "draining".
func (s NodeState) String() string {
	switch s {
	case StateStarting:
		return "starting"
	case StateReady:
		return "ready"
	case StateFull:
		return "full"
	case StateDraining:
		return "draining"
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// Peer is the description that a member sends of itself to every other member.
// It changes rarely; the exact load of a node travels as a Report.
type Peer struct {
	ID         string
	Role       Role
	State      NodeState // nodes only
	URL        string    // where clients attach; nodes only
	Region     string
	Pool       string
	Capacity   uint32 // number of sessions that the node may hold
	Live       uint32 // approximate number of sessions that the node holds
	Generation uint64 // differs between two starts of one member
	Version    string
	Issued     int64 // time of the signature (SignPeer), in seconds since the Unix epoch; 0 without one
}

// Report is the exact load of a node. The node sends it directly to each member
// that places sessions.
type Report struct {
	ID         string
	Generation uint64 // of the node that reports
	Seq        uint64 // rises with every report of a generation
	State      NodeState
	Capacity   uint32
	Live       uint32 // sessions held, attached or detached
	Attached   uint32
	// Arrived counts the sessions that arrived at the node since it started with a
	// token of the receiving member, ArrivedAll those with a token of any member.
	Arrived    uint64
	ArrivedAll uint64
	// LoadPenalty is the percentage, 0 to 100, by which the node asks for fewer
	// sessions than its capacity allows, because its application reports trouble
	// or its process does not keep up.
	LoadPenalty uint8
	// Drain is the progress of the node's drain; nil when it is not draining.
	Drain *Drain
}

// Tags of the fields of Peer and Report. The meaning of a tag never changes.
const (
	tagID byte = iota + 1
	tagRole
	tagState
	tagURL
	tagRegion
	tagPool
	tagCapacity
	tagLive
	tagGeneration
	tagVersion
	tagSeq
	tagAttached
	tagArrived
	tagArrivedAll
	tagDrainEnds // milliseconds since the epoch; a report without it has no Drain
	tagDrainTotal
	tagDrainRemaining
	tagDrainHeld
	tagDrainCut
	tagDrainKeep
	tagLoadPenalty
	tagIssued
	tagSignature // of all bytes before it; the last field
)

// AppendPeer appends the encoded peer. It fails with ErrPeer if the peer has no
// id or role, if a text is longer than 255 bytes or not UTF-8, or if the encoded
// peer is larger than MaxPeerBytes; it then returns b unchanged.
func AppendPeer(b []byte, p Peer) ([]byte, error) {
	if p.ID == "" || p.Role == 0 {
		return b, fmt.Errorf("%w: no id or role", ErrPeer)
	}
	w := recordWriter{b: append(b, recordVersion), start: len(b)}
	w.text(tagID, p.ID)
	w.number(tagRole, uint64(p.Role))
	w.number(tagState, uint64(p.State))
	w.text(tagURL, p.URL)
	w.text(tagRegion, p.Region)
	w.text(tagPool, p.Pool)
	w.number(tagCapacity, uint64(p.Capacity))
	w.number(tagLive, uint64(p.Live))
	w.number(tagGeneration, p.Generation)
	w.text(tagVersion, p.Version)
	w.number(tagIssued, uint64(max(p.Issued, 0)))
	return w.finish()
}

// ParsePeer decodes a peer. It fails with ErrPeer.
func ParsePeer(b []byte) (Peer, error) {
	var p Peer
	err := readRecord(b, func(tag byte, f field) {
		switch tag {
		case tagID:
			p.ID = f.text()
		case tagRole:
			p.Role = Role(f.number(255))
		case tagState:
			p.State = NodeState(f.number(255))
		case tagURL:
			p.URL = f.text()
		case tagRegion:
			p.Region = f.text()
		case tagPool:
			p.Pool = f.text()
		case tagCapacity:
			p.Capacity = uint32(f.number(maxUint32))
		case tagLive:
			p.Live = uint32(f.number(maxUint32))
		case tagGeneration:
			p.Generation = f.number(maxUint64)
		case tagVersion:
			p.Version = f.text()
		case tagIssued:
			p.Issued = int64(f.number(maxTime))
		}
	})
	if err == nil && (p.ID == "" || p.Role == 0) {
		err = fmt.Errorf("%w: no id or role", ErrPeer)
	}
	if err != nil {
		return Peer{}, err
	}
	return p, nil
}

// AppendReport appends the encoded report. It fails with ErrPeer, as AppendPeer
// does; a report needs an id only.
func AppendReport(b []byte, r Report) ([]byte, error) {
	if r.ID == "" {
		return b, fmt.Errorf("%w: no id", ErrPeer)
	}
	w := recordWriter{b: append(b, recordVersion), start: len(b)}
	w.text(tagID, r.ID)
	w.number(tagState, uint64(r.State))
	w.number(tagCapacity, uint64(r.Capacity))
	w.number(tagLive, uint64(r.Live))
	w.number(tagGeneration, r.Generation)
	w.number(tagSeq, r.Seq)
	w.number(tagAttached, uint64(r.Attached))
	w.number(tagArrived, r.Arrived)
	w.number(tagArrivedAll, r.ArrivedAll)
	w.number(tagLoadPenalty, uint64(min(r.LoadPenalty, 100)))
	if d := r.Drain; d != nil {
		w.number(tagDrainEnds, uint64(max(d.Deadline.UnixMilli(), 1)))
		w.number(tagDrainTotal, uint64(d.Total))
		w.number(tagDrainRemaining, uint64(d.Remaining))
		w.number(tagDrainHeld, uint64(d.Held))
		w.number(tagDrainCut, uint64(d.Cut))
		if d.Keep {
			w.number(tagDrainKeep, 1)
		}
	}
	return w.finish()
}

// ParseReport decodes a report. It fails with ErrPeer.
func ParseReport(b []byte) (Report, error) {
	var r Report
	var drain Drain
	err := readRecord(b, func(tag byte, f field) {
		switch tag {
		case tagID:
			r.ID = f.text()
		case tagState:
			r.State = NodeState(f.number(255))
		case tagCapacity:
			r.Capacity = uint32(f.number(maxUint32))
		case tagLive:
			r.Live = uint32(f.number(maxUint32))
		case tagGeneration:
			r.Generation = f.number(maxUint64)
		case tagSeq:
			r.Seq = f.number(maxUint64)
		case tagAttached:
			r.Attached = uint32(f.number(maxUint32))
		case tagArrived:
			r.Arrived = f.number(maxUint64)
		case tagArrivedAll:
			r.ArrivedAll = f.number(maxUint64)
		case tagLoadPenalty:
			r.LoadPenalty = uint8(f.number(100))
		default:
			drain.field(tag, f)
		}
	})
	if err == nil && r.ID == "" {
		err = fmt.Errorf("%w: no id", ErrPeer)
	}
	if err != nil {
		return Report{}, err
	}
	if !drain.Deadline.IsZero() {
		r.Drain = &drain
	}
	return r, nil
}
