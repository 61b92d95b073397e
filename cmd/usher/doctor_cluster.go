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
	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/broker/serve"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/session/redis"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/proto"
)

// redis checks the session store: its version and configuration, and the operations of
// a session.
func (d *doctor) redis(ctx context.Context) {
	address, err := d.Address()
	switch {
	case errors.Is(err, process.ErrNoRedis):
		d.skip("redis", "--redis is not set")
		return
	case err != nil:
		d.wrong("redis", err.Error(), "docs/configuration.md has the forms of --redis")
		return
	}
	store, err := redis.Open(address, redis.Options{Timeout: 2 * time.Second})
	if err != nil {
		d.wrong("redis", err.Error(), "docs/configuration.md has the forms of --redis")
		return
	}
	defer store.Close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	x, err := store.Examine(ctx)
	switch {
	case errors.Is(err, session.ErrLayout):
		d.wrong("redis", err.Error(), "docs/operations.md, \"Redis with data of another version\", says more")
		return
	case x.Version == "" && err != nil:
		d.wrong("redis", err.Error(), "is Redis running, are address and password right, does a firewall block this machine?")
		return
	case err != nil:
		d.wrong("redis", err.Error(), "give the Redis user the rights in docs/configuration.md: ~usher:* +@all -@dangerous +info")
	default:
		d.ok("redis", "version %s, sessions can be opened, moved and ended, a round trip takes %v", x.Version, x.Took.Round(10*time.Microsecond))
	}
	if older(x.Version, 6, 2) {
		d.wrong("redis", "version "+x.Version+" is older than 6.2", "update Redis")
	}
	switch x.Policy {
	case "noeviction":
	case "":
		d.warn("redis", "Redis does not say what it does when its memory is full", "make sure that maxmemory-policy is noeviction")
	default:
		d.warn("redis", "Redis drops sessions when its memory is full: maxmemory-policy is "+x.Policy, "set maxmemory-policy noeviction")
	}
	d.clock("redis", x.Ahead, x.Took)
}

func older(version string, major, minor int) bool {
	var a, b int
	_, err := fmt.Sscanf(version, "%d.%d", &a, &b)
	return err == nil && (a < major || a == major && b < minor)
}

// clock checks how far the clock of a server is ahead of this one. within is the error
// of the measurement. Tokens tolerate 30 s.
func (d *doctor) clock(server string, ahead, within time.Duration) {
	switch off := ahead.Abs(); {
	case off > 30*time.Second:
		d.wrong("clock", fmt.Sprintf("the clock of %s is off by %v: tokens are refused", server, ahead.Round(time.Second)), "run NTP on both (timedatectl set-ntp true)")
	case off > 2*time.Second+within:
		d.warn("clock", fmt.Sprintf("the clock of %s is off by %v", server, ahead.Round(100*time.Millisecond)), "run NTP on both (timedatectl set-ntp true)")
	default:
		d.ok("clock", "within %v of the clock of %s", max(off, time.Millisecond).Round(time.Millisecond), server)
	}
}

// keys checks whether all login APIs publish the same keys, and those in the file.
func (d *doctor) keys(ctx context.Context) {
	if len(d.Auth) == 0 {
		d.skip("keys", "--auth is not set")
		return
	}
	sets := map[string][]string{}
	for _, auth := range d.Auth {
		set, ahead, took, err := d.jwks(ctx, auth)
		if err != nil {
			d.wrong("keys", fmt.Sprintf("%s: %v", process.RedactURL(auth), err), "is it running, and can this machine connect to it?")
			continue
		}
		sets[auth] = set
		d.clock(process.RedactURL(auth), ahead, took+time.Second) // its Date header has whole seconds
	}
	first := ""
	for _, auth := range d.Auth {
		shown := process.RedactURL(auth)
		switch set := sets[auth]; {
		case set == nil:
		case first == "":
			first = auth
			d.ok("keys", "%s publishes %s", shown, strings.Join(set, ", "))
		case !slices.Equal(set, sets[first]):
			d.wrong("keys", fmt.Sprintf("%s publishes %s; %s publishes other keys", shown, strings.Join(set, ", "), process.RedactURL(first)), "give all auths and brokers the same --signing-key file")
		default:
			d.ok("keys", "%s publishes the same", shown)
		}
	}
	if d.SigningKey == "" || first == "" {
		return
	}
	own, err := token.OpenKeySet(d.SigningKey, time.Minute, d.log)
	if err != nil {
		d.wrong("keys", err.Error(), "\"usher keys signing --out FILE\" makes one")
		return
	}
	for _, kid := range kids(own.JWKS()) {
		if !slices.Contains(sets[first], kid) {
			d.wrong("keys", fmt.Sprintf("%s has key %s, which %s does not publish", d.SigningKey, kid, process.RedactURL(first)), "give all auths and brokers the same --signing-key file")
		}
	}
}

