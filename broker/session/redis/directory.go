package redis

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// Create implements session.Store.
func (s *Store) Create(ctx context.Context, request string, r session.Record, rule session.Rule, ttl time.Duration) (session.Record, []session.Record, error) {
	if err := session.CheckNew(r); err != nil {
		return session.Record{}, nil, err
	}
	args := append([]any{
		request, r.Pool, max(rule.Sessions, 0), flag(rule.Refuse), int(rule.Reason), rule.CloseReason, milliseconds(rule.TTL),
		"node", r.Node, "stream", r.Stream,
	}, fields(r)...)
	var ended []session.Record
	keys := append(recordKeys(r.ID), userKey(r.User))
	made, err := s.step(ctx, "create", createScript, keys, r.ID, ttl, args, func(extra any) (err error) {
		ended, err = recordList(extra)
		return err
	})
	if err == nil && made.ID == "" {
		made = newRecord(r, made.Created)
	}
	s.release(ctx, ended...)
	return made, ended, err
}

// newRecord returns the record that create.lua has written for r.
func newRecord(r session.Record, at time.Time) session.Record {
	return session.Record{
		ID: r.ID, User: r.User, Node: r.Node, Epoch: 1, State: session.Assigned, Stream: r.Stream,
		Pool: r.Pool, Region: r.Region, Group: r.Group, Fallback: r.Fallback, Strict: r.Strict, Ext: r.Ext,
		Created: at, Changed: at,
	}
}

// Get implements session.Store.
func (s *Store) Get(ctx context.Context, id string) (session.Record, error) {
	tag, ok := session.TagOf(id)
	if !ok {
		return session.Record{}, session.ErrNotFound
	}
	var r session.Record
	err := s.do(ctx, "get", func(ctx context.Context) error {
		cmd := newCommand(ctx, "hgetall", sessionKey(tag, id))
		_ = s.client.Process(ctx, cmd) // cmd has the error
		hash, err := cmd.Slice()
		if err != nil {
			return err
		}
		if len(hash) == 0 {
			return session.ErrNotFound
		}
		if r, err = record(id, hash); err != nil {
			return fmt.Errorf("%w: %w", errCorrupt, err)
		}
		if r.State == session.Ended {
			return session.ErrEnded
		}
		return nil
	})
	return r, err
}

// Reassign implements session.Store.
func (s *Store) Reassign(ctx context.Context, request string, seen session.Record, node string, ttl time.Duration) (session.Record, error) {
	if node == "" || seen.Epoch == math.MaxUint64 {
		return session.Record{}, fmt.Errorf("%w: reassign to node %q at epoch %d: the node must not be empty, and the epoch must be below %d",
			session.ErrInvalid, node, seen.Epoch, uint64(math.MaxUint64))
	}
	changed := strconv.FormatInt(seen.Changed.UnixMicro(), 10)
	return s.transition(ctx, "reassign", reassignScript, seen.ID, ttl,
		request, formatEpoch(seen.Epoch), formatEpoch(seen.Epoch+1), node, string(seen.State), seen.Stream, changed)
}

// clearLimit bounds the sessions that one run of a script removes from an index.
const clearLimit = 256

// Sessions implements session.Store. It also removes expired sessions from the
// index. If they are many it runs the script several times; the last run reads the
// list, in one atomic step.
func (s *Store) Sessions(ctx context.Context, user string, limit int) ([]session.Record, error) {
	if limit <= 0 || user == "" {
		return nil, nil
	}
	var list []session.Record
	err := s.do(ctx, "sessions", func(ctx context.Context) error {
		for {
			reply, err := s.run(ctx, sessionsScript, []string{userKey(user)}, []any{limit, clearLimit}).Slice()
			if err != nil {
				return err
			}
			complete, records, err := sessionList(reply)
			if err != nil {
				return fmt.Errorf("%w: %w", errCorrupt, err)
			}
			if complete {
				list = records
				return nil
			}
		}
	})
	return list, err
}

// Prove implements session.Store.
func (s *Store) Prove(ctx context.Context, id string, proof uint64) error {
	_, err := s.transition(ctx, "prove", proveScript, id, 0, proof)
	return err
}

// End implements session.Store.
func (s *Store) End(ctx context.Context, id string, epoch uint64, reason session.Reason, closeReason string, ttl time.Duration) (session.Record, error) {
	r, err := s.transition(ctx, "end", endScript, id, ttl, int(reason), closeReason, formatEpoch(epoch))
	if err == nil {
		s.release(ctx, r)
	}
	return r, err
}

// EndUser implements session.Store. It runs the script several times if the user has
// very many sessions; sessions that are created meanwhile end as well.
func (s *Store) EndUser(ctx context.Context, user string, reason session.Reason, closeReason string, ttl time.Duration) ([]session.Record, error) {
	if user == "" {
		return nil, nil
	}
	var ended []session.Record
	err := s.do(ctx, "enduser", func(ctx context.Context) error {
		for {
			args := []any{int(reason), closeReason, milliseconds(ttl), clearLimit}
			reply, err := s.run(ctx, endUserScript, []string{userKey(user)}, args).Slice()
			if err != nil {
				return err
			}
			complete, records, err := sessionList(reply)
			if err != nil {
				return fmt.Errorf("%w: %w", errCorrupt, err)
			}
			ended = append(ended, records...)
			if complete {
				return nil
			}
		}
	})
	s.release(ctx, ended...)
	return ended, err
}
