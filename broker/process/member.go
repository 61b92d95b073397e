package process

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-broker/usher/broker/cluster"
)

// Join joins the cluster, counts gossip in the registry, and follows the file of
// gossip keys, if keyFile is not "". stop leaves the cluster. cfg.Self must be
// set; Join sets its generation and version.
func Join(cfg cluster.Config, keyFile string, reg prometheus.Registerer, log *slog.Logger, stop *Closers) (*cluster.Cluster, error) {
	cfg.Logger = log
	cfg.Self.Generation, cfg.Self.Version = Generation(), Version()
	c, err := cluster.Join(context.Background(), cfg)
	if err != nil {
		return nil, FlagError{"--gossip", err}
	}
	countGossip(reg, c.Health)
	stop.Add(func() {
		if err := c.Leave(2 * time.Second); err != nil {
			log.Warn("could not tell the cluster that this member leaves", "id", cfg.Self.ID, "error", err)
		}
	})
	if keyFile != "" {
		stop.Add(Start(func(ctx context.Context) { FollowGossipKeys(ctx, keyFile, cfg, c, log) }))
	}
	return c, nil
}

// Generation returns a number that is higher for each later start of a member.
func Generation() uint64 { return uint64(time.Now().UnixMilli()) }

// GossipCheck is met once the member has reached another, or has none to join.
func GossipCheck(c *cluster.Cluster) Check {
	return Check{Name: "gossip", Once: true, F: func() error {
		if h := c.Health(); !h.Joined {
			return fmt.Errorf("no other member reached yet: %v", h.LastError)
		}
		return nil
	}}
}

// InstanceID returns an id that is unique to one start of a process, such as the
// issuer of its tokens.
func InstanceID(role string) string {
	host, err := os.Hostname()
	if err != nil || len(host) > 32 {
		host = role
	}
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return fmt.Sprintf("%s-%s/%010x", role, host, binary.BigEndian.Uint64(b[:])>>24)
}
