package redis

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// bulkSize is how many script calls Renew and Save send together. Such a bulk takes
// one round trip and a few milliseconds of the server's time.
const bulkSize = 256

// Renew implements session.Store. Each record is one atomic step.
func (s *Store) Renew(ctx context.Context, records []session.Record, ttls []time.Duration) []error {
	return s.runAll(ctx, "renew", renewScript, len(records), func(i int) (string, []any, bool) {
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

// runAll runs the script for each of n sessions, in bulks. args returns the id of
// session i and the arguments that follow it. If args returns false, or the id is
// not valid, the error of the session is ErrNotFound.
func (s *Store) runAll(caller context.Context, op string, sc script, n int, args func(int) (string, []any, bool)) []error {
	errs := make([]error, n)
	for start := 0; start < n; start += bulkSize {
		b := bulk{store: s, script: sc, start: start, errs: errs[start:min(start+bulkSize, n)], args: args}
		err := s.do(caller, op, func(ctx context.Context) error { return b.run(ctx, caller, op) })
		if err == nil {
			continue
		}
		// Each further bulk would take a timeout as well. The caller repeats what
		// was not done now, at its next renewal or save.
		for i := range errs[start:] {
			errs[start+i] = err
		}
		break
	}
	return errs
}

// bulk is a number of calls of one script that are sent together.
type bulk struct {
	store  *Store
	script script
	start  int
	errs   []error
	args   func(int) (string, []any, bool)
	cmds   []*onceCmd // nil for a session that cannot exist
}

// run makes the calls and sets their errors. It returns an error only if none of
// them was answered: if one master of a cluster does not answer, the sessions of the
// other masters are still served.
func (b *bulk) run(ctx, caller context.Context, op string) error {
	b.send(ctx, caller)
	var failure error
	alive := false
	for i, cmd := range b.cmds {
		if cmd == nil {
			b.errs[i] = fmt.Errorf("%w: the record is incomplete, or its id is not valid", session.ErrNotFound)
			continue
		}
		err := replyError(cmd)
		if classify(caller, err) == answered {
			alive = true
		} else {
			failure = err
		}
		if err != nil && !isStoreAnswer(err) {
			err = fmt.Errorf("%w: %s: %w", session.ErrUnavailable, op, err)
		}
		b.errs[i] = err
	}
	if alive {
		return nil
	}
	return failure
}

// send sends the commands, and sets their replies or errors.
func (b *bulk) send(ctx, caller context.Context) {
	b.cmds = make([]*onceCmd, len(b.errs))
	pipe := b.store.client.Pipeline()
	for i := range b.cmds {
		if key, args, ok := b.command(i); ok {
			b.cmds[i] = b.script.cached(ctx, key, args)
			_ = pipe.Process(ctx, b.cmds[i])
		}
	}
	_, _ = pipe.Exec(ctx)

	// A server that did not have the script has executed nothing of its part of the
	// bulk. That part gets a timeout of its own, because another server of the
	// cluster may have used up the first one.
	ctx, cancel := context.WithTimeout(caller, b.store.timeout)
	defer cancel()
	for i, cmd := range b.cmds {
		if cmd != nil && isNoScript(cmd.Err()) {
			key, args, _ := b.command(i)
			b.cmds[i] = b.script.withSource(ctx, key, args)
			_ = pipe.Process(ctx, b.cmds[i])
		}
	}
	_, _ = pipe.Exec(ctx)
}

// command returns the key and the arguments of call i.
func (b *bulk) command(i int) (key string, args []any, ok bool) {
	id, args, ok := b.args(b.start + i)
	tag, valid := session.TagOf(id)
	if !ok || !valid {
		return "", nil, false
	}
	return sessionKey(tag, id), append([]any{id}, args...), true
}

// replyError returns the error of a call: that of the command, or that of the
// outcome in its reply.
func replyError(cmd *onceCmd) error {
	reply, err := cmd.Slice()
	if err != nil {
		return err
	}
	_, err = parseReply("", reply)
	return err
}
