package usher_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
)

// Log in, send a message, and receive until the session has ended. The session
// handles cuts, resumes and moves to another node.
func Example() {
	ctx := context.Background()
	s, err := usher.Connect(ctx, usher.Config{Auth: "https://auth.example.com", Credentials: usher.Guest("ada")})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close(ctx)
	err = s.SendText(ctx, "hello")
	for err == nil {
		var m usher.Message
		if m, err = s.Receive(ctx); err == nil {
			fmt.Printf("%s\n", m.Data)
		}
	}
	log.Print(err) // why the session has ended
}

// Show the state to the player, and send the messages again that a lost node may not
// have handled.
func ExampleConfig() {
	s, err := usher.Connect(context.Background(), usher.Config{
		Auth: "https://auth.example.com", Credentials: usher.Password("ada", "s3cret"),
		OnState: func(c usher.StateChange) {
			fmt.Println(c.State, c.Node, c.Err)
		},
		OnReset: func(r usher.Reset) {
			for _, m := range r.Unconfirmed {
				if err := r.Session.TrySend(m.Data); err != nil {
					fmt.Println("not sent again:", err)
				}
			}
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	_, err = s.Receive(context.Background())
	var ended *usher.EndedError
	if errors.As(err, &ended) {
		fmt.Println("ended with code", ended.Code)
	}
}

// Positions are soon replaced: send them as volatile messages, which are dropped
// while there is no connection.
func ExampleSession_SendVolatile() {
	s, err := usher.Connect(context.Background(), usher.Config{Auth: "https://auth.example.com", Credentials: usher.Guest("ada")})
	if err != nil {
		log.Fatal(err)
	}
	for x := range byte(100) {
		if err := s.SendVolatile([]byte{x, 7}); err != nil {
			log.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	fmt.Println(s.Stats().VolatileDropped, "were dropped")
}
