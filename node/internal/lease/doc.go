// Package lease keeps the leases of a node: it renews them in the store, ends them
// there, stores checkpoints for the next owner, and holds messages back after the
// process did not run for a while. It knows no sessions and no connections: a Lease is
// an id with an epoch, and its Owner provides the record and the checkpoint to store,
// and is notified when the lease is lost.
//
// A Keeper works in the background, in batches, so a slow or unavailable store delays
// no session. It repeats what the store has not confirmed.
//
// # Locks
//
// The order is: the lock of an Owner, Keeper.mu, then one of the locks that protect a
// single part: that of the wheel, of a checkpoint shard, of the stall guard. The Keeper
// holds no lock while it calls an Owner or the Store. So an Owner may call Add, Remove,
// Changed, End, Confirm and Checkpoint with its own lock held.
//
// # An empty node
//
// A Keeper without leases has nothing to do, and hardly wakes up: it asks the store
// every idleInterval, and the stall guard rests.
//
// The stall guard may rest because a stall only matters to a lease: while the process
// does not run, another node can take over a lease that this one holds. A node that
// holds none has nothing to lose, so the age of its last beat says nothing. The beats
// begin with the first lease. An acquisition must count as well, because the store may
// have granted the lease before the process stopped, and another node may have taken it
// over before the process continued and called Add. This is why the caller of the
// store's Attach calls Acquiring before: from then on the time since the last beat
// counts, and a lease that was added after the stall was examined is examined too.
package lease
