package redis

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// connect returns the client for the target. It does not dial: the first call does,
// and every later call that finds no open connection.
//
// The client does not retry. The caller decides whether there is time for another
// try, and a transition without a request id must not be made twice. A call that a
// Redis Cluster redirects has not been executed, so it is sent again.
func connect(t target, timeout time.Duration) goredis.UniversalClient {
	var tlsConfig *tls.Config
	if t.tls {
		tlsConfig = &tls.Config{MinVersion: tls.VersionTLS12} // go-redis verifies the name of the host
	}
	switch t.kind {
	case "sentinel":
		return goredis.NewFailoverClient(&goredis.FailoverOptions{
			MasterName: t.master, SentinelAddrs: t.addrs,
			SentinelUsername: t.sentinelUser, SentinelPassword: t.sentinelPassword,
			Username: t.user, Password: t.password, DB: t.db, TLSConfig: tlsConfig,
			ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1,
			DialTimeout: timeout, ReadTimeout: timeout, WriteTimeout: timeout, PoolTimeout: timeout,
			PoolSize: t.conns, MaxActiveConns: t.conns, PipelinePoolSize: -1,
			Protocol: 2, DisableIdentity: true,
		})
	case "cluster":
		return goredis.NewClusterClient(&goredis.ClusterOptions{
			Addrs: t.addrs, Username: t.user, Password: t.password, TLSConfig: tlsConfig,
			ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1,
			DialTimeout: timeout, ReadTimeout: timeout, WriteTimeout: timeout, PoolTimeout: timeout,
			PoolSize: t.conns, MaxActiveConns: t.conns, PipelinePoolSize: -1,
			Protocol: 2, DisableIdentity: true, DisableRoutingPolicies: true,
			// A master that has died sends no redirection to its successor, so
			// the client must ask for the map of the slots regularly.
			ClusterStateReloadInterval: time.Second,
			MaintNotificationsConfig:   &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
	}
	return goredis.NewClient(&goredis.Options{
		Addr: t.addrs[0], Username: t.user, Password: t.password, DB: t.db, TLSConfig: tlsConfig,
		ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1,
		DialTimeout: timeout, ReadTimeout: timeout, WriteTimeout: timeout, PoolTimeout: timeout,
		PoolSize: t.conns, MaxActiveConns: t.conns, PipelinePoolSize: -1,
		Protocol: 2, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// onceCmd is a command that is not sent again once it may have been executed.
// The client of a Redis Cluster repeats other commands that fail after they were
// sent, whatever its MaxRetries.
type onceCmd struct {
	*goredis.Cmd
	answered bool
}

func newCommand(ctx context.Context, args ...any) *onceCmd {
	return &onceCmd{Cmd: goredis.NewCmd(ctx, args...)}
}

// NoRetry makes go-redis send the command only once. A command that was redirected
// has not been executed, and is sent again all the same.
func (*onceCmd) NoRetry() bool { return true }

// SetErr does not overwrite an answer. If one master does not answer its part of a
// pipeline in time, the client of a Redis Cluster sets that error on all commands of
// the pipeline.
func (c *onceCmd) SetErr(err error) {
	if c.answered {
		return
	}
	c.answered = err == nil
	c.Cmd.SetErr(err)
}

// clientLog writes the log of go-redis at debug level. go-redis has one log for the
// process, by default the standard error stream. The calls return the errors that
// matter, so the log is needed for debugging only.
type clientLog struct{ log *slog.Logger }

func (l clientLog) Printf(ctx context.Context, format string, v ...any) {
	if l.log.Enabled(ctx, slog.LevelDebug) {
		l.log.DebugContext(ctx, "redis client", "message", fmt.Sprintf(format, v...))
	}
}
