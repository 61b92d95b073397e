package redis

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// renewBatch is how many renewals travel together. A batch takes one round
// trip and some milliseconds of the server's time.
const renewBatch = 256

// Renew implements session.Store. Each record is one atomic step.
func (s *Store) Renew(caller context.Context, records []session.Record, ttls []time.Duration) []error {
	errs := make([]error, len(records))
	for start := 0; start < len(records); start += renewBatch {
		end := min(start+renewBatch, len(records))
		err := s.do(caller, "renew", func(ctx context.Context) error {
			return s.renew(ctx, caller, records[start:end], ttls[start:end], errs[start:end])
		})
		if err == nil {
			continue
		}
		// To try each further batch would take a timeout each, and what was
		// not renewed now is renewed at the next occasion.
		for i := range errs[start:] {
			errs[start+i] = err
		}
		break
	}
	return errs
}

// renew renews a batch and sets the errors of its records. It returns an error
// if there was no answer for any: in a cluster of which one master is away, the
// sessions of the others are renewed.
func (s *Store) renew(ctx, caller context.Context, records []session.Record, ttls []time.Duration, errs []error) error {
	cmds := s.send(ctx, caller, records, ttls)
	var failure error
	alive := false
	for i, r := range records {
		if cmds[i] == nil {
			errs[i] = fmt.Errorf("%w: not the record of a session that could be renewed", session.ErrNotFound)
			continue
		}
		errs[i] = renewed(r.ID, cmds[i])
		if judge(caller, errs[i]) == answered {
			alive = true
		} else {
			failure = errs[i]
		}
		if errs[i] != nil && !sentinel(errs[i]) {
			errs[i] = fmt.Errorf("%w: renew: %w", session.ErrUnavailable, errs[i])
		}
	}
	if alive {
		return nil
	}
	return failure
}

// send sends a batch and returns the commands, which have the replies or
// errors, nil for what cannot be renewed.
func (s *Store) send(ctx, caller context.Context, records []session.Record, ttls []time.Duration) []*once {
	cmds := make([]*once, len(records))
	pipe := s.client.Pipeline()
	for i, r := range records {
		if session.Renewable(r) {
			key, args := renewal(r, ttls[i])
			cmds[i] = renewScript.cached(ctx, key, args)
			_ = pipe.Process(ctx, cmds[i])
		}
	}
	_, _ = pipe.Exec(ctx)

	// A server without the script did nothing for its part of the batch. It
	// gets time of its own: in a cluster another may have used up all of it.
	ctx, cancel := context.WithTimeout(caller, s.timeout)
	defer cancel()
	for i, r := range records {
		if cmds[i] != nil && unknown(cmds[i].Err()) {
			key, args := renewal(r, ttls[i])
			cmds[i] = renewScript.whole(ctx, key, args)
			_ = pipe.Process(ctx, cmds[i])
		}
	}
	_, _ = pipe.Exec(ctx)
	return cmds
}

// renewal returns the key and the arguments of the script.
func renewal(r session.Record, ttl time.Duration) (key string, args []any) {
	tag, _ := session.TagOf(r.ID) // Renewable has seen to it
	args = append([]any{
		r.ID, milliseconds(ttl), r.Node, formatEpoch(r.Epoch), string(r.State), r.Stream,
		"created", strconv.FormatInt(r.Created.UnixMicro(), 10),
	}, fields(r)...)
	return sessionKey(tag, r.ID), args
}

// renewed returns how a renewal went.
func renewed(id string, cmd *once) error {
	reply, err := cmd.Slice()
	if err != nil {
		return err
	}
	_, err = outcomeOf(id, reply)
	return err
}
