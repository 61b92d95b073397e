package upgrade

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
)

// visitors log in one after another all the time. Each exchanges one message and leaves.
type visitors struct {
	auth string
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu       sync.Mutex
	done     int // visits that succeeded
	retries  int // logins that auth asked to repeat
	failures []error
}

const visitInterval = 100 * time.Millisecond

func startVisitors(auth string) *visitors {
	ctx, stop := context.WithCancel(context.Background())
	v := &visitors{auth: auth, stop: stop}
	v.wg.Go(func() {
		for n := 1; ctx.Err() == nil; n++ {
			tries, err := v.visit(ctx, fmt.Sprint("visitor-", n))
			if ctx.Err() == nil {
				v.note(tries, err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(visitInterval):
			}
		}
	})
	return v
}

func (v *visitors) visit(ctx context.Context, name string) (tries int, err error) {
	s, tries, err := connect(ctx, usher.Config{Auth: v.auth, Credentials: usher.Guest(name)})
	if err != nil {
		return tries, fmt.Errorf("login of %s: %w", name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	err = s.SendText(ctx, name)
	if err == nil {
		var m usher.Message
		if m, err = s.Receive(ctx); err == nil && string(m.Data) != name {
			err = fmt.Errorf("the echo is %q", m.Data)
		}
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	out, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	return tries, errors.Join(err, s.Close(out))
}

func (v *visitors) note(tries int, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.retries += tries - 1
	switch {
	case err == nil:
		v.done++
	case len(v.failures) < 3:
		v.failures = append(v.failures, err)
	}
}

func (v *visitors) check() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return errors.Join(v.failures...)
}

func (v *visitors) close() {
	v.stop()
	v.wg.Wait()
}
