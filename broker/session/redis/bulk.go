package redis

import (
	"context"
	"fmt"

	"github.com/usher-broker/usher/broker/session"
)

// bulkSize is how many script calls Renew, Save and EndAll send together. Such a bulk takes
// one round trip and a few milliseconds of the server's time.
const bulkSize = 256

// runAll makes n calls of the script, in bulks. call returns the keys and the arguments
// of call i; if there are no keys, the error of the call is ErrNotFound. read returns
// the error that a reply stands for.
func (s *Store) runAll(caller context.Context, op string, sc script, n int, call func(int) ([]string, []any), read func(int, []any) error) []error {
	errs := make([]error, n)
	for start := 0; start < n; start += bulkSize {
		b := bulk{store: s, script: sc, start: start, errs: errs[start:min(start+bulkSize, n)], call: call, read: read}
		err := s.do(caller, op, func(ctx context.Context) error { return b.run(ctx, caller, op) })
		if err == nil {
			continue
		}
		// Each further bulk would take a timeout as well. The caller repeats what
		// was not done now, at its next renewal, save or end.
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
	call   func(int) ([]string, []any)
	read   func(int, []any) error
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
		reply, err := cmd.Slice()
		if err == nil {
			err = b.read(b.start+i, reply)
		}
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
		if keys, args := b.call(b.start + i); keys != nil {
			b.cmds[i] = b.script.cached(ctx, keys, args)
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
			keys, args := b.call(b.start + i)
			b.cmds[i] = b.script.withSource(ctx, keys, args)
			_ = pipe.Process(ctx, b.cmds[i])
		}
	}
	_, _ = pipe.Exec(ctx)
}
