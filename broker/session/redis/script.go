package redis

import (
	"context"
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/usher-broker/usher/broker/session"
)

// script is a Lua script. Redis executes it atomically: no other command runs
// meanwhile. The caller passes every key that it knows beforehand in KEYS. All keys of
// a script have the tag of KEYS[1], so that they are in one slot; the comment at the
// top of a script lists the keys that it finds itself.
type script struct{ source, sha string }

var (
	//go:embed record.lua
	recordLua string
	//go:embed create.lua
	createLua string
	//go:embed reassign.lua
	reassignLua string
	//go:embed attach.lua
	attachLua string
	//go:embed prove.lua
	proveLua string
	//go:embed renew.lua
	renewLua string
	//go:embed move.lua
	moveLua string
	//go:embed save.lua
	saveLua string
	//go:embed restore.lua
	restoreLua string
	//go:embed finish.lua
	finishLua string
	//go:embed end.lua
	endLua string
	//go:embed enduser.lua
	endUserLua string
	//go:embed sessions.lua
	sessionsLua string
	//go:embed group.lua
	groupLua string
	//go:embed ungroup.lua
	ungroupLua string
	//go:embed queue.lua
	queueLua string
	//go:embed wait.lua
	waitLua string
	//go:embed admit.lua
	admitLua string
)

var (
	createScript   = newScript(recordLua + finishLua + createLua)
	reassignScript = newScript(recordLua + reassignLua)
	attachScript   = newScript(recordLua + attachLua)
	proveScript    = newScript(recordLua + proveLua)
	renewScript    = newScript(recordLua + renewLua)
	moveScript     = newScript(recordLua + moveLua)
	saveScript     = newScript(recordLua + saveLua)
	restoreScript  = newScript(recordLua + restoreLua)
	endScript      = newScript(recordLua + finishLua + endLua)
	endUserScript  = newScript(finishLua + endUserLua)
	sessionsScript = newScript(sessionsLua)
	groupScript    = newScript(groupLua)
	ungroupScript  = newScript(ungroupLua)
	waitScript     = newScript(queueLua + waitLua)
	admitScript    = newScript(queueLua + admitLua)
)

func newScript(source string) script {
	sum := sha1.Sum([]byte(source)) // by which Redis identifies it
	return script{source: source, sha: hex.EncodeToString(sum[:])}
}

// cached returns the command that runs the script if the server has it. A server
// that was restarted, or that is new in the cluster, answers NOSCRIPT.
func (s script) cached(ctx context.Context, keys []string, args []any) *onceCmd {
	return s.command(ctx, "evalsha", s.sha, keys, args)
}

// withSource returns the command that sends the source of the script and runs it.
func (s script) withSource(ctx context.Context, keys []string, args []any) *onceCmd {
	return s.command(ctx, "eval", s.source, keys, args)
}

func (script) command(ctx context.Context, name, what string, keys []string, args []any) *onceCmd {
	all := make([]any, 0, 3+len(keys)+len(args))
	all = append(all, name, what, len(keys))
	for _, key := range keys {
		all = append(all, key)
	}
	return newCommand(ctx, append(all, args...)...)
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

// isNoScript reports whether the server did not have the script, and so executed
// nothing.
func isNoScript(err error) bool { return goredis.HasErrorPrefix(err, "NOSCRIPT") }
