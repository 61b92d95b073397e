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

// Attach implements session.Store.
func (s *Store) Attach(ctx context.Context, l session.Lease, stream string, take bool, proof uint64, ttl time.Duration) (session.Record, error) {
	return s.transition(ctx, "attach", attachScript, l.ID, ttl, l.Node, formatEpoch(l.Epoch), stream, flag(take), l.Instance, proof)
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

// transition runs a script on the record with the id.
func (s *Store) transition(ctx context.Context, op string, sc script, id string, ttl time.Duration, args ...any) (session.Record, error) {
	return s.step(ctx, op, sc, recordKeys(id), id, ttl, args, func(any) error { return nil })
}

// step does what transition does, with the keys, which are nil if the id is not valid,
// and for a script whose reply may have a third element. It passes that element to more.
func (s *Store) step(ctx context.Context, op string, sc script, keys []string, id string, ttl time.Duration, args []any, more func(any) error) (session.Record, error) {
	if keys == nil {
		return session.Record{}, session.ErrNotFound
	}
	args = append([]any{id, milliseconds(ttl)}, args...)
	var r session.Record
	err := s.do(ctx, op, func(ctx context.Context) error {
		reply, err := s.run(ctx, sc, keys, args).Slice()
		if err != nil {
			return err
		}
		if r, err = parseReply(id, reply); err != nil || len(reply) < 3 {
			return err
		}
		if err := more(reply[2]); err != nil {
			return fmt.Errorf("%w: record %s: %w", errCorrupt, id, err)
		}
		return nil
	})
	return r, err
}

// run runs the script. If the server does not have the script, run sends its source.
func (s *Store) run(ctx context.Context, sc script, keys []string, args []any) *onceCmd {
	cmd := sc.cached(ctx, keys, args)
	err := s.batches.process(ctx, cmd)
	if isNoScript(err) {
		cmd = sc.withSource(ctx, keys, args)
		err = s.batches.process(ctx, cmd)
	}
	if err != nil && ctx.Err() != nil { // a batch may still use cmd
		cmd = newCommand(ctx)
		cmd.SetErr(err)
	}
	return cmd
}

// madeAt returns a record that has only its time of creation.
func madeAt(reply any) (session.Record, error) {
	text, _ := reply.(string)
	t, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return session.Record{}, fmt.Errorf("%w: time of creation %q", errCorrupt, text)
	}
	return session.Record{Created: time.UnixMicro(t)}, nil
}

// parseReply reads the reply of a script: an outcome and, for most outcomes, a
// record.
func parseReply(id string, reply []any) (session.Record, error) {
	if len(reply) == 0 {
		return session.Record{}, fmt.Errorf("%w: empty reply", errCorrupt)
	}
	var answer error
	switch name, _ := reply[0].(string); name {
	case "ok":
	case "made":
		return madeAt(reply[1])
	case "absent":
		return session.Record{}, session.ErrNotFound
	case "exists":
		return session.Record{}, session.ErrExists
	case "connected":
		return session.Record{}, session.ErrConnected
	case "ended":
		answer = session.ErrEnded
	case "moved":
		answer = session.ErrMoved
	case "replayed":
		answer = session.ErrReplayed
	default:
		return session.Record{}, fmt.Errorf("%w: record %s: unknown outcome %q", errCorrupt, id, name)
	}
	if len(reply) == 1 {
		return session.Record{}, answer
	}
	hash, _ := reply[1].([]any)
	r, err := record(id, hash)
	if err != nil {
		return session.Record{}, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	return r, answer
}