// jwks requests the keys of a login API. It returns their ids, how far the clock of the
// server is ahead, and how long the request took.
func (d *doctor) jwks(ctx context.Context, auth string) (set []string, ahead, took time.Duration, err error) {
	client, err := d.client()
	if err != nil {
		return nil, 0, 0, err
	}
	began := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(auth, "/")+"/.well-known/jwks.json", nil)
	if err != nil || req.URL.Scheme != "http" && req.URL.Scheme != "https" {
		return nil, 0, 0, errors.New("not an http or https URL") // err quotes the URL and its password
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
	_ = json.Unmarshal(set, &s) // invalid JSON has no keys
	var list []string
	for _, k := range s.Keys {
		list = append(list, k.Kid)
	}
	slices.Sort(list)
	return list
}

func (d *doctor) client() (*http.Client, error) {
	roots, err := process.ReadRoots(d.ProbeCA)
	return &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots},
	}}, err
}

// gossipTime is how long the doctor takes part in gossip. A node sends a report to
// every auth and broker each second.
const gossipTime = 6 * time.Second

// gossip joins the cluster as a broker for some seconds. Then every node that can reach
// this machine sends it its reports directly, and the doctor learns of every other
// member. It returns the nodes.
func (d *doctor) gossip(ctx context.Context) []proto.Peer {
	if len(d.Join) == 0 {
		d.skip("gossip", "--join is not set")
		return nil
	}
	cfg, err := d.GossipFlags.Config()
	if err != nil {
		d.wrong("gossip", err.Error(), "use the key of the other members")
		return nil
	}
	// A member on this machine may use the port.
	if host, _, err := net.SplitHostPort(cfg.Bind); err == nil {
		cfg.Bind = net.JoinHostPort(host, "0")
	}
	cfg.Advertise = ""
	reported := reporters{ids: map[string]bool{}}
	cfg.Logger = d.log
	cfg.Self = proto.Peer{ID: process.InstanceID("doctor"), Role: proto.RoleBroker, State: proto.StateReady, Generation: process.Generation(), Version: process.Version()}
	cfg.Events.Report = reported.add
	c, err := cluster.Join(ctx, cfg)
	if err != nil {
		d.wrong("gossip", err.Error(), "set --gossip to an address of this machine (\"ip addr\" lists them)")
		return nil
	}
	defer func() { _ = c.Leave(time.Second) }()
	began := time.Now()
	for ; ctx.Err() == nil && time.Since(began) < gossipTime; time.Sleep(50 * time.Millisecond) {
		if time.Since(began) > 2*time.Second && reported.all(c.Members()) { // by then all members are known
			break
		}
	}
	h := c.Health()
	if !h.Joined {
		d.wrong("gossip", fmt.Sprintf("no member answers at %s: %v", strings.Join(d.Join, ", "), h.LastError),
			"allow TCP and UDP to its gossip port, in both directions; use the same --gossip-key and --gossip-label")
		return nil
	}
	nodes := d.members(c.Members(), cfg.Self.ID, &reported)
	if h.Warnings > 0 {
		d.warn("gossip", fmt.Sprintf("%d packets could not be read", h.Warnings), "a member has another --gossip-key or --gossip-label")
	}
	return nodes
}

