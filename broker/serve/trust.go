package serve

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/usher-broker/usher/broker/cluster"
	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/proto"
)

// TrustFlags say whose node records a broker accepts.
type TrustFlags struct {
	NodeKeys string   `help:"File of the public keys of nodes (\"usher keys node\" prints its lines). With it, a node whose record is not signed by one of them is ignored. Read again when it changes." type:"path" placeholder:"FILE"`
	NodeURLs []string `name:"node-urls" help:"Addresses that clients may be sent to, such as wss://*.rt.example.com or ws://10.0.0.0/8; a port may follow. A node with another address is ignored. Default: any." placeholder:"PATTERN"`
}

// nodeKeyInterval is the time between two looks at the file.
const nodeKeyInterval = 3 * time.Second

// maxRecordAge is how old the signature of a node record may be: a node signs
// again every hour. Clocks may differ by clockSkew.
const (
	maxRecordAge = 3 * time.Hour
	clockSkew    = 5 * time.Minute
)

// nodeKey is a public key and the id of the node that may use it, or *.
type nodeKey struct {
	node string
	key  ed25519.PublicKey
}

// trust accepts or rejects node records.
type trust struct {
	urls []urlPattern
	path string // of the keys; "" for none
	keys atomic.Pointer[[]nodeKey]
}

// open returns the trust that the flags describe, or nil if every record is
// accepted.
func (f TrustFlags) open() (*trust, error) {
	t := &trust{path: f.NodeKeys}
	for _, text := range f.NodeURLs {
		p, err := parseURLPattern(text)
		if err != nil {
			return nil, process.FlagError{Flag: "--node-urls", Err: err}
		}
		t.urls = append(t.urls, p)
	}
	if t.path != "" {
		keys, err := readNodeKeys(t.path)
		if err != nil {
			return nil, process.FlagError{Flag: "--node-keys", Err: err}
		}
		t.keys.Store(&keys)
	}
	if t.path == "" && t.urls == nil {
		return nil, nil
	}
	return t, nil
}

// readNodeKeys reads the file. A line has a node's id, or *, and a key in base64;
// # begins a comment.
func readNodeKeys(path string) ([]nodeKey, error) {
	b, err := process.ReadFile(path, 1<<20)
	if err != nil {
		return nil, err
	}
	keys := []nodeKey{}
	for i, line := range strings.Split(string(b), "\n") {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(fields[len(fields)-1])
		if err != nil || len(fields) != 2 || len(key) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("%s, line %d: must be a node's id, or *, and a key, as \"usher keys node\" prints it", path, i+1)
		}
		keys = append(keys, nodeKey{fields[0], key})
	}
	return keys, nil
}

// follow reads the keys again when the file changes, until ctx ends.
func (t *trust) follow(ctx context.Context, c *cluster.Cluster, log *slog.Logger) {
	process.Every(ctx, nodeKeyInterval, func() {
		keys, err := readNodeKeys(t.path)
		if err != nil {
			log.Warn("cannot use the new node keys; the old ones stay in use", "file", t.path, "error", err)
			return
		}
		if slices.EqualFunc(keys, *t.keys.Load(), func(a, b nodeKey) bool { return a.node == b.node && a.key.Equal(b.key) }) {
			return
		}
		t.keys.Store(&keys)
		log.Info("new node keys in use", "file", t.path, "keys", len(keys))
		c.Recheck()
	})
}

// accept returns an error for a record that is rejected. raw is the record as it
// was received.
func (t *trust) accept(p proto.Peer, raw []byte) error {
	if keys := t.keys.Load(); keys != nil {
		if err := checkSigned(p, raw, *keys, time.Now()); err != nil {
			return err
		}
	}
	if p.URL == "" || t.urls == nil { // the node has no address yet
		return nil
	}
	u, err := url.Parse(p.URL)
	if err != nil {
		return err
	}
	if u.User != nil || !slices.ContainsFunc(t.urls, func(pattern urlPattern) bool { return pattern.matches(u) }) {
		return fmt.Errorf("the address %s matches no pattern of --node-urls", p.URL)
	}
	return nil
}

func checkSigned(p proto.Peer, raw []byte, keys []nodeKey, now time.Time) error {
	signed := slices.ContainsFunc(keys, func(k nodeKey) bool {
		return (k.node == "*" || k.node == p.ID) && proto.PeerSigned(raw, k.key)
	})
	if !signed {
		return errors.New("the record is not signed by a key of --node-keys")
	}
	switch issued := time.Unix(p.Issued, 0); {
	case now.Sub(issued) > maxRecordAge:
		return fmt.Errorf("the record was signed %v ago, more than %v", now.Sub(issued).Round(time.Second), maxRecordAge)
	case issued.Sub(now) > clockSkew:
		return fmt.Errorf("the record was signed %v in the future: check the clocks", issued.Sub(now).Round(time.Second))
	}
	return nil
}

// urlPattern matches addresses that clients may be sent to.
type urlPattern struct {
	scheme string
	host   string       // "" with net; *.name matches one more label
	net    netip.Prefix // of addresses
	port   string       // "" for any
}

func parseURLPattern(text string) (urlPattern, error) {
	fail := func() (urlPattern, error) {
		return urlPattern{}, fmt.Errorf("%q: must be like wss://*.rt.example.com, wss://node.example.com:7000 or ws://10.0.0.0/8", text)
	}
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok || scheme != "ws" && scheme != "wss" || rest == "" {
		return fail()
	}
	if p, err := netip.ParsePrefix(rest); err == nil {
		return urlPattern{scheme: scheme, net: p}, nil
	}
	u, err := url.Parse("//" + rest)
	if err != nil || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.User != nil || u.RawQuery != "" {
		return fail()
	}
	name := strings.TrimPrefix(u.Hostname(), "*.")
	if name == "" || strings.Contains(name, "*") {
		return fail()
	}
	return urlPattern{scheme: scheme, host: strings.ToLower(u.Hostname()), port: u.Port()}, nil
}

func (p urlPattern) matches(u *url.URL) bool {
	host := strings.ToLower(u.Hostname())
	if u.Scheme != p.scheme || p.port != "" && p.port != u.Port() {
		return false
	}
	if p.host == "" {
		addr, err := netip.ParseAddr(host)
		return err == nil && p.net.Contains(addr.Unmap())
	}
	if suffix, ok := strings.CutPrefix(p.host, "*"); ok {
		label, found := strings.CutSuffix(host, suffix)
		return found && label != "" && !strings.Contains(label, ".")
	}
	return host == p.host
}
