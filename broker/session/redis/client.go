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

// connect returns the client for the target. It does not dial: that is done
// by the first call, and again by whichever call finds no connection.
//
// Nothing is tried twice: the caller decides whether it has the time, and a
// transition without a request id must not act twice. A call that is redirected
// within a Redis Cluster has not acted.
func connect(t target, timeout time.Duration) goredis.UniversalClient {
	var tlsConfig *tls.Config
	if t.tls {
		tlsConfig = &tls.Config{MinVersion: tls.VersionTLS12} // the name to verify is the host's
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
			// A master that died answers nobody, so no redirection tells of its
			// successor: the map must be asked for.
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

// once is a command that is not sent again after it may have been executed.
// Without it the client of a Redis Cluster repeats what failed half-way,
// whatever its MaxRetries.
type once struct {
	*goredis.Cmd
	answered bool
}

func newCommand(ctx context.Context, args ...any) *once {
	return &once{Cmd: goredis.NewCmd(ctx, args...)}
}

// NoRetry is asked before a command is sent again. One that was redirected has
// not been executed and is sent again all the same.
func (*once) NoRetry() bool { return true }

// SetErr keeps an answer: when one master does not answer for its part of a
// pipeline in time, the client of a Redis Cluster gives its error to all.
func (o *once) SetErr(err error) {
	if o.answered {
		return
	}
	o.answered = err == nil
	o.Cmd.SetErr(err)
}

// clientLog passes on what go-redis says. It has one log for the whole
// process, by default the standard error stream; the errors that matter come
// back from the calls as well, so this is for debugging.
type clientLog struct{ log *slog.Logger }

func (l clientLog) Printf(ctx context.Context, format string, v ...any) {
	if l.log.Enabled(ctx, slog.LevelDebug) {
		l.log.DebugContext(ctx, "redis client", "message", fmt.Sprintf(format, v...))
	}
}
