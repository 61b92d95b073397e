// Counter is a whole node of a cluster with an application of its own, to copy:
// each session has a number, and every message adds one to it.
//
//	USHER_REDIS=redis://127.0.0.1:6379/0 go run ./node/examples/counter -listen 127.0.0.1:7009 -join 127.0.0.1:7946
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
	"strconv"
	"syscall"
	"time"

	"github.com/usher-broker/usher/broker/cluster"
	"github.com/usher-broker/usher/broker/session/redis"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/node"
	"github.com/usher-broker/usher/proto"
)

// counter is the application. Calls for one session never overlap, so what
// hangs on a session needs no lock.
type counter struct{}

func (counter) Opened(s *node.Session) { s.Data = new(int) }

func (counter) Message(s *node.Session, _ node.Message) {
	n := s.Data.(*int)
	*n++
	if err := s.Send(node.Message{Data: fmt.Append(nil, *n), Text: true}); err != nil {
		log.Printf("%s: %v", s.User, err)
	}
}

func (counter) Detached(*node.Session)                {}
func (counter) Resumed(*node.Session)                 {}
func (counter) Reset(*node.Session, node.Reset)       {}
func (counter) Closed(*node.Session, proto.CloseCode) {}

// Snapshot and Restore make counter a node.Mover: when this node stops, its
// sessions continue at another one, and so does the number.

func (counter) Snapshot(s *node.Session) ([]byte, error) {
	return strconv.AppendInt(nil, int64(*s.Data.(*int)), 10), nil
}

func (counter) Restore(s *node.Session, snapshot []byte) error {
	n, err := strconv.Atoi(string(snapshot))
	if err == nil {
		*s.Data.(*int) = n
	}
	return err
}

func main() {
	listen := flag.String("listen", "127.0.0.1:7009", "address clients attach to")
	join := flag.String("join", "127.0.0.1:7946", "gossip address of another member")
	jwks := flag.String("jwks", "http://127.0.0.1:8080/.well-known/jwks.json", "public keys of tokens")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *listen, *join, *jwks); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, listen, join, jwks string) error {
	store, err := redis.Open(os.Getenv("USHER_REDIS"), redis.Options{})
	if err != nil {
		return err
	}
	defer store.Close()
	keys, err := token.OpenJWKS(ctx, jwks, slog.Default())
	if err != nil {
		return err
	}
	defer keys.Close()
	const id, sessions = "counter-1", 1000
	n, err := node.New(node.Config{
		ID: id, App: counter{}, Store: store, Verifier: &token.Verifier{Keys: keys}, MaxSessions: sessions,
	})
	if err != nil {
		return err
	}
	go n.Run(ctx)

	// Be there before others hear of it.
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: n.Handler(), ReadHeaderTimeout: 5 * time.Second}
	go server.Serve(ln)

	members, err := cluster.Join(ctx, cluster.Config{
		Bind: "127.0.0.1:0", Join: []string{join}, Label: "usher", Logger: slog.Default(), Handle: n.Command,
		Self: proto.Peer{
			ID: id, Role: proto.RoleNode, State: proto.StateReady, URL: "ws://" + ln.Addr().String() + proto.ConnectPath,
			Pool: proto.DefaultPool, Capacity: sessions, Generation: uint64(time.Now().UnixMilli()), Version: "counter",
		},
	})
	if err != nil {
		return err
	}
	go members.RunReporter(ctx, n)
	<-ctx.Done()

	// Nobody new, everybody asked to leave and out with their streams, then the
	// doors.
	n.Drain(node.DrainPlan{})
	<-n.Drained() // at the latest after DrainPlan.Timeout
	end, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err = n.Shutdown(end)
	if err := members.Leave(2 * time.Second); err != nil {
		log.Print(err)
	}
	server.Shutdown(end)
	return err
}
