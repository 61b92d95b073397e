package process

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/usher-broker/usher/broker/cluster"
)

// GossipFlags are the flags of every member of a cluster.
type GossipFlags struct {
	Gossip          string         `help:"Address to gossip on, host:port, UDP and TCP. For a range of ports, as in 10.0.0.7:7946-7999, the first free one." default:"127.0.0.1:7946" placeholder:"ADDR"`
	GossipAdvertise string         `help:"Address at which other members reach this one, if it differs from --gossip." placeholder:"ADDR"`
	Join            []string       `help:"Members to join through: addresses or DNS names, host:port. Names are resolved again and again, so members may come and go." placeholder:"ADDR"`
	GossipKey       string         `help:"Key that encrypts gossip: 32 bytes in base64, the same on every member (\"usher keys gossip\" makes one). Set it by the environment, not on the command line. Required to gossip beyond loopback." placeholder:"KEY"`
	GossipKeyFile   string         `help:"File with the key, in place of --gossip-key. The file may have several keys, one a line: the first encrypts, all decrypt. Read again when it changes." type:"path" placeholder:"FILE"`
	GossipNetworks  []netip.Prefix `help:"Networks that members gossip from; packets from others are dropped. Default: any." placeholder:"CIDR"`
	GossipLabel     string         `help:"Name of the cluster: members with another label are ignored." default:"usher" placeholder:"NAME"`
}

// Config returns the cluster configuration that the flags describe.
func (f GossipFlags) Config() (cluster.Config, error) {
	cfg := cluster.Config{Bind: f.Gossip, Advertise: f.GossipAdvertise, Join: f.Join, Label: f.GossipLabel, Networks: f.GossipNetworks}
	var err error
	switch {
	case f.GossipKeyFile != "" && f.GossipKey != "":
		return cfg, FlagError{"--gossip-key-file", errors.New("and --gossip-key (or USHER_GOSSIP_KEY) are both set: set one of them")}
	case f.GossipKeyFile != "":
		if cfg.Key, cfg.OldKeys, err = ReadGossipKeys(f.GossipKeyFile); err != nil {
			return cfg, FlagError{"--gossip-key-file", err}
		}
	case f.GossipKey != "":
		if cfg.Key, err = parseGossipKey(f.GossipKey); err != nil {
			return cfg, FlagError{"--gossip-key", err}
		}
	}
	return cfg, nil
}

// GossipKeyBytes is the size of a gossip key.
const GossipKeyBytes = 32

// MaxGossipKeys bounds the keys in a file: each may be tried on each message.
const MaxGossipKeys = 4

func parseGossipKey(text string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err == nil && len(key) != GossipKeyBytes {
		err = fmt.Errorf("has %d bytes", len(key))
	}
	if err != nil {
		return nil, fmt.Errorf("must be %d bytes in base64; \"usher keys gossip\" makes one: %w", GossipKeyBytes, err)
	}
	return key, nil
}

// ReadGossipKeys reads a file of keys, one a line: the first encrypts, all
// decrypt.
func ReadGossipKeys(path string) (key []byte, others [][]byte, err error) {
	lines, err := GossipKeyLines(path)
	if err != nil {
		return nil, nil, err
	}
	for i, line := range lines {
		k, err := parseGossipKey(line)
		if err != nil {
			return nil, nil, fmt.Errorf("%s, key %d: %w", path, i+1, err)
		}
		if i == 0 {
			key = k
		} else {
			others = append(others, k)
		}
	}
	return key, others, nil
}

// GossipKeyLines returns the lines of a file of gossip keys, at least 1 and at
// most MaxGossipKeys. It does not check the keys.
func GossipKeyLines(path string) ([]string, error) {
	b, err := ReadFile(path, 4<<10)
	if err != nil {
		return nil, err
	}
	lines := strings.Fields(string(b))
	switch {
	case len(lines) == 0:
		return nil, fmt.Errorf("%s has no key: it must have %d bytes in base64; \"usher keys gossip\" makes one", path, GossipKeyBytes)
	case len(lines) > MaxGossipKeys:
		return nil, fmt.Errorf("%s has %d keys: it may have at most %d", path, len(lines), MaxGossipKeys)
	}
	return lines, nil
}

// gossipKeyInterval is the time between two looks at the file.
const gossipKeyInterval = 3 * time.Second

// FollowGossipKeys has the member use the keys in the file whenever they differ from
// those in use, until ctx ends. cfg has the keys that the member started with.
func FollowGossipKeys(ctx context.Context, path string, cfg cluster.Config, c *cluster.Cluster, log *slog.Logger) {
	inUse := append([][]byte{cfg.Key}, cfg.OldKeys...)
	var failed string // the last error, which is logged once
	Every(ctx, gossipKeyInterval, func() {
		key, others, err := ReadGossipKeys(path)
		keys := append([][]byte{key}, others...)
		if err == nil && slices.EqualFunc(keys, inUse, bytes.Equal) {
			failed = ""
			return
		}
		if err == nil {
			err = c.SetKeys(key, others)
		}
		switch {
		case err == nil:
			inUse, failed = keys, ""
			log.Info("new gossip keys in use", "file", path, "keys", len(keys))
		case err.Error() != failed:
			failed = err.Error()
			log.Warn("cannot use the new gossip keys; the old ones stay in use", "file", path, "error", err)
		}
	})
}
