package cluster

import "sync/atomic"

// Health is how a member fares. Counts are since Join.
type Health struct {
	Members int // live ones, this one included
	// Joined says whether this member has ever been with another, or had
	// nobody to join: no seeds, or none but itself.
	Joined    bool
	LastError error // of the latest attempt to join; nil when it went well
	// Score is 0 while this member keeps up with gossip and rises, up to 7,
	// when it is slow.
	Score int

	ReportsSent     uint64
	ReportsReceived uint64
	SendsFailed     uint64 // messages that could not be sent

	Calls       uint64
	CallsFailed uint64
	CallRetries uint64
	LateAnswers uint64 // answers that no call waited for

	Served     uint64 // commands carried out
	Duplicates uint64 // commands that had been carried out, or were being
	Overloads  uint64 // commands dropped because too many were being carried out

	BadMembers  uint64 // metadata that was not understood
	BadMessages uint64 // messages that were not understood
	Strangers   uint64 // reports and commands of members that are unknown, or whose role has none
	Conflicts   uint64 // claims to the id of another live member
	Foreign     uint64 // packets and connections from networks that members do not gossip from
	Warnings    uint64 // of memberlist: undecryptable, foreign label, lost packets
}

type counts struct {
	reportsSent, reports, sendsFailed             atomic.Uint64
	calls, callsFailed, retries, lateAnswers      atomic.Uint64
	served, duplicates, overloads                 atomic.Uint64
	badMembers, badMessages, strangers, conflicts atomic.Uint64
	warnings, foreign                             atomic.Uint64
}

// Health returns how this member fares.
func (c *Cluster) Health() Health {
	c.mu.Lock()
	members := len(c.members)
	c.mu.Unlock()
	h := Health{
		Members: members,
		// The others may have come first.
		Joined: c.joined.Load() || members > 1,
		Score:  c.list.GetHealthScore(),

		ReportsSent: c.counts.reportsSent.Load(), ReportsReceived: c.counts.reports.Load(), SendsFailed: c.counts.sendsFailed.Load(),
		Calls: c.counts.calls.Load(), CallsFailed: c.counts.callsFailed.Load(), CallRetries: c.counts.retries.Load(), LateAnswers: c.counts.lateAnswers.Load(),
		Served: c.counts.served.Load(), Duplicates: c.counts.duplicates.Load(), Overloads: c.counts.overloads.Load(),
		BadMembers: c.counts.badMembers.Load(), BadMessages: c.counts.badMessages.Load(), Strangers: c.counts.strangers.Load(),
		Conflicts: c.counts.conflicts.Load(), Warnings: c.counts.warnings.Load(), Foreign: c.counts.foreign.Load(),
	}
	if err := c.joinError.Load(); err != nil {
		h.LastError = *err
	}
	return h
}
