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

// hosts are machines with two networks, one for clients and one for gossip: each
// is a namespace of this machine. The switch between them is one too, so that
// the firewall of this machine has no say.
type hosts struct {
	t       *testing.T
	tag     string
	clients int // third byte of the clients' network; gossip's is the next
}

func newHosts(t *testing.T, n int) *hosts {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make network namespaces")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs ip (Debian: iproute2)")
	}
	h := &hosts{t: t, tag: fmt.Sprintf("us%x", os.Getpid()&0xffff), clients: 2 * (os.Getpid() % 100)}
	if out, err := exec.Command("ip", "netns", "add", h.ns(0)).CombinedOutput(); err != nil {
		if os.Getenv("USHER_SLOW") == "" {
			t.Skipf("no network namespaces here: %s", out)
		}
		t.Fatalf("ip netns add: %v\n%s", err, out)
	}
	t.Cleanup(func() { h.ip("netns", "del", h.ns(0)) })
	for _, bridge := range []string{"clients", "gossip"} {
		h.in(0, "link", "add", bridge, "type", "bridge")
		h.in(0, "link", "set", bridge, "up")
	}
	// This machine is where the clients and Redis are.
	h.ip("link", "add", h.tag, "type", "veth", "peer", "name", "c0", "netns", h.ns(0))
	h.ip("addr", "add", h.client(0)+"/24", "dev", h.tag)
	h.ip("link", "set", h.tag, "up")
	h.in(0, "link", "set", "c0", "master", "clients", "up")
	for i := 1; i <= n; i++ {
		h.ip("netns", "add", h.ns(i))
		t.Cleanup(func() { h.ip("netns", "del", h.ns(i)) })
		h.in(i, "link", "set", "lo", "up")
		for port, bridge := range map[string]string{"c": "clients", "g": "gossip"} {
			there := fmt.Sprint(port, i)
			h.in(0, "link", "add", there, "type", "veth", "peer", "name", bridge, "netns", h.ns(i))
			h.in(0, "link", "set", there, "master", bridge, "up")
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

// partition takes the gossip from a host, or gives it back.
func (h *hosts) partition(i int, how string) { h.in(0, "link", "set", fmt.Sprint("g", i), how) }

// run starts a role on a host.
func (h *hosts) run(i int, name string, args ...string) *process {
	h.t.Helper()
	args = append([]string{"netns", "exec", h.ns(i), usherBin}, args...)
	p := startProgram(h.t, name, "ip", append(args, "--log-format=json", "--ops="+h.client(i)+":0")...)
	p.awaitRuns()
	return p
}

// carry has an address lead to another.
func carry(t *testing.T, at, to string) string {
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

// TestPartition cuts one of three hosts off from the gossip, and nothing else. It
// goes on to serve its clients; nobody new is sent there; clients that cannot
// reach it any more are served elsewhere, by one node alone; and when the gossip
// is back all is as before.
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
		"--redis=redis://" + carry(t, h.client(0), server.Addr()) + "/0", "--gossip-key-file=" + filepath.Join(dir, "gossip.key"),
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
	auth.await("reach the nodes", starts, eligible(3))

	// Some of the clients lose sight of the third host while it is cut off.
	blind := make(chan struct{})
	reach := func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, network, addr)
		if err != nil || !strings.HasPrefix(addr, h.client(3)+":") {
			return c, err
		}
		select {
		case <-blind:
			c.Close()
			return nil, fmt.Errorf("no way to %s", addr)
		default:
		}
		go func() {
			<-blind
			c.Close()
		}()
		return c, nil
	}
	config := func(name string) usher.Config {
		return usher.Config{Auth: "http://" + auth.listen, Credentials: usher.Guest(name)}
	}
	list := talkers(t, 30, 100*time.Millisecond, config)
	lost := talkers(t, 15, 100*time.Millisecond, func(name string) usher.Config {
		c := config("blind-" + name)
		c.Dial = reach
		return c
	})
	awaitEchoes(t, append(list, lost...), starts)
	there, _ := divide(list, "node-3")
	gone, _ := divide(lost, "node-3")
	if len(there) == 0 || len(gone) == 0 {
		t.Fatalf("node-3 has %d and %d clients", len(there), len(gone))
	}

	h.partition(3, "down")
	cut := time.Now()
	auth.await("send nobody there", 15*time.Second, eligible(2))
	t.Logf("the last login may have been sent there after %.1f s", time.Since(cut).Seconds())
	close(blind)
	awaitElsewhere(t, gone, "node-3", cut)
	length := pick(20*time.Second, 60*time.Second)
	for i := 0; time.Since(cut) < length; i++ {
		a := post(t, "http://"+auth.listen+"/v1/login", "", fmt.Sprintf(`{"method":"guest","credentials":{"name":"new-%d"}}`, i))
		if a.status != 200 || a.at.Node.ID == "node-3" {
			t.Fatalf("a login during the partition: %v", a)
		}
		time.Sleep(100 * time.Millisecond)
	}
	awaitEchoes(t, append(list, lost...), starts)
	for _, tk := range there {
		if m, ok := tk.since(usher.Detached, cut); ok {
			t.Errorf("%s was cut off from its node, which it can reach: %v", tk.session.SessionID(), m.err)
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
	awaitEchoes(t, append(list, lost...), starts)
	unharmed(t, list)
	// Those that moved could take along only what the store had: their node can be
	// asked for nothing. They are told so, and lose nothing else.
	for _, tk := range lost {
		_, resets, _ := tk.view()
		moved := slices.Contains(gone, tk)
		if err := tk.fault(); err != nil || moved != (len(resets) == 1) || moved && resets[0] != "node_lost" {
			t.Errorf("%s, moved %v: %v, resets %v", tk.session.SessionID(), moved, err, resets)
		}
	}
	// Every session has one owner: all nodes together hold as many attached ones
	// as there are clients, and the third has none of those that have left it.
	await(t, "each session to have one owner", starts, func() bool {
		sum := 0
		for _, p := range nodes {
			sum += int(p.metrics()[`usher_node_sessions{state="attached"}`])
		}
		return sum == len(list)+len(lost)
	})
	if held := nodes["node-3"].metrics(); int(held[`usher_node_sessions{state="attached"}`]) != len(there) {
		t.Errorf("node-3 serves %v sessions, want the %d that can reach it", held[`usher_node_sessions{state="attached"}`], len(there))
	}
	t.Logf("cut off for %.0f s: %d clients stayed and talked on, %d that could not reach it moved; converged %.1f s after it was over",
		length.Seconds(), len(there), len(gone), converged.Seconds())
}
