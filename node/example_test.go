package node_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"sync"
	"time"

	"github.com/usher-broker/usher/broker/session/memory"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/node"
	"github.com/usher-broker/usher/proto"
)

// Chat is an application that sends what one player says to all players on this node.
type Chat struct {
	mu   sync.Mutex
	here map[*node.Session]bool
}

func (c *Chat) Opened(s *node.Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.here[s] = true
}

func (c *Chat) Message(s *node.Session, m node.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for other := range c.here {
		line := fmt.Appendf(nil, "%s: %s", s.User, m.Data)
		if err := other.Send(node.Message{Data: line, Text: true}); err != nil {
			log.Printf("%s misses a line: %v", other.User, err) // too slow, or away for too long
		}
	}
}

func (c *Chat) Closed(s *node.Session, _ proto.CloseCode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.here, s)
}

func (c *Chat) Detached(*node.Session)          {} // messages sent from now on are kept
func (c *Chat) Resumed(*node.Session)           {} // and were delivered
func (c *Chat) Reset(*node.Session, node.Reset) {} // or were not: a line or two is missing

// A node with its own application, on one machine. A node of a cluster keeps its
// sessions in Redis and joins the other members: see examples/counter.
func Example() {
	ctx := context.Background()
	keys, err := token.OpenJWKS(ctx, "http://127.0.0.1:8080/.well-known/jwks.json", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer keys.Close()
	n, err := node.New(node.Config{
		ID: "node-1", App: &Chat{here: map[*node.Session]bool{}},
		Store: memory.New(time.Now), Verifier: &token.Verifier{Keys: keys},
	})
	if err != nil {
		log.Fatal(err)
	}
	go n.Run(ctx)
	log.Fatal(http.ListenAndServe("127.0.0.1:7001", n.Handler()))
}

// An application ends a session with its own close code. The client gets the code and
// does not come back.
func ExampleSession_Close() {
	const matchOver proto.CloseCode = 4500
	end := func(s *node.Session, score int) {
		_ = s.Send(node.Message{Data: fmt.Appendf(nil, "%d", score), Text: true}) // arrives before the close
		if err := s.Close(matchOver, "match over"); err != nil {
			log.Print(err) // it had already ended
		}
	}
	_ = end
}

// Positions are sent as volatile messages: a client that is detached or slow gets the
// next ones.
func ExampleSession_Send_volatile() {
	move := func(s *node.Session, x, y byte) error {
		return s.Send(node.Message{Data: []byte{x, y}, Volatile: true})
	}
	_ = move
}
