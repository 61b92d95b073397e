// Game is a development cluster with an application, and a player who says hello.
package main

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
	"github.com/usher-broker/usher/node"
	"github.com/usher-broker/usher/node/dev"
	"github.com/usher-broker/usher/proto"
)

type game struct{}

func (game) Opened(*node.Session) {}
func (game) Message(s *node.Session, m node.Message) {
	_ = s.Send(node.Message{Data: append([]byte("echo: "), m.Data...), Text: m.Text})
}
func (game) Detached(*node.Session)                {}
func (game) Resumed(*node.Session)                 {}
func (game) Reset(*node.Session, node.Reset)       {}
func (game) Closed(*node.Session, proto.CloseCode) {}

func main() {
	if err := play(); err != nil {
		log.Fatal(err)
	}
}

func play() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cluster, err := dev.Start(game{}, dev.Config{
		Nodes: 2, Auth: "127.0.0.1:0", API: "127.0.0.1:0", Ops: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	defer cluster.Close()
	s, err := usher.Connect(ctx, usher.Config{Auth: "http://" + cluster.AuthAddr(), Credentials: usher.Guest("ada")})
	if err != nil {
		return err
	}
	defer s.Close(ctx)
	if err := s.SendText(ctx, "hello"); err != nil {
		return err
	}
	m, err := s.Receive(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("%s\n", m.Data)
	return nil
}
