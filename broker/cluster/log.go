package cluster

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Anyone who can reach the port can make memberlist log warnings. At most
// warningsLogged are logged per warningsPeriod; the rest is counted.
const (
	warningsLogged = 10
	warningsPeriod = 10 * time.Second
)

// logBridge writes the log lines of memberlist to slog: warnings and errors as
// warnings, all others as debug.
type logBridge struct {
	log      *slog.Logger
	warnings *atomic.Uint64

	mu      sync.Mutex
	since   time.Time
	logged  int
	dropped int
}

func (b *logBridge) Write(line []byte) (int, error) {
	level, text := slog.LevelDebug, bytes.TrimSpace(line)
	for _, prefix := range []string{"[WARN] ", "[ERR] ", "Err: ", "[DEBUG] ", "[INFO] "} {
		rest, ok := bytes.CutPrefix(text, []byte(prefix))
		if !ok {
			continue
		}
		text = bytes.TrimPrefix(rest, []byte("memberlist: "))
		if prefix != "[DEBUG] " && prefix != "[INFO] " {
			level = slog.LevelWarn
			b.warnings.Add(1)
		}
		break
	}
	if !b.log.Enabled(context.Background(), level) {
		return len(line), nil
	}
	dropped, ok := b.allow(level, time.Now())
	if !ok {
		return len(line), nil
	}
	var more []any
	if dropped > 0 {
		more = []any{"dropped", dropped}
	}
	b.log.Log(context.Background(), level, "memberlist: "+string(text), more...)
	return len(line), nil
}

func (b *logBridge) allow(level slog.Level, now time.Time) (dropped int, ok bool) {
	if level < slog.LevelWarn {
		return 0, true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Sub(b.since) >= warningsPeriod {
		b.since, b.logged = now, 0
	}
	if b.logged >= warningsLogged {
		b.dropped++
		return 0, false
	}
	b.logged++
	dropped, b.dropped = b.dropped, 0
	return dropped, true
}