// members checks that the members other than self are complete and that the nodes'
// reports arrive. It returns the nodes.
func (d *doctor) members(members []proto.Peer, self string, reported *reporters) (nodes []proto.Peer) {
	others := 0
	for _, p := range members {
		switch {
		case p.ID == self:
		case p.Role != proto.RoleNode:
			others++
		case reported.has(p.ID):
			nodes = append(nodes, p)
		default:
			nodes = append(nodes, p)
			d.wrong("gossip", fmt.Sprintf("%s is a member, and its reports do not arrive here", p.ID),
				"allow UDP from it to this machine; check --gossip-advertise of both")
		}
	}
	if others == 0 {
		d.wrong("gossip", "the cluster has no auth and no broker", "start one, or add its address to --join")
	}
	if len(nodes) == 0 {
		d.warn("gossip", "the members that answer know no node: a login is refused", "is a node running, and does it name one of these members in --join? Give an auth that restarts a --join of its own")
	}
	d.ok("gossip", "%d nodes and %d auths and brokers; messages pass both ways with %d of the nodes", len(nodes), others, reported.count())
	return nodes
}

// reporters are the nodes whose reports arrive. Its methods may be called concurrently.
type reporters struct {
	mu  sync.Mutex
	ids map[string]bool
}

func (r *reporters) add(report proto.Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids[report.ID] = true
}

func (r *reporters) has(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ids[id]
}

func (r *reporters) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.ids)
}

// all reports whether there is another member than this process, and every node among
// them has reported.
func (r *reporters) all(members []proto.Peer) bool {
	for _, p := range members {
		if p.Role == proto.RoleNode && !r.has(p.ID) {
			return false
		}
	}
	return len(members) > 1
}

// nodes connects to the public address of each node, as a client does.
func (d *doctor) nodes(ctx context.Context, peers []proto.Peer) {
	if len(peers) == 0 {
		return
	}
	probes, err := serve.ProbeFlags{Probe: "http", ProbeCA: d.ProbeCA}.NewProber()
	if err != nil {
		d.wrong("address", err.Error(), "")
		return
	}
	for _, p := range peers {
		probeCtx, cancel := context.WithTimeout(ctx, 3*time.Second)
		err := probes.Probe(probeCtx, p.ID, p.URL)
		cancel()
		switch {
		case err != nil:
			d.wrong("address", fmt.Sprintf("%s cannot be reached from here at %s: %v", p.ID, p.URL, err),
				"is its --advertise right, does a firewall block clients, does its certificate have that host name?")
		default:
			d.ok("address", "%s answers at %s", p.ID, p.URL)
		}
		if strings.HasPrefix(p.URL, "wss://") {
			d.certificate(ctx, p)
		}
	}
}

// certificate checks when the certificate of a node expires.
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
		Config:    &tls.Config{ServerName: u.Hostname(), InsecureSkipVerify: true}, // an expired certificate is what this check looks for
	}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return // nodes has noted that it cannot be reached
	}
	defer conn.Close()
	if chain := conn.(*tls.Conn).ConnectionState().PeerCertificates; len(chain) > 0 {
		d.expires("certificate", "the certificate of "+p.ID, chain[0].NotAfter)
	}
}

// expires checks when a certificate expires.
func (d *doctor) expires(check, certificate string, at time.Time) {
	switch left := time.Until(at); {
	case left <= 0:
		d.wrong(check, fmt.Sprintf("%s expired at %v", certificate, at.UTC()), "renew it; the process reloads the files when they change")
	case left < 14*24*time.Hour:
		d.warn(check, fmt.Sprintf("%s expires at %v", certificate, at.UTC()), "renew it; the process reloads the files when they change")
	default:
		d.ok(check, "%s is valid for %d days", certificate, int(left.Hours()/24))
	}
}

// api requests from the private API which nodes get sessions. The members that assign
// sessions probe each node. If the API does not answer, this is a fault only where its
// address was set: not every machine has a broker at the default address.
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
		if d.apiSet {
			d.wrong("api", fmt.Sprintf("%s: %v", process.RedactURL(d.API), err), "is the broker running, are --api and USHER_API_KEY right, does a firewall block this machine?")
		} else {
			d.skip("api", "--api is not set, and at %s: %v", process.RedactURL(d.API), err)
		}
		return
	}
	for _, n := range answer.Nodes {
		switch {
		case n.Eligible:
			d.ok("api", "%s gets sessions; another member can connect to it at %s", n.ID, n.URL)
		case n.State == proto.StateDraining.String():
			d.warn("api", n.ID+" is draining", "")
		default:
			d.wrong("api", fmt.Sprintf("%s gets no sessions: %s", n.ID, n.Why), "see \"usher explain\" and docs/operations.md")
		}
	}
	if len(answer.Nodes) == 0 {
		d.wrong("api", "the cluster has no nodes", "start nodes with the same --join")
	}
}
