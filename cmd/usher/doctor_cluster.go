package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/usher-broker/usher/broker/cluster"
	"github.com/usher-broker/usher/broker/session/redis"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/proto"
)

// redis looks at the store, and does there what a session does.
func (d *doctor) redis(ctx context.Context) {
	address, err := d.address()
	switch {
	case errors.Is(err, errNoRedis):
		d.skip("redis", "no --redis was named")
		return
	case err != nil:
		d.wrong("redis", err.Error(), "see the forms of --redis in docs/configuration.md")
		return
	}
	store, err := redis.Open(address, redis.Options{Timeout: 2 * time.Second})
	if err != nil {
		d.wrong("redis", err.Error(), "see the forms of --redis in docs/configuration.md")
		return
	}
	defer store.Close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	x, err := store.Examine(ctx)
	switch {
	case x.Version == "" && err != nil:
		d.wrong("redis", err.Error(), "is it running, is the address right, does a firewall let this machine through, and the password?")
		return
	case err != nil:
		d.wrong("redis", err.Error(), "give its user the commands and keys that docs/configuration.md names: ~usher:* +@all -@dangerous +info")
	default:
		d.ok("redis", "version %s, sessions can be opened, moved and ended, a round trip takes %v", x.Version, x.Took.Round(10*time.Microsecond))
	}
	if older(x.Version, 6, 2) {
		d.wrong("redis", "version "+x.Version+" is older than 6.2", "update it")
	}
	switch x.Policy {
	case "noeviction":
	case "":
		d.warn("redis", "it does not say what it does when its memory is full", "see that maxmemory-policy is noeviction")
	default:
		d.warn("redis", "when its memory is full it drops sessions: maxmemory-policy is "+x.Policy, "set maxmemory-policy noeviction")
	}
	d.clock("redis", x.Ahead, x.Took)
}

func older(version string, major, minor int) bool {
	var a, b int
	_, err := fmt.Sscanf(version, "%d.%d", &a, &b)
	return err == nil && (a < major || a == major && b < minor)
}

// clock judges how far another clock is ahead of this one. Tokens allow for 30 s.
func (d *doctor) clock(whose string, ahead, within time.Duration) {
	switch off := ahead.Abs(); {
	case off > 30*time.Second:
		d.wrong("clock", fmt.Sprintf("it is off by %v from that of %s: tokens are refused", ahead.Round(time.Second), whose), "run NTP on both (timedatectl set-ntp true)")
	case off > 2*time.Second+within:
		d.warn("clock", fmt.Sprintf("it is off by %v from that of %s", ahead.Round(100*time.Millisecond), whose), "run NTP on both (timedatectl set-ntp true)")
	default:
		d.ok("clock", "within %v of that of %s", max(off, time.Millisecond).Round(time.Millisecond), whose)
	}
}

// keys looks whether all login doors have the same keys, and those in the file.
func (d *doctor) keys(ctx context.Context) {
	if len(d.Auth) == 0 {
		d.skip("keys", "no --auth was named")
		return
	}
	sets := map[string][]string{}
	for _, door := range d.Auth {
		set, ahead, took, err := d.jwks(ctx, door)
		if err != nil {
			d.wrong("keys", fmt.Sprintf("%s: %v", door, err), "is it running, and can it be reached from here?")
			continue
		}
		sets[door] = set
		d.clock(door, ahead, took+time.Second) // it names whole seconds
	}
	first := ""
	for _, door := range d.Auth {
		switch set := sets[door]; {
		case set == nil:
		case first == "":
			first = door
			d.ok("keys", "%s publishes %s", door, strings.Join(set, ", "))
		case !slices.Equal(set, sets[first]):
			d.wrong("keys", fmt.Sprintf("%s publishes %s, and %s others", door, strings.Join(set, ", "), first), "give all auths and brokers the same --signing-key file")
		default:
			d.ok("keys", "%s publishes the same", door)
		}
	}
	if d.SigningKey == "" || first == "" {
		return
	}
	own, err := token.OpenKeySet(d.SigningKey, time.Minute, d.log)
	if err != nil {
		d.wrong("keys", err.Error(), "«usher keys signing --out FILE» makes one")
		return
	}
	for _, kid := range kids(own.JWKS()) {
		if !slices.Contains(sets[first], kid) {
			d.wrong("keys", fmt.Sprintf("%s has key %s, which %s does not publish", d.SigningKey, kid, first), "give all auths and brokers the same --signing-key file")
		}
	}
}

