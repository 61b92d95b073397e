package redis

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// batch is how many steps travel together. It takes one round trip and some
// milliseconds of the server's time.
const batch = 256

// Renew implements session.Store. Each record is one atomic step.
func (s *Store) Renew(ctx context.Context, records []session.Record, ttls []time.Duration) []error {
	return s.each(ctx, "renew", renewScript, len(records), func(i int) (string, []any, bool) {
		r := records[i]
		if !session.Renewable(r) {
			return "", nil, false
		}
		return r.ID, append([]any{
			milliseconds(ttls[i]), r.Node, formatEpoch(r.Epoch), string(r.State), r.Stream, flag(r.Leaving),
			"created", strconv.FormatInt(r.Created.UnixMicro(), 10),
		}, fields(r)...), true
	})
}

// each runs the script for each of n sessions, in batches. args returns the id
// and the arguments that follow it, or that it cannot be: then the error is
// ErrNotFound.
func (s *Store) each(caller context.Context, op string, sc script, n int, args func(int) (string, []any, bool)) []error {
	errs := make([]error, n)
	for start := 0; start < n; start += batch {
		b := steps{store: s, script: sc, start: start, errs: errs[start:min(start+batch, n)], args: args}
		err := s.do(caller, op, func(ctx context.Context) error { return b.run(ctx, caller, op) })
		if err == nil {
			continue
		}
		// To try each further batch would take a timeout each, and what was
		// not done now is done at the next occasion.
		for i := range errs[start:] {
			errs[start+i] = err
		}
		break
	}
	return errs
}

// steps are those that travel together.
type steps struct {
	store  *Store
	script script
	start  int
	errs   []error
	args   func(int) (string, []any, bool)
	cmds   []*once // nil for what cannot be
}

// run takes the steps and sets their errors. It returns an error if there was
// no answer for any: in a cluster of which one master is away, the sessions of
// the others are served.
func (b *steps) run(ctx, caller context.Context, op string) error {
	b.send(ctx, caller)
	var failure error
	alive := false
	for i, cmd := range b.cmds {
		if cmd == nil {
			b.errs[i] = fmt.Errorf("%w: not a session that could be", session.ErrNotFound)
			continue
		}
		err := wordOf(cmd)
		if judge(caller, err) == answered {
			alive = true
		} else {
			failure = err
		}
		if err != nil && !sentinel(err) {
			err = fmt.Errorf("%w: %s: %w", session.ErrUnavailable, op, err)
		}
		b.errs[i] = err
	}
	if alive {
		return nil
	}
	return failure
}

// send sends the commands, which have the replies or errors then.
func (b *steps) send(ctx, caller context.Context) {
	b.cmds = make([]*once, len(b.errs))
	pipe := b.store.client.Pipeline()
	for i := range b.cmds {
		if key, args, ok := b.command(i); ok {
			b.cmds[i] = b.script.cached(ctx, key, args)
			_ = pipe.Process(ctx, b.cmds[i])
		}
	}
	_, _ = pipe.Exec(ctx)

	// A server without the script did nothing for its part of the batch. It
	// gets time of its own: in a cluster another may have used up all of it.
	ctx, cancel := context.WithTimeout(caller, b.store.timeout)
	defer cancel()
	for i, cmd := range b.cmds {
		if cmd != nil && unknown(cmd.Err()) {
			key, args, _ := b.command(i)
			b.cmds[i] = b.script.whole(ctx, key, args)
			_ = pipe.Process(ctx, b.cmds[i])
		}
	}
	_, _ = pipe.Exec(ctx)
}

// command returns the key and the arguments of a step.
func (b *steps) command(i int) (key string, args []any, ok bool) {
	id, args, ok := b.args(b.start + i)
	tag, valid := session.TagOf(id)
	if !ok || !valid {
		return "", nil, false
	}
	return sessionKey(tag, id), append([]any{id}, args...), true
}

// wordOf returns how a step went.
func wordOf(cmd *once) error {
	reply, err := cmd.Slice()
	if err != nil {
		return err
	}
	_, err = outcomeOf("", reply)
	return err
}
