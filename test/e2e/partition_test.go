package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker/session/redistest"
	usher "github.com/usher-broker/usher/client-sdk/go"
)

// hosts emulates machines with two networks, one for clients and one for gossip.
// Each host is a network namespace. The switch is a namespace of its own, so that
// the firewall rules of this machine do not apply to it.
type hosts struct {
	t       *testing.T
	tag     string
	clients int // third byte of the clients' network; the gossip network has the next number
}

// newHosts creates n hosts. It skips the test where network namespaces cannot be
// created.
func newHosts(t *testing.T, n int) *hosts {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to create network namespaces")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs ip (Debian: iproute2)")
	}
	h := &hosts{t: t, tag: fmt.Sprintf("us%x", os.Getpid()&0xffff), clients: 2 * (os.Getpid() % 100)}
	if out, err := exec.Command("ip", "netns", "add", h.ns(0)).CombinedOutput(); err != nil {
		if os.Getenv("USHER_SLOW") == "" {
			t.Skipf("cannot create network namespaces: %s", out)
		}
		t.Fatalf("ip netns add: %v\n%s", err, out)
	}
	t.Cleanup(func() { h.ip("netns", "del", h.ns(0)) })
	for _, bridge := range []string{"clients", "gossip"} {
		h.in(0, "link", "add", bridge, "type", "bridge")
		h.in(0, "link", "set", bridge, "up")
	}
	// The clients and Redis run outside the namespaces.
	h.ip("link", "add", h.tag, "type", "veth", "peer", "name", "c0", "netns", h.ns(0))
	h.ip("addr", "add", h.client(0)+"/24", "dev", h.tag)
	h.ip("link", "set", h.tag, "up")
	h.in(0, "link", "set", "c0", "master", "clients", "up")
	for i := 1; i <= n; i++ {
		h.ip("netns", "add", h.ns(i))
		t.Cleanup(func() { h.ip("netns", "del", h.ns(i)) })
		h.in(i, "link", "set", "lo", "up")
		for port, bridge := range map[string]string{"c": "clients", "g": "gossip"} {
			link := fmt.Sprint(port, i)
			h.in(0, "link", "add", link, "type", "veth", "peer", "name", bridge, "netns", h.ns(i))
			h.in(0, "link", "set", link, "master", bridge, "up")
			address := h.client(i)
			if port == "g" {
				address = h.gossip(i)
			}
			h.in(i, "addr", "add", address+"/24", "dev", bridge)
			h.in(i, "link", "set", bridge, "up")
		}
	}
	return h
}

func (h *hosts) ns(i int) string       { return fmt.Sprint(h.tag, "-", i) }
func (h *hosts) client(i int) string   { return fmt.Sprintf("10.213.%d.%d", h.clients, 10+i) }
func (h *hosts) gossip(i int) string   { return fmt.Sprintf("10.213.%d.%d", h.clients+1, 10+i) }
func (h *hosts) in(i int, a ...string) { h.t.Helper(); h.ip(append([]string{"-n", h.ns(i)}, a...)...) }

func (h *hosts) ip(args ...string) {
	h.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		h.t.Errorf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// partition sets the gossip link of host i "down" or "up".
func (h *hosts) partition(i int, how string) { h.in(0, "link", "set", fmt.Sprint("g", i), how) }

// run starts a role of usher on host i and returns when it is ready.
func (h *hosts) run(i int, name string, args ...string) *process {
	h.t.Helper()
	args = append([]string{"netns", "exec", h.ns(i), usherBin}, args...)
	p := startProgram(h.t, name, "ip", append(args, "--log-format=json", "--ops="+h.client(i)+":0")...)
	p.awaitStarted()
	return p
}

// forward forwards TCP connections from a new port of the IP address at to the
// address to, and returns the new address.
func forward(t *testing.T, at, to string) string {
	t.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort(at, "0"))
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	t.Cleanup(func() { ln.Close(); <-stopped })
	go func() {
		defer close(stopped)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				c.Close()
				continue
			}
			for a, b := range map[net.Conn]net.Conn{c: far, far: c} {
				go func() {
					_, _ = io.Copy(a, b)
					a.Close()
					b.Close()
				}()
			}
		}
	}()
	return ln.Addr().String()
}