func (d *doctor) jwks(ctx context.Context, door string) (set []string, ahead, took time.Duration, err error) {
	client, err := d.client()
	if err != nil {
		return nil, 0, 0, err
	}
	began := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(door, "/")+"/.well-known/jwks.json", nil)
	if err != nil {
		return nil, 0, 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, 0, 0, err
	}
	defer resp.Body.Close()
	took = time.Since(began)
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("answered %s", resp.Status)
	}
	if err != nil {
		return nil, 0, 0, err
	}
	if at, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		ahead = at.Sub(began.Add(took / 2))
	}
	if set = kids(body); len(set) == 0 {
		return nil, 0, 0, fmt.Errorf("published no keys: %.100s", body)
	}
	return set, ahead, took, nil
}

// kids returns the ids of the keys of a JWK Set.
func kids(set []byte) []string {
	var s struct{ Keys []struct{ Kid string } }
	_ = json.Unmarshal(set, &s) // then there are none
	var list []string
	for _, k := range s.Keys {
		list = append(list, k.Kid)
	}
	slices.Sort(list)
	return list
}

func (d *doctor) client() (*http.Client, error) {
	roots, err := readRoots(d.ProbeCA)
	return &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots},
	}}, err
}

// gossipTime is how long the doctor listens: a node reports every second to who
// places sessions.
const gossipTime = 6 * time.Second

// gossip joins the cluster for some seconds, as one who places sessions: then
// every node sends it its load, by itself and straight, which shows that it can be
// reached, and every other member knows it. It returns the nodes.
func (d *doctor) gossip(ctx context.Context) []proto.Peer {
	if len(d.Join) == 0 {
		d.skip("gossip", "no --join was named")
		return nil
	}
	cfg, err := d.gossipFlags.config()
	if err != nil {
		d.wrong("gossip", err.Error(), "take the key that the others have")
		return nil
	}
	// The port that a member here has is taken.
	if host, _, err := net.SplitHostPort(cfg.Bind); err == nil {
		cfg.Bind = net.JoinHostPort(host, "0")
	}
	cfg.Advertise = ""
	var mu sync.Mutex
	heard := map[string]bool{}
	cfg.Logger = d.log
	cfg.Self = proto.Peer{ID: instanceID("doctor"), Role: proto.RoleBroker, State: proto.StateReady, Generation: newGeneration(), Version: versionString()}
	cfg.Events.Report = func(r proto.Report) {
		mu.Lock()
		defer mu.Unlock()
		heard[r.ID] = true
	}
	c, err := cluster.Join(ctx, cfg)
	if err != nil {
		d.wrong("gossip", err.Error(), "name an address of this machine in --gossip («ip addr»)")
		return nil
	}
	defer func() { _ = c.Leave(time.Second) }()
	everybody := func() bool {
		mu.Lock()
		defer mu.Unlock()
		for _, p := range c.Members() {
			if p.Role == proto.RoleNode && !heard[p.ID] {
				return false
			}
		}
		return len(c.Members()) > 1
	}
	began := time.Now()
	for ; ctx.Err() == nil && time.Since(began) < gossipTime; time.Sleep(50 * time.Millisecond) {
		if time.Since(began) > 2*time.Second && everybody() { // by then all are known
			break
		}
	}
	h := c.Health()
	if !h.Joined {
		d.wrong("gossip", fmt.Sprintf("no member was reached at %s: %v", strings.Join(d.Join, ", "), h.LastError),
			"TCP and UDP to its gossip port must pass, both ways, and --gossip-key and --gossip-label be the same")
		return nil
	}
	mu.Lock()
	defer mu.Unlock()
	var nodes []proto.Peer
	others := 0
	for _, p := range c.Members() {
		switch {
		case p.ID == cfg.Self.ID:
		case p.Role != proto.RoleNode:
			others++
		case heard[p.ID]:
			nodes = append(nodes, p)
		default:
			nodes = append(nodes, p)
			d.wrong("gossip", fmt.Sprintf("%s is a member, and what it sends does not arrive here", p.ID),
				"UDP from there to this machine must pass; is its --gossip-advertise, or this machine's, wrong?")
		}
	}
	if others == 0 {
		d.wrong("gossip", "there is no auth and no broker", "start one, or let --join name it")
	}
	d.ok("gossip", "%d nodes and %d auths and brokers; messages pass both ways with %d of the nodes", len(nodes), others, len(heard))
	if h.Warnings > 0 {
		d.warn("gossip", fmt.Sprintf("%d packets could not be read", h.Warnings), "somebody has another --gossip-key or --gossip-label")
	}
	return nodes
}

