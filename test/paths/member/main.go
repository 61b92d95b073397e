// Member is one member of the cluster that the command paths measures: an auth or a
// node. It is built with coverage counters, and reads commands from standard input,
// one a line. It answers each with one line: "ok", "ok" with a value, or "error" with a
// text. It exits when standard input ends.
//
//	clear         sets all counters to zero
//	write DIR     writes the counters to the directory
//	nodes         the number of nodes that may get sessions (auth only)
//	drain NODE    drains a node, which stays in the cluster (auth only)
//	undrain NODE  cancels the drain (auth only)
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/coverage"
	"strings"
	"time"

	"github.com/usher-broker/usher/auth/credential"
	authserve "github.com/usher-broker/usher/auth/serve"
	"github.com/usher-broker/usher/broker/cluster"
	"github.com/usher-broker/usher/broker/process"
	brokerserve "github.com/usher-broker/usher/broker/serve"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/node"
	nodeserve "github.com/usher-broker/usher/node/serve"
	"github.com/usher-broker/usher/proto"
)

func main() {
	var m member
	flag.StringVar(&m.node, "node", "", "id of the node; empty for an auth")
	flag.StringVar(&m.redis, "redis", "", "address of Redis")
	flag.StringVar(&m.auth, "auth", "", "address of the login API, for a node")
	flag.StringVar(&m.join, "join", "", "gossip address of the auth, for a node")
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	start := m.startNode
	if m.node == "" {
		start = m.startAuth
	}
	ready, err := start(log)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println("ok", ready)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		value, err := m.execute(in.Text())
		if err != nil {
			fmt.Println("error", err)
			continue
		}
		fmt.Println("ok", value)
	}
}

type member struct {
	node, redis, auth, join string

	broker *brokerserve.Broker // nil in a node
}

// startAuth starts an auth and returns its two addresses: login API and gossip.
func (m *member) startAuth(log *slog.Logger) (string, error) {
	registry := process.NewRegistry()
	store, err := process.StoreFlags{Redis: m.redis}.OpenStore(registry)
	if err != nil {
		return "", err
	}
	keys, err := token.NewKeySet()
	if err != nil {
		return "", err
	}
	m.broker, err = brokerserve.Start(brokerserve.Options{
		PlacementFlags: brokerserve.PlacementFlags{
			DuplicateLogins: []string{"replace"}, Placement: []string{"least"},
			ProbeFlags: brokerserve.ProbeFlags{Probe: "http", ProbeInterval: 2 * time.Second, ProbeTimeout: time.Second, ProbeOut: 3, ProbeIn: 2},
		},
		Role: proto.RoleAuth, Gossip: cluster.Config{Bind: "127.0.0.1:0", Label: "paths"},
		Store: store, Signer: keys, TokenTTL: time.Hour, QueueLimit: 1000, Registry: registry, Logger: log,
	})
	if err != nil {
		return "", err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	login, err := authserve.Start(authserve.Options{
		Listener: ln, Limits: &process.LimitFlags{MaxConnectionsPerAddress: 100}, Broker: m.broker.Broker, Keys: keys, Failures: store,
		Providers: map[string]credential.Provider{"guest": credential.Guest{}}, Registry: registry, Origins: []string{"*"}, Logger: log,
	})
	if err != nil {
		return "", err
	}
	return login.Addr() + " " + m.broker.Cluster.Addr(), nil
}

// startNode starts a node that echoes. Its pings are frequent, so that a control run
// has some.
func (m *member) startNode(log *slog.Logger) (string, error) {
	n := make(chan error, 1)
	go func() {
		n <- nodeserve.Run(context.Background(), node.Echo{}, nodeserve.Config{
			GossipFlags: process.GossipFlags{Gossip: "127.0.0.1:0", Join: []string{m.join}, GossipLabel: "paths"},
			StoreFlags:  process.StoreFlags{Redis: m.redis},
			NodeFlags:   nodeserve.NodeFlags{PingInterval: 2 * time.Second},
			ID:          m.node, Listen: "127.0.0.1:0", JWKS: "http://" + m.auth + "/.well-known/jwks.json",
			KeepDrained: true, Logger: log,
		})
	}()
	select {
	case err := <-n:
		return "", err
	case <-time.After(500 * time.Millisecond): // the auth reports when it knows the node
		return m.node, nil
	}
}

func (m *member) execute(line string) (value string, err error) {
	command, arg, _ := strings.Cut(line, " ")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	switch command {
	case "clear":
		return "", coverage.ClearCounters()
	case "write":
		if err := coverage.WriteMetaDir(arg); err != nil {
			return "", err
		}
		return "", coverage.WriteCountersDir(arg)
	}
	if m.broker == nil {
		return "", fmt.Errorf("a node has no command %q", command)
	}
	switch command {
	case "nodes":
		n := 0
		for _, v := range m.broker.Nodes() {
			if v.Eligible() {
				n++
			}
		}
		return fmt.Sprint(n), nil
	case "drain":
		return "", m.broker.Drain(ctx, arg, proto.DrainRequest{WindowMS: 500, Keep: true})
	case "undrain":
		return "", m.broker.Undrain(ctx, arg)
	}
	return "", fmt.Errorf("there is no command %q", command)
}
