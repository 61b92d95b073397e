// Counter is a whole game server, to copy: every message of a player adds 1 to the
// player's number, which moves along when the session moves to another node.
//
//	export USHER_REDIS=redis://127.0.0.1:6379 USHER_GOSSIP_KEY=…  # that of the other members
//	go run ./node/examples/counter --listen 127.0.0.1:7009 --gossip 127.0.0.1:7959 \
//		--join 127.0.0.1:7946 --jwks http://127.0.0.1:8080/.well-known/jwks.json
package main

import (
	"strconv"

	"github.com/usher-broker/usher/node"
	"github.com/usher-broker/usher/node/serve"
	"github.com/usher-broker/usher/proto"
)

func main() { serve.Main(counter{}) } // dev.Main(counter{}) runs a whole cluster, without Redis

type counter struct{}

func (counter) Opened(s *node.Session) { s.Data = new(int) }
func (counter) Message(s *node.Session, _ node.Message) {
	n := s.Data.(*int)
	*n++
	_ = s.Send(node.Message{Data: strconv.AppendInt(nil, int64(*n), 10), Text: true})
}
func (counter) Detached(*node.Session)                {}
func (counter) Resumed(*node.Session)                 {}
func (counter) Reset(*node.Session, node.Reset)       {}
func (counter) Closed(*node.Session, proto.CloseCode) {}

// Snapshot and Restore make counter a node.Mover.
func (counter) Snapshot(s *node.Session) ([]byte, error) {
	return strconv.AppendInt(nil, int64(*s.Data.(*int)), 10), nil
}

func (counter) Restore(s *node.Session, snapshot []byte) (err error) {
	*s.Data.(*int), err = strconv.Atoi(string(snapshot))
	return err
}
