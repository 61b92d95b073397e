package redis

import (
	"context"
	"fmt"
	"math"
	"strconv"

	"github.com/usher-broker/usher/broker/session"
)

// Save implements session.Store. Each save is one atomic step.
func (s *Store) Save(ctx context.Context, list []session.Saved) []error {
	return s.runAll(ctx, "save", saveScript, len(list), func(i int) ([]string, []any) {
		v := list[i]
		return recordKeys(v.ID), []any{
			v.ID, milliseconds(v.TTL), v.Node, formatEpoch(v.Epoch), v.Stream, v.State, formatSeq(v.Seq), flag(v.Leave),
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
		request, v.Node, formatEpoch(v.Epoch), formatEpoch(v.Epoch+1), to, v.Stream, v.State, formatSeq(v.Seq))
}

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
