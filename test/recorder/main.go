// Recorder is a node for tests. Its application writes every message that it
// receives to a file, with the time, and echoes it.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/usher-broker/usher/broker/cluster"
	"github.com/usher-broker/usher/broker/session/redis"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/node"
	"github.com/usher-broker/usher/proto"
)

// recorder writes one line for each message: Unix nanoseconds, session id, message.
type recorder struct {
	node.Echo

	mu  sync.Mutex
	out *os.File
}

func (r *recorder) Message(s *node.Session, m node.Message) {
	r.mu.Lock()
	_, err := fmt.Fprintf(r.out, "%d %s %s\n", time.Now().UnixNano(), s.ID, m.Data)
	r.mu.Unlock()
	if err != nil {
		log.Fatal(err)
	}
	r.Echo.Message(s, m)
}

func main() {
	var (
		id     = flag.String("id", "", "id of the node")
		listen = flag.String("listen", "127.0.0.1:0", "address that clients attach to")
		gossip = flag.String("gossip", "127.0.0.1:0", "address for gossip")
		join   = flag.String("join", "", "gossip address of another member")
		jwks   = flag.String("jwks", "", "URL or file of the public keys that verify tokens")
		store  = flag.String("redis", "", "URL of Redis, which holds the sessions")
		out    = flag.String("out", "", "file to append the messages to")
		ping   = flag.Duration("ping-interval", time.Second, "ping a client that has sent nothing for this long")
	)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *id, *listen, *gossip, *join, *jwks, *store, *out, *ping); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, id, listen, gossip, join, jwks, address, out string, ping time.Duration) error {
	logger := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	file, err := os.OpenFile(out, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	store, err := redis.Open(address, redis.Options{})
	if err != nil {
		return err
	}
	defer store.Close()
	keys, err := token.OpenJWKS(ctx, jwks, logger)
	if err != nil {
		return err
	}
	defer keys.Close()
	const sessions = 10_000
	n, err := node.New(node.Config{
		ID: id, App: &recorder{out: file}, Store: store, Verifier: &token.Verifier{Keys: keys},
		MaxSessions: sessions, PingInterval: ping, Logger: logger,
	})
	if err != nil {
		return err
	}
	go n.Run(ctx)
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: n.Handler(), ReadHeaderTimeout: 5 * time.Second}
	go server.Serve(ln)
	url := "ws://" + ln.Addr().String() + proto.ConnectPath
	members, err := cluster.Join(ctx, cluster.Config{
		Bind: gossip, Join: []string{join}, Label: "usher", Logger: logger, Handle: n.Command,
		Self: proto.Peer{
			ID: id, Role: proto.RoleNode, State: proto.StateReady, URL: url, Pool: proto.DefaultPool,
			Capacity: sessions, Generation: uint64(time.Now().UnixMilli()), Version: "recorder",
		},
	})
	if err != nil {
		return err
	}
	go members.RunReporter(ctx, n)
	logger.Info("recorder runs", "node", id, "url", url, "gossip", members.Addr())
	<-ctx.Done()
	end, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = n.Shutdown(end)
	return members.Leave(time.Second)
}