// TestPartition cuts one of three hosts off from the gossip network only. Its node
// must go on serving its clients and get no new ones. Clients that can no longer
// reach it must move, and each session must have one owner. Within 30 s after the
// gossip link is up again all members must know each other.
func TestPartition(t *testing.T) {
	h := newHosts(t, 3)
	if t.Failed() {
		t.FailNow()
	}
	server := redistest.Start(t)
	dir := t.TempDir()
	if out, err := exec.Command(usherBin, "keys", "init", dir).CombinedOutput(); err != nil {
		t.Fatalf("usher keys init: %v\n%s", err, out)
	}
	common := []string{
		"--redis=redis://" + forward(t, h.client(0), server.Addr()) + "/0", "--gossip-key-file=" + filepath.Join(dir, "gossip.key"),
	}
	auth := h.run(1, "auth", append([]string{
		"auth", "--guest", "--listen=" + h.client(1) + ":8080", "--gossip=" + h.gossip(1) + ":7946", "--signing-key=" + filepath.Join(dir, "signing.jwk"),
	}, common...)...)
	nodes := map[string]*process{}
	for i := 1; i <= 3; i++ {
		id := fmt.Sprint("node-", i)
		nodes[id] = h.run(i, id, append([]string{
			"node", "--id=" + id, "--listen=" + h.client(i) + ":7000-7099", "--gossip=" + h.gossip(i) + ":7947-7999",
			"--join=" + auth.gossip, "--jwks=http://" + auth.listen + "/.well-known/jwks.json",
		}, common...)...)
	}
	eligible := func(n int) func() bool {
		return func() bool { return int(auth.metrics()["usher_nodes_eligible"]) == n }
	}
	auth.await("reach the nodes", startTimeout, eligible(3))

	// Some of the clients cannot reach the third host once blocked is closed.
	blocked := make(chan struct{})
	reach := func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, network, addr)
		if err != nil || !strings.HasPrefix(addr, h.client(3)+":") {
			return c, err
		}
		select {
		case <-blocked:
			c.Close()
			return nil, fmt.Errorf("%s is blocked by the test", addr)
		default:
		}
		go func() {
			<-blocked
			c.Close()
		}()
		return c, nil
	}
	config := func(name string) usher.Config {
		return usher.Config{Auth: "http://" + auth.listen, Credentials: usher.Guest(name)}
	}
	clients := startEchoClients(t, 30, 100*time.Millisecond, config)
	lost := startEchoClients(t, 15, 100*time.Millisecond, func(name string) usher.Config {
		c := config("blocked-" + name)
		c.Dial = reach
		return c
	})
	awaitEchoes(t, append(clients, lost...), startTimeout)
	there, _ := splitByNode(clients, "node-3")
	gone, _ := splitByNode(lost, "node-3")
	if len(there) == 0 || len(gone) == 0 {
		t.Fatalf("node-3 has %d clients that can reach it and %d that will be blocked, want some of both", len(there), len(gone))
	}

	h.partition(3, "down")
	cut := time.Now()
	auth.await("stop assigning sessions to node-3", 15*time.Second, eligible(2))
	t.Logf("node-3 got no logins from %.1f s after the cut on", time.Since(cut).Seconds())
	close(blocked)
	awaitMovedFrom(t, gone, "node-3", cut)
	duration := pick(20*time.Second, 60*time.Second)
	for i := 0; time.Since(cut) < duration; i++ {
		a := post(t, "http://"+auth.listen+"/v1/login", "", fmt.Sprintf(`{"method":"guest","credentials":{"name":"new-%d"}}`, i))
		if a.status != 200 || a.at.Node.ID == "node-3" {
			t.Fatalf("a login during the partition: %v, want 200 and another node than node-3", a)
		}
		time.Sleep(100 * time.Millisecond)
	}
	awaitEchoes(t, append(clients, lost...), startTimeout)
	for _, ec := range there {
		if m, ok := ec.since(usher.Detached, cut); ok {
			t.Errorf("%s can reach node-3 and lost its connection: %v", ec.session.SessionID(), m.err)
		}
	}

	h.partition(3, "up")
	healed := time.Now()
	auth.await("know all nodes again", 30*time.Second, func() bool {
		return eligible(3)() && int(auth.metrics()["usher_gossip_members"]) == 4
	})
	for _, p := range nodes {
		p.await("know all members again", 30*time.Second, func() bool { return int(p.metrics()["usher_gossip_members"]) == 4 })
	}
	converged := time.Since(healed)
	awaitEchoes(t, append(clients, lost...), startTimeout)
	checkNoLoss(t, clients)
	// The sessions that moved must have one reset, node_lost: the new node could not
	// fetch their state from node-3 and had only what the store has. They may lose
	// nothing else.
	for _, ec := range lost {
		_, resets, _ := ec.view()
		moved := slices.Contains(gone, ec)
		if err := ec.verify(); err != nil || moved != (len(resets) == 1) || moved && resets[0] != "node_lost" {
			t.Errorf("%s, moved %v: %v, resets %v", ec.session.SessionID(), moved, err, resets)
		}
	}
	// Every session has one owner: all nodes together hold as many attached sessions
	// as there are clients, and node-3 holds none of those that moved.
	await(t, "each session to have one owner", startTimeout, func() bool {
		sum := 0
		for _, p := range nodes {
			sum += int(p.metrics()[`usher_node_sessions{state="attached"}`])
		}
		return sum == len(clients)+len(lost)
	})
	if held := nodes["node-3"].metrics(); int(held[`usher_node_sessions{state="attached"}`]) != len(there) {
		t.Errorf("node-3 serves %v sessions, want the %d that can reach it", held[`usher_node_sessions{state="attached"}`], len(there))
	}
	t.Logf("partitioned for %.0f s: %d clients stayed attached, %d blocked clients moved; converged %.1f s after the end",
		duration.Seconds(), len(there), len(gone), converged.Seconds())
}
