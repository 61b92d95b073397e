package main

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
	"github.com/usher-broker/usher/proto"
)

// nodeKeyCmd makes a key that nodes sign with what they say of themselves.
type nodeKeyCmd struct {
	Out  string `help:"File to write, for «usher node --node-key»; made readable for the owner alone." required:"" placeholder:"FILE"`
	Node string `help:"Node that alone may use the key. Default: any." default:"*" placeholder:"ID"`
}

func (c nodeKeyCmd) Run(e *env) error {
	if c.Node == "" || len(c.Node) > proto.MaxNameBytes || strings.ContainsAny(c.Node, " \t\r\n#") {
		return usageError{"--node", fmt.Errorf("%q: must have 1 to %d bytes, and no spaces", c.Node, proto.MaxNameBytes)}
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	if err := createSecret(c.Out, base64.StdEncoding.EncodeToString(private.Seed())); err != nil {
		return err
	}
	fmt.Fprintln(e.err, "The line below goes into the file of --node-keys, of every auth and broker:")
	_, err = fmt.Fprintf(e.out, "%s %s\n", c.Node, base64.StdEncoding.EncodeToString(public))
	return err
}

// readNodeKey reads the file of --node-key.
func readNodeKey(path string) (ed25519.PrivateKey, error) {
	b, err := readSmall(path, 1<<10)
	if err != nil {
		return nil, err
	}
	seed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("%s has no key: it must be %d bytes in base64, as «usher keys node» makes it", path, ed25519.SeedSize)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// trustFlags say which nodes a process that places sessions believes.
type trustFlags struct {
	NodeKeys string   `help:"File of the public keys of nodes («usher keys node» makes its lines). With it, nodes whose word is not signed by one of them are ignored. Read again when it changes." type:"path" placeholder:"FILE"`
	NodeURLs []string `name:"node-urls" help:"Addresses that clients may be sent to, such as wss://*.rt.example.com or ws://10.0.0.0/8; a port may follow. Nodes with another are ignored. Default: any." placeholder:"PATTERN"`
}

// nodeKeyInterval is how often the file is looked at.
const nodeKeyInterval = 3 * time.Second

// maxRecordAge is how old the word of a node may be, as signed: it signs anew
// every hour. Clocks may differ by as much as clockSkew.
const (
	maxRecordAge = 3 * time.Hour
	clockSkew    = 5 * time.Minute
)

// nodeKey is a public key, and the node that may use it, or *.
type nodeKey struct {
	node string
	key  ed25519.PublicKey
}

// trust judges what nodes say of themselves.
type trust struct {
	urls []urlPattern
	path string // of the keys; "" for none
	keys atomic.Pointer[[]nodeKey]
}

// open returns what judges by the flags, nil if all are believed.
func (f trustFlags) open() (*trust, error) {
	t := &trust{path: f.NodeKeys}
	for _, text := range f.NodeURLs {
		p, err := parseURLPattern(text)
		if err != nil {
			return nil, usageError{"--node-urls", err}
		}
		t.urls = append(t.urls, p)
	}
	if t.path != "" {
		keys, err := readNodeKeys(t.path)
		if err != nil {
			return nil, usageError{"--node-keys", err}
		}
		t.keys.Store(&keys)
	}
	if t.path == "" && t.urls == nil {
		return nil, nil
	}
	return t, nil
}

// readNodeKeys reads the file: a node's id, or *, and a key in base64 on each
// line; # begins a comment.
func readNodeKeys(path string) ([]nodeKey, error) {
	b, err := readSmall(path, 1<<20)
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
			return nil, fmt.Errorf("%s, line %d: must be a node's id, or *, and a key, as «usher keys node» prints it", path, i+1)
		}
		keys = append(keys, nodeKey{fields[0], key})
	}
	return keys, nil
}

// follow reads the keys again when the file changes, until ctx ends.
func (t *trust) follow(ctx context.Context, c *cluster.Cluster, log *slog.Logger) {
	every(ctx, nodeKeyInterval, func() {
		keys, err := readNodeKeys(t.path)
		if err != nil {
			log.Warn("the new node keys cannot be used; the old ones stay", "file", t.path, "error", err)
			return
		}
		if slices.EqualFunc(keys, *t.keys.Load(), func(a, b nodeKey) bool { return a.node == b.node && a.key.Equal(b.key) }) {
			return
		}
		t.keys.Store(&keys)
		log.Info("new node keys are in use", "file", t.path, "keys", len(keys))
		c.Recheck()
	})
}

// accept is for cluster.Config.
func (t *trust) accept(p proto.Peer, raw []byte) error {
	if keys := t.keys.Load(); keys != nil {
		if err := checkSigned(p, raw, *keys, time.Now()); err != nil {
			return err
		}
	}
	if p.URL == "" || t.urls == nil { // it has none yet
		return nil
	}
	u, err := url.Parse(p.URL)
	if err != nil {
		return err
	}
	if u.User != nil || !slices.ContainsFunc(t.urls, func(pattern urlPattern) bool { return pattern.matches(u) }) {
		return fmt.Errorf("its address %s is none of --node-urls", p.URL)
	}
	return nil
}

func checkSigned(p proto.Peer, raw []byte, keys []nodeKey, now time.Time) error {
	signed := slices.ContainsFunc(keys, func(k nodeKey) bool {
		return (k.node == "*" || k.node == p.ID) && proto.PeerSigned(raw, k.key)
	})
	if !signed {
		return errors.New("it is not signed by a key of --node-keys")
	}
	switch issued := time.Unix(p.Issued, 0); {
	case now.Sub(issued) > maxRecordAge:
		return fmt.Errorf("it was signed %v ago", now.Sub(issued).Round(time.Second))
	case issued.Sub(now) > clockSkew:
		return fmt.Errorf("it was signed %v from now: look at the clocks", issued.Sub(now).Round(time.Second))
	}
	return nil
}

// urlPattern is an address that clients may be sent to.
type urlPattern struct {
	scheme string
	host   string       // "" with net; *.name stands for one label more
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
