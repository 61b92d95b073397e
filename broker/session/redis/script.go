package redis

import (
	"context"
	"crypto/sha1"
	_ "embed"
	"encoding/hex"

	goredis "github.com/redis/go-redis/v9"
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

// isNoScript reports whether the server did not have the script, and so executed
// nothing.
func isNoScript(err error) bool { return goredis.HasErrorPrefix(err, "NOSCRIPT") }
