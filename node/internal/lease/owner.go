package lease

import (
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// Owner is the side that holds a lease. The Keeper calls it without a lock of its own,
// and concurrently for different leases; Record may also run concurrently with the
// other methods for the same lease. After Keeper.Remove or Keeper.End each method may
// still be called once, by a renewal or a checkpoint that had begun before.
type Owner interface {
	// Record returns what the store should know at the given time, and the ttl of the
	// record. When the result changes, call Keeper.Changed.
	Record(now time.Time) (session.Record, time.Duration)

	// Lost is called once, when the store says that this node no longer has the
	// lease: err wraps session.ErrEnded, and r has the reason and the close reason if
	// the store still knew them; or err wraps session.ErrMoved. The session must have
	// stopped passing messages when Lost returns. Then the Keeper removes the lease;
	// until then renewals and the stall guard wait, so Lost must be quick, and must
	// not call Keeper.Renew.
	Lost(err error, r session.Record)

	// Checkpoint builds what is to be stored now. It must contain everything that
	// happened before the call. The calls for one lease, and those of the Commit or
	// Failed that belongs to them, follow one another.
	Checkpoint() (Checkpoint, CheckpointStatus)
}

// Checkpoint is what a lease wants to be stored for the next owner.
type Checkpoint struct {
	Saved  session.Saved
	Commit func() // called when Saved is stored
	// Failed is called if the store did not take Saved. The Keeper then asks for another
	// checkpoint, and the Owner must know that one is due: it may answer CheckpointBusy.
	Failed func()
}

// CheckpointStatus is the outcome of Owner.Checkpoint.
type CheckpointStatus int

const (
	// CheckpointNothing: there is nothing to store, because the session has ended, is
	// frozen, or has no snapshot.
	CheckpointNothing CheckpointStatus = iota
	// CheckpointReady: the checkpoint is to be stored.
	CheckpointReady
	// CheckpointBusy: the checkpoint cannot be built now, because a callback of the
	// application runs. The Owner calls Keeper.Checkpoint again when it has returned.
	CheckpointBusy
)
