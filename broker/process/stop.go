package process

import (
	"context"
	"time"
)

// Closers collects what has to be closed. The zero value is ready to use. It is
// not safe for concurrent use.
type Closers []func()

// Add adds a function for Close to call.
func (c *Closers) Add(f func()) { *c = append(*c, f) }

// Close calls the functions in the reverse order of their addition, each once.
func (c *Closers) Close() {
	for i := len(*c) - 1; i >= 0; i-- {
		(*c)[i]()
	}
	*c = nil
}

// Start runs f in a goroutine. The function it returns cancels f's context and
// waits until f has returned.
func Start(f func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(ctx)
	}()
	return func() { cancel(); <-done }
}

// Every calls f once per interval until ctx ends.
func Every(ctx context.Context, interval time.Duration, f func()) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f()
		}
	}
}
