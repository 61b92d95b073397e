// Client is a game client. It says hello to a node.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	usher "github.com/usher-broker/usher/client-sdk/go"
)

func main() {
	ctx := context.Background()
	s, err := usher.Connect(ctx, usher.Config{Auth: os.Args[1], Credentials: usher.Guest("ada")})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close(ctx)
	if err := s.SendText(ctx, "hello"); err != nil {
		log.Fatal(err)
	}
	m, err := s.Receive(ctx)
	fmt.Printf("%s %v\n", m.Data, err)
}
