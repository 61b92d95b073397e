package redis

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// Restore implements session.Store.
func (s *Store) Restore(ctx context.Context, l session.Lease) (session.Record, session.StoredState, error) {
	var found session.StoredState
	args := []any{l.Node, formatEpoch(l.Epoch), l.Instance}
	r, err := s.step(ctx, "restore", restoreScript, recordKeys(l.ID), l.ID, 0, args, func(extra any) error {
		list, _ := extra.([]any)
		if len(list) != 3 {
			return fmt.Errorf("stored state of %d values, want 3", len(list))
		}
		var text [3]string
		for i := range list {
			text[i], _ = list[i].(string)
		}
		seq, err := strconv.ParseUint(text[2], 10, 64)
		found = session.StoredState{Stream: text[0], State: []byte(text[1]), Seq: seq}
		return err
	})
	return r, found, err
}

// Attach implements session.Store.
func (s *Store) Attach(ctx context.Context, l session.Lease, stream string, take bool, proof uint64, ttl time.Duration) (session.Record, error) {
	return s.transition(ctx, "attach", attachScript, l.ID, ttl, l.Node, formatEpoch(l.Epoch), stream, flag(take), l.Instance, proof)
}

// Renew implements session.Store. Each record is one atomic step.
func (s *Store) Renew(ctx context.Context, records []session.Record, ttls []time.Duration) []error {
	return s.runAll(ctx, "renew", renewScript, len(records), func(i int) ([]string, []any) {
		r := records[i]
		if !session.Renewable(r) {
			return nil, nil
		}
		return append(recordKeys(r.ID), userKey(r.User)), append([]any{
			r.ID, milliseconds(ttls[i]), r.Node, formatEpoch(r.Epoch), string(r.State), r.Stream, flag(r.Leaving),
			"created", strconv.FormatInt(r.Created.UnixMicro(), 10),
		}, fields(r)...)
	}, readOutcome)
}

// Save implements session.Store. Each save is one atomic step.
func (s *Store) Save(ctx context.Context, list []session.Saved) []error {
	return s.runAll(ctx, "save", saveScript, len(list), func(i int) ([]string, []any) {
		v := list[i]
		return recordKeys(v.ID), []any{
			v.ID, milliseconds(v.TTL), v.Node, formatEpoch(v.Epoch), v.Stream, v.State, formatSeq(v.Seq), flag(v.Leave), v.Instance,
		}
	}, readOutcome)
}

func formatSeq(seq uint64) string { return strconv.FormatUint(seq, 10) }

// Move implements session.Store.
func (s *Store) Move(ctx context.Context, request string, v session.Saved, to string) (session.Record, error) {
	if to == "" || v.Epoch == math.MaxUint64 {
		return session.Record{}, fmt.Errorf("%w: move to node %q at epoch %d: the node must not be empty, and the epoch must be below %d",
			session.ErrInvalid, to, v.Epoch, uint64(math.MaxUint64))
	}
	return s.transition(ctx, "move", moveScript, v.ID, v.TTL,
		request, v.Node, formatEpoch(v.Epoch), formatEpoch(v.Epoch+1), to, v.Stream, v.State, formatSeq(v.Seq), v.Instance)
}

// EndAll implements session.Store. Each session is one atomic step. Their groups
// follow in further bulks, as in End.
func (s *Store) EndAll(ctx context.Context, list []session.Ending, ttl time.Duration) []error {
	type member struct{ group, id string }
	var members []member
	errs := s.runAll(ctx, "endall", endScript, len(list), func(i int) ([]string, []any) {
		e := list[i]
		return recordKeys(e.ID), []any{e.ID, milliseconds(ttl), int(e.Reason), "", formatEpoch(e.Epoch)}
	}, func(i int, reply []any) error {
		r, err := parseReply(list[i].ID, reply)
		if group := r.GroupKey(); err == nil && group != "" {
			members = append(members, member{group, r.ID})
		}
		return err
	})
	_ = s.runAll(ctx, "ungroup", ungroupScript, len(members), func(i int) ([]string, []any) {
		return groupKeys(members[i].group), []any{members[i].id}
	}, func(int, []any) error { return nil }) // see release
	return errs
}

// readOutcome reads a reply that is an outcome alone.
func readOutcome(_ int, reply []any) error {
	_, err := parseReply("", reply)
	return err
}
