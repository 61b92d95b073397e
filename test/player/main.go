// Player is a client for `usher conformance`, written with the Go SDK. It sends 1 to
// 30 and receives messages until its session ends. With USHER_NAIVE set it is a client
// that does not resume, which must fail.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
)

func main() {
	ctx := context.Background()
	if os.Getenv("USHER_NAIVE") != "" {
		fmt.Fprintln(os.Stderr, naive(ctx, os.Getenv("USHER_AUTH"), os.Getenv("USHER_NAME")))
		return
	}
	s, err := usher.Connect(ctx, usher.Config{Auth: os.Getenv("USHER_AUTH"), Credentials: usher.Guest(os.Getenv("USHER_NAME"))})
	if err != nil {
		fmt.Fprintln(os.Stderr, err) // a session may end before it was attached
		return
	}
	defer s.Close(ctx) // waits until the last messages are sent
	go func() {
		for i := 1; i <= 30 && s.SendText(ctx, strconv.Itoa(i)) == nil; i++ {
			time.Sleep(20 * time.Millisecond)
		}
	}()
	for {
		if _, err := s.Receive(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return
		}
	}
}
