package cluster

import "sync/atomic"

// Health is the state of this member. Counts are since Join.
type Health struct {
	Members int // live ones, this one included
	// Joined says whether this member has ever been in contact with another, or
	// had none to join: Config.Join is empty or names only this member.
	Joined    bool
	LastError error // of the latest attempt to join; nil if it succeeded
	// Score is 0 while this member keeps up with gossip, and rises up to 7 when
	// it is slow.
	Score int

	ReportsSent     uint64
	ReportsReceived uint64
	SendsFailed     uint64 // messages that could not be sent

	Calls       uint64
	CallsFailed uint64
	CallRetries uint64
	LateAnswers uint64 // answers that no call waited for

	Served     uint64 // commands executed
	Duplicates uint64 // repeated commands, not executed again
	Overloads  uint64 // commands dropped because too many were being executed

	BadMembers  uint64 // invalid metadata
	BadMessages uint64 // malformed messages
	Strangers   uint64 // reports and commands of unknown members, or of members whose role may not send them
	Conflicts   uint64 // messages of members that use the id of another live member
	Foreign     uint64 // packets and connections from outside Config.Networks
	Warnings    uint64 // warnings of memberlist: decryption failed, other label, lost packets
}

type counts struct {
	reportsSent, reports, sendsFailed             atomic.Uint64
	calls, callsFailed, retries, lateAnswers      atomic.Uint64
	served, duplicates, overloads                 atomic.Uint64
	badMembers, badMessages, strangers, conflicts atomic.Uint64
	warnings, foreign                             atomic.Uint64
}

// Health returns the state of this member.
func (c *Cluster) Health() Health {
	c.mu.Lock()
	members := len(c.members)
	c.mu.Unlock()
	h := Health{
		Members: members,
		// Another member may have joined through this one.
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
