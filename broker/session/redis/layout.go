package redis

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/usher-broker/usher/broker/session"
)

// The layout is the names of the keys and what they hold. A program of another layout
// would not see the sessions that exist, and open others beside them. So the key
// layoutKey names the version of the layout, and a store that finds another version, or
// data from before there was a marker, refuses all calls.

const (
	layoutKey = "usher:layout"
	// layoutVersion is the layout of this program. Layout 1 had 8 hex digits in a tag,
	// and no marker.
	layoutVersion = 2
	// firstLayoutKeys matches the keys of sessions in layout 1.
	firstLayoutKeys = "usher:{" + hexDigit + hexDigit + hexDigit + hexDigit + hexDigit + hexDigit + hexDigit + hexDigit + "}:*"
	hexDigit        = "[0-9a-f]"
)

// A search looks at no more than scanSteps times scanKeys keys of each server, because
// the database may belong to others too, and the first call waits for it.
const (
	scanSteps = 40
	scanKeys  = 5000 // in one step, about a millisecond of the server's time

	// searchTimeout is the time limit of a search, also for a caller with an earlier
	// deadline: otherwise a slow search would begin anew in each call, and never end.
	searchTimeout = 5 * time.Second
)

//go:embed layout.lua
var layoutLua string

var layoutScript = newScript(layoutLua)

// layoutError is the refusal of a database with another layout. To callers it is also
// an unavailable store: they must not conclude anything about a session.
type layoutError struct{ found, wait string }

func (e *layoutError) Error() string {
	return fmt.Sprintf("this Redis database has %s, and this program needs layout %d: "+
		"use an empty database or another database number; or stop the processes that use it and delete its keys usher:*; "+
		"or stop them and %s", e.found, layoutVersion, e.wait)
}

func (*layoutError) Unwrap() []error { return []error{session.ErrLayout, session.ErrUnavailable} }

// layoutInterval is how often a store that is used compares the layout again: somebody may
// have emptied the database, and started processes of another version.
const layoutInterval = 10 * time.Second

// ensureLayout returns a layoutError if the database has another layout, as far as is
// known.
func (s *Store) ensureLayout(ctx context.Context) error {
	if !s.compatible.Load() {
		return s.checkLayout(ctx)
	}
	last, now := s.checked.Load(), time.Now().UnixNano()
	if now-last < int64(layoutInterval) || !s.checked.CompareAndSwap(last, now) {
		return nil
	}
	if err := s.checkLayout(ctx); errors.Is(err, session.ErrLayout) {
		return err
	}
	return nil // if the store does not answer, the call itself finds out
}

// checkLayout returns a layoutError if the database has another layout. It sets the
// marker in a database that has none.
func (s *Store) checkLayout(ctx context.Context) error {
	err := s.compareLayout(ctx)
	switch {
	case err == nil:
		s.checked.Store(time.Now().UnixNano())
		s.compatible.Store(true)
		s.refused.Store(false)
	case errors.Is(err, session.ErrLayout):
		s.compatible.Store(false)
		if !s.refused.Swap(true) {
			s.log.Error("the session store cannot be used", "error", err)
		}
	}
	return err
}

func (s *Store) compareLayout(ctx context.Context) error {
	const want = layoutVersion
	found, err := s.layout(ctx)
	if err != nil {
		return err
	}
	if found == "" {
		if err := s.searchFirstLayout(ctx); err != nil {
			return err
		}
		// Another process may set it at the same time, perhaps to another version.
		set := newCommand(ctx, "set", layoutKey, want, "nx")
		if err := s.client.Process(ctx, set); err != nil && !errors.Is(err, goredis.Nil) {
			return err
		}
		if found, err = s.layout(ctx); err != nil {
			return err
		}
	}
	if found != strconv.Itoa(want) {
		return &layoutError{
			fmt.Sprintf("the layout %q (key %s)", found, layoutKey),
			"delete " + layoutKey + " when the old sessions have expired",
		}
	}
	return nil
}

// layout returns the version in the marker, or "".
func (s *Store) layout(ctx context.Context) (string, error) {
	return s.run(ctx, layoutScript, []string{layoutKey}, []any{layoutVersion}).Text()
}

// searchFirstLayout returns a layoutError if a server has a key of layout 1.
func (s *Store) searchFirstLayout(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), searchTimeout)
	defer cancel()
	if cluster, ok := s.client.(*goredis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, c *goredis.Client) error {
			return searchServer(ctx, c)
		})
	}
	return searchServer(ctx, s.client)
}

func searchServer(ctx context.Context, c goredis.Cmdable) error {
	var cursor uint64
	for range scanSteps {
		keys, next, err := c.Scan(ctx, cursor, firstLayoutKeys, scanKeys).Result()
		if err != nil {
			return err
		}
		if len(keys) > 0 {
			return &layoutError{fmt.Sprintf("sessions of layout 1 (key %q)", keys[0]), "wait until the old sessions have expired"}
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	return nil
}
