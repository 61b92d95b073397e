package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-broker/usher/broker/cluster"
	"github.com/usher-broker/usher/broker/session/redis"
)

// gossipFlags are the flags of every member of a cluster.
type gossipFlags struct {
	Gossip          string   `help:"Address to gossip on, host:port, UDP and TCP." default:"127.0.0.1:7946" placeholder:"ADDR"`
	GossipAdvertise string   `help:"Address at which other members reach this one, if it is not the one it binds." placeholder:"ADDR"`
	Join            []string `help:"Members to join through: addresses or DNS names, host:port. Names are looked up again and again, so members may come and go." placeholder:"ADDR"`
	GossipKey       string   `help:"Key that encrypts gossip: 32 bytes in base64, the same on every member («usher keys gossip» makes one). Give it by the environment, not on the command line. Required to gossip beyond loopback." placeholder:"KEY"`
	GossipKeyFile   string   `help:"File with the key, in place of --gossip-key." type:"path" placeholder:"FILE"`
	GossipLabel     string   `help:"Name of the cluster: members of another are not listened to." default:"usher" placeholder:"NAME"`
}

func (f gossipFlags) config() (cluster.Config, error) {
	cfg := cluster.Config{Bind: f.Gossip, Advertise: f.GossipAdvertise, Join: f.Join, Label: f.GossipLabel}
	flag, text := "--gossip-key", f.GossipKey
	if f.GossipKeyFile != "" {
		flag = "--gossip-key-file"
		if f.GossipKey != "" {
			return cfg, usageError{flag, errors.New("and --gossip-key (or USHER_GOSSIP_KEY) are both set; one is enough")}
		}
		b, err := os.ReadFile(f.GossipKeyFile)
		if err != nil {
			return cfg, usageError{flag, err}
		}
		text = strings.TrimSpace(string(b))
	}
	if text == "" && f.GossipKeyFile == "" {
		return cfg, nil
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err == nil && len(key) != 32 {
		err = fmt.Errorf("has %d bytes", len(key))
	}
	if err != nil {
		return cfg, usageError{flag, fmt.Errorf("must be 32 bytes in base64, as «usher keys gossip» makes it: %w", err)}
	}
	cfg.Key = key
	return cfg, nil
}

// storeFlags say where sessions are kept.
type storeFlags struct {
	Redis string `help:"Redis that holds the sessions: redis://, rediss://, or the address of a Sentinel or Cluster (see docs/configuration.md). Required: without it only «usher dev» runs." placeholder:"URL"`
}

var errNoRedis = usageError{"--redis", errors.New("is required (or USHER_REDIS): this process is one of several and they share sessions through Redis. " +
	"For one process with everything in memory, run «usher dev»")}

// member is what every role of a cluster begins with.
type member struct {
	gossip   cluster.Config
	store    *redis.Store
	registry *prometheus.Registry
}

// openMember reads the flags that all roles have. The store is closed by stop.
func openMember(g gossipFlags, s storeFlags, stop *closers) (*member, error) {
	if s.Redis == "" {
		return nil, errNoRedis
	}
	gossip, err := g.config()
	if err != nil {
		return nil, err
	}
	m := &member{gossip: gossip, registry: newRegistry()}
	if m.store, err = openStore(s.Redis, m.registry); err != nil {
		return nil, err
	}
	stop.add(func() { m.store.Close() })
	return m, nil
}

// openOps opens the ops door, until stop.
func (m *member) openOps(addr string, ready []check, stop *closers, log *slog.Logger) (*server, error) {
	ops, err := serveOps(addr, m.registry, ready, log)
	if err != nil {
		return nil, usageError{"--ops", err}
	}
	stop.add(func() { ops.close(context.Background()) })
	return ops, nil
}

// newGeneration tells two starts of a member apart.
func newGeneration() uint64 { return uint64(time.Now().UnixMilli()) }

// instanceID names one start of a process: the issuer of its tokens.
func instanceID(role string) string {
	host, err := os.Hostname()
	if err != nil || len(host) > 32 {
		host = role
	}
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return fmt.Sprintf("%s-%s/%010x", role, host, binary.BigEndian.Uint64(b[:])>>24)
}

// waitDone returns when ctx is done, which is how a role is told to stop.
func waitDone(ctx context.Context) { <-ctx.Done() }