// nodes dials the public address of each node, as a client would.
func (d *doctor) nodes(ctx context.Context, peers []proto.Peer) {
	if len(peers) == 0 {
		return
	}
	probes, err := probeFlags{Probe: "http", ProbeCA: d.ProbeCA}.prober()
	if err != nil {
		d.wrong("address", err.Error(), "")
		return
	}
	for _, p := range peers {
		bound, cancel := context.WithTimeout(ctx, 3*time.Second)
		err := probes.probe(bound, p.ID, p.URL)
		cancel()
		switch {
		case err != nil:
			d.wrong("address", fmt.Sprintf("%s cannot be reached from here at %s: %v", p.ID, p.URL, err),
				"is its --advertise right, does a firewall let clients through, does its certificate name that host?")
		default:
			d.ok("address", "%s is reached at %s", p.ID, p.URL)
		}
		if strings.HasPrefix(p.URL, "wss://") {
			d.certificate(ctx, p)
		}
	}
}

// certificate looks how long the certificate of a node is good.
func (d *doctor) certificate(ctx context.Context, p proto.Peer) {
	u, err := url.Parse(p.URL)
	if err != nil {
		return
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	dialer := &tls.Dialer{
		NetDialer: &net.Dialer{Timeout: 3 * time.Second},
		Config:    &tls.Config{ServerName: u.Hostname(), InsecureSkipVerify: true}, // its word on expiry is wanted even so
	}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return // that it cannot be reached is said
	}
	defer conn.Close()
	if chain := conn.(*tls.Conn).ConnectionState().PeerCertificates; len(chain) > 0 {
		d.expires("certificate", "that of "+p.ID, chain[0].NotAfter)
	}
}

func (d *doctor) expires(check, whose string, at time.Time) {
	switch left := time.Until(at); {
	case left <= 0:
		d.wrong(check, fmt.Sprintf("%s expired at %v", whose, at.UTC()), "renew it; the node reads the files again by itself")
	case left < 14*24*time.Hour:
		d.warn(check, fmt.Sprintf("%s expires at %v", whose, at.UTC()), "renew it; the node reads the files again by itself")
	default:
		d.ok(check, "%s is good for %d days", whose, int(left.Hours()/24))
	}
}

// api asks what the members that place sessions say of the nodes: they dial back.
func (d *doctor) api(ctx context.Context) {
	if d.API == "" {
		return
	}
	a, err := d.open()
	if err != nil {
		d.wrong("api", err.Error(), "")
		return
	}
	var answer struct{ Nodes []apiNode }
	if err := a.call(ctx, http.MethodGet, "/v1/nodes", nil, nil, &answer); err != nil {
		d.skip("api", "no private API at %s: %v", d.API, err)
		return
	}
	for _, n := range answer.Nodes {
		switch {
		case n.Eligible:
			d.ok("api", "%s is given sessions; another member reaches it at %s", n.ID, n.URL)
		case n.State == proto.StateDraining.String():
			d.warn("api", n.ID+" is draining", "")
		default:
			d.wrong("api", fmt.Sprintf("%s gets no sessions: %s", n.ID, n.Why), "«usher explain» and docs/operations.md say more")
		}
	}
	if len(answer.Nodes) == 0 {
		d.wrong("api", "there are no nodes", "start some, with the same --join")
	}
}
