package upgrade

import (
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/usher-broker/usher/broker/session/redistest"
)

// cluster is two auths and three nodes that share a Redis server. Each process can be
// replaced by one of another binary with the same id and ports.
type cluster struct {
	redis *redistest.Server
	keys  string // file of the signing keys
	front *front
	auths []*member
	nodes []*member
}

// member is a process and what it is started with.
type member struct {
	name string
	args []string
	ops  string
	*process
}

const (
	authCount = 2
	nodeCount = 3
)

// newCluster prepares a cluster whose processes end with the test. b makes its key.
func newCluster(t *testing.T, b binary) *cluster {
	t.Helper()
	c := &cluster{redis: redistest.Start(t), keys: filepath.Join(t.TempDir(), "signing.jwks")}
	if _, err := output(exec.Command(b.path, "keys", "signing", "--out", c.keys)); err != nil {
		t.Fatal(err)
	}
	at := freeAddresses(t, 3*(authCount+nodeCount))
	take := func() string {
		addr := at[0]
		at = at[1:]
		return addr
	}
	var public, gossip []string
	for range authCount {
		public, gossip = append(public, take()), append(gossip, take())
	}
	c.front = startFront(t, public...)
	for i := range authCount {
		c.auths = append(c.auths, &member{name: fmt.Sprint("auth-", i+1), ops: take(), args: []string{
			"auth", "--guest", "--listen=" + public[i], "--gossip=" + gossip[i], "--join=" + gossip[0] + "," + gossip[1],
			"--redis=" + c.redis.URL(), "--signing-key=" + c.keys,
		}})
	}
	for i := range nodeCount {
		id := fmt.Sprint("node-", i+1)
		c.nodes = append(c.nodes, &member{name: id, ops: take(), args: []string{
			"node", "--id=" + id, "--listen=" + take(), "--gossip=" + take(), "--join=" + gossip[0] + "," + gossip[1],
			"--redis=" + c.redis.URL(), "--jwks=" + c.front.url() + "/.well-known/jwks.json",
			"--drain-window=1s", "--drain-timeout=15s",
		}})
	}
	t.Cleanup(func() {
		for _, m := range c.members() {
			if m.process != nil {
				m.kill()
			}
		}
	})
	return c
}

func (c *cluster) members() []*member { return slices.Concat(c.auths, c.nodes) }

// start starts every process with the binary, and waits until each auth can assign
// sessions to each node.
func (c *cluster) start(b binary) error {
	for _, m := range c.members() {
		if err := m.start(b); err != nil {
			return err
		}
	}
	return c.awaitReady()
}

// replace ends the process as an operator does, and starts it again with the binary.
func (c *cluster) replace(m *member, b binary) error {
	if err := m.stop(); err != nil {
		return err
	}
	if err := m.start(b); err != nil {
		return err
	}
	return c.awaitReady()
}

func (m *member) start(b binary) (err error) {
	m.process, err = start(b, m.name, m.ops, m.args...)
	return err
}

func (c *cluster) awaitReady() error {
	for _, m := range c.members() {
		if err := m.awaitReady(); err != nil {
			return err
		}
	}
	for _, m := range c.auths {
		if err := m.awaitNodes(nodeCount); err != nil {
			return err
		}
	}
	return nil
}

// check returns an error if a process has printed that it failed.
func (c *cluster) check() error {
	var errs []error
	for _, m := range c.members() {
		if m.process != nil {
			errs = append(errs, m.output.check(m.process.name))
		}
	}
	return errors.Join(errs...)
}

// freeAddresses returns n addresses on loopback whose ports are free for TCP and UDP.
func freeAddresses(t *testing.T, n int) []string {
	t.Helper()
	var list []string
	for len(list) < n {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer tcp.Close() // all at the end, so that no port is returned twice
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		if err != nil {
			continue
		}
		defer udp.Close()
		list = append(list, tcp.Addr().String())
	}
	return list
}
