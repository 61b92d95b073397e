package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// Examination is what Examine finds out about a server.
type Examination struct {
	Version string
	Policy  string        // maxmemory_policy; "" if the server does not report it
	Ahead   time.Duration // how far the server's clock is ahead of this machine's
	Took    time.Duration // the shortest of several round trips
}

// Examine reads the properties of the server, and takes a test session through its
// life, which has ended when Examine returns. The error names the step that failed,
// because the server does not support it or does not permit it to this user.
func (s *Store) Examine(ctx context.Context) (Examination, error) {
	var x Examination
	info := goredis.NewStringCmd(ctx, "info")
	if err := s.client.Process(ctx, info); err != nil {
		return x, fmt.Errorf("INFO: %w", err)
	}
	for line := range strings.Lines(info.Val()) {
		switch name, value, _ := strings.Cut(strings.TrimSpace(line), ":"); name {
		case "redis_version":
			x.Version = value
		case "maxmemory_policy":
			x.Policy = value
		}
	}
	if err := s.Ping(ctx); errors.Is(err, session.ErrLayout) {
		return x, err
	}
	for range 5 {
		began := time.Now()
		now := goredis.NewTimeCmd(ctx, "time")
		if err := s.client.Process(ctx, now); err != nil {
			return x, fmt.Errorf("TIME: %w", err)
		}
		if took := time.Since(began); x.Took == 0 || took < x.Took {
			x.Took, x.Ahead = took, now.Val().Sub(began.Add(took/2))
		}
	}
	return x, s.tryLifecycle(ctx)
}

// tryLifecycle creates a session, takes it through its life, and ends it.
func (s *Store) tryLifecycle(ctx context.Context) error {
	const user, node, ttl = "usher-doctor", "usher-doctor", 10 * time.Second
	id := session.NewID(user)
	r, _, err := s.Create(ctx, session.NewRequest(), session.Record{ID: id, User: user, Node: node, Pool: "usher-doctor"}, session.Rule{}, ttl)
	if err != nil {
		return fmt.Errorf("creating a session: %w", err)
	}
	steps := []struct {
		what string
		do   func() error
	}{
		{"attaching it", func() error {
			_, err := s.Attach(ctx, session.Lease{ID: id, Node: node, Epoch: r.Epoch}, "stream", false, 0, ttl)
			return err
		}},
		{"moving it", func() error {
			_, err := s.Reassign(ctx, session.NewRequest(), session.Record{ID: id, Epoch: r.Epoch}, node+"-2", ttl)
			return err
		}},
		{"reading it", func() error { _, err := s.Get(ctx, id); return err }},
		{"forming a group", func() error {
			_, err := s.Group(ctx, "usher-doctor/"+id, id, node, "", ttl)
			return errors.Join(err, s.Ungroup(ctx, "usher-doctor/"+id, id))
		}},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	if _, err := s.End(ctx, id, 0, session.Reason(proto.CloseSessionEnded), "", time.Second); err != nil {
		return fmt.Errorf("ending it: %w", err)
	}
	return nil
}
