package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/usher-broker/usher/broker/cluster"
	"github.com/usher-broker/usher/broker/session/redis"
)

// gossipFlags are the flags of every member of a cluster.
type gossipFlags struct {
	Gossip          string         `help:"Address to gossip on, host:port, UDP and TCP. Of a range of ports, as in 10.0.0.7:7946-7999, the first that is free." default:"127.0.0.1:7946" placeholder:"ADDR"`
	GossipAdvertise string         `help:"Address at which other members reach this one, if it is not the one it binds." placeholder:"ADDR"`
	Join            []string       `help:"Members to join through: addresses or DNS names, host:port. Names are looked up again and again, so members may come and go." placeholder:"ADDR"`
	GossipKey       string         `help:"Key that encrypts gossip: 32 bytes in base64, the same on every member («usher keys gossip» makes one). Give it by the environment, not on the command line. Required to gossip beyond loopback." placeholder:"KEY"`
	GossipKeyFile   string         `help:"File with the key, in place of --gossip-key. Of several, one a line, the first is the one to send by. Read again when it changes." type:"path" placeholder:"FILE"`
	GossipNetworks  []netip.Prefix `help:"Networks that members gossip from; others are not listened to. Default: any." placeholder:"CIDR"`
	GossipLabel     string         `help:"Name of the cluster: members of another are not listened to." default:"usher" placeholder:"NAME"`
}

func (f gossipFlags) config() (cluster.Config, error) {
	cfg := cluster.Config{Bind: f.Gossip, Advertise: f.GossipAdvertise, Join: f.Join, Label: f.GossipLabel, Networks: f.GossipNetworks}
	var err error
	switch {
	case f.GossipKeyFile != "" && f.GossipKey != "":
		return cfg, usageError{"--gossip-key-file", errors.New("and --gossip-key (or USHER_GOSSIP_KEY) are both set; one is enough")}
	case f.GossipKeyFile != "":
		if cfg.Key, cfg.OldKeys, err = readGossipKeys(f.GossipKeyFile); err != nil {
			return cfg, usageError{"--gossip-key-file", err}
		}
	case f.GossipKey != "":
		if cfg.Key, err = parseGossipKey(f.GossipKey); err != nil {
			return cfg, usageError{"--gossip-key", err}
		}
	}
	return cfg, nil
}

// storeFlags say where sessions are kept.
type storeFlags struct {
	Redis     string `help:"Redis that holds the sessions: redis://, rediss://, or the address of a Sentinel or Cluster (see docs/configuration.md). Required: without it only «usher dev» runs. If it has a password, give it by the environment or a file." placeholder:"URL"`
	RedisFile string `help:"File with the address, in place of --redis." type:"path" placeholder:"FILE"`
}

var errNoRedis = usageError{"--redis", errors.New("is required (or USHER_REDIS): this process is one of several and they share sessions through Redis. " +
	"For one process with everything in memory, run «usher dev»")}

// maxAddressBytes bounds the file of the address.
const maxAddressBytes = 16 << 10

func (f storeFlags) address() (string, error) {
	switch {
	case f.Redis != "" && f.RedisFile != "":
		return "", usageError{"--redis-file", errors.New("and --redis (or USHER_REDIS) are both set; one is enough")}
	case f.Redis != "":
		return f.Redis, nil
	case f.RedisFile == "":
		return "", errNoRedis
	}
	b, err := readSmall(f.RedisFile, maxAddressBytes)
	if err != nil {
		return "", usageError{"--redis-file", err}
	}
	address := strings.TrimSpace(string(b))
	if address == "" {
		return "", usageError{"--redis-file", fmt.Errorf("%s is empty", f.RedisFile)}
	}
	return address, nil
}

// readSmall reads a file that cannot be long.
func readSmall(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%s is longer than %d bytes", path, most)
	}
	return b, err
}

// member is what every role of a cluster begins with.
type member struct {
	gossip   cluster.Config
	keyFile  string // of gossip; "" for none
	store    *redis.Store
	registry *prometheus.Registry
}

// openMember reads the flags that all roles have. The store is closed by stop.
func openMember(g gossipFlags, s storeFlags, stop *closers) (*member, error) {
	address, err := s.address()
	if err != nil {
		return nil, err
	}
	gossip, err := g.config()
	if err != nil {
		return nil, err
	}
	m := &member{gossip: gossip, keyFile: g.GossipKeyFile, registry: newRegistry()}
	if m.store, err = openStore(address, m.registry); err != nil {
		return nil, err
	}
	stop.add(func() { m.store.Close() })
	return m, nil
}

// openOps opens the ops door, until stop.
func (m *member) openOps(addr string, ready []check, stop *closers, log *slog.Logger, more ...route) (*server, error) {
	ops, err := serveOps(addr, m.registry, ready, log, more...)
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
