package containers

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
)

// crowd is many clients that talk all the time, and somebody who logs in again
// and again.
type crowd struct {
	t       *testing.T
	auth    string
	ctx     context.Context // ends when they stop to send
	list    []*member
	stop    context.CancelFunc
	senders sync.WaitGroup
	resets  atomic.Int64

	login, refused, failed atomic.Int64 // logins taken, answered with a problem, and not answered
}

// member is a client of the crowd.
type member struct {
	session *usher.Session
	sent    atomic.Int64

	got, doubled, lost, moved atomic.Int64
}

// pause is the time between two messages of a client.
const pause = time.Second

// gather returns a crowd of nobody, with the one who logs in again and again.
func gather(t *testing.T, auth string) *crowd {
	c := &crowd{t: t, auth: auth}
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.senders.Go(c.logIn)
	t.Cleanup(func() {
		c.stop()
		c.senders.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		for _, m := range c.list {
			_ = m.session.Close(ctx) // the cluster may be gone
		}
	})
	return c
}

// add has so many more clients come and talk.
func (c *crowd) add(n int) {
	c.t.Helper()
	for range n {
		m := &member{}
		s, err := usher.Connect(c.ctx, usher.Config{
			Auth: c.auth, Credentials: usher.Guest("crowd" + strconv.Itoa(len(c.list))),
			OnReset: func(usher.Reset) { c.resets.Add(1) },
		})
		if err != nil {
			c.t.Fatalf("client %d: %v", len(c.list), err)
		}
		m.session = s
		c.list = append(c.list, m)
		c.senders.Go(func() { m.send(c.ctx) })
		go m.receive()
	}
}

func (m *member) send(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		// With its own context: a message that is under way is not taken back.
		bound, cancel := context.WithTimeout(context.Background(), patience)
		err := m.session.SendText(bound, strconv.FormatInt(m.sent.Load()+1, 10))
		cancel()
		if err == nil {
			m.sent.Add(1)
		}
	}
}

func (m *member) receive() {
	home := m.session.Node()
	for {
		msg, err := m.session.Receive(context.Background())
		if err != nil {
			return
		}
		if now := m.session.Node(); now != home {
			home = now
			m.moved.Add(1)
		}
		i, _ := strconv.ParseInt(string(msg.Data), 10, 64)
		switch next := m.got.Load() + 1; {
		case i < next:
			m.doubled.Add(1)
		default:
			m.lost.Add(i - next)
			m.got.Store(i)
		}
	}
}

func (c *crowd) logIn() {
	for i := 0; ; i++ {
		select {
		case <-c.ctx.Done():
			return
		case <-time.After(200 * time.Millisecond):
		}
		body := fmt.Sprintf(`{"method":"guest","credentials":{"name":"guest%d"}}`, i)
		resp, err := http.Post(c.auth+"/v1/login", "application/json", strings.NewReader(body))
		if err != nil {
			c.failed.Add(1)
			continue
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			c.login.Add(1)
		} else {
			c.refused.Add(1)
		}
	}
}

// within reports whether all clients are on these nodes.
func (c *crowd) within(nodes map[string]bool) bool {
	for _, m := range c.list {
		if m.session.State() != usher.Attached || !nodes[m.session.Node()] {
			return false
		}
	}
	return true
}

// told waits until all that was sent by now has been answered, and says what has
// become of it.
func (c *crowd) told(when string) {
	c.t.Helper()
	until := make([]int64, len(c.list))
	for i, m := range c.list {
		until[i] = m.sent.Load()
	}
	await(c.t, "all echoes, "+when, time.Minute, func() bool {
		for i, m := range c.list {
			if m.got.Load() < until[i] {
				return false
			}
		}
		return true
	})
	count := map[string]int{}
	var sent, lost, doubled, moved, resumes int64
	for _, m := range c.list {
		count[m.session.Node()]++
		sent += m.got.Load()
		lost += m.lost.Load()
		doubled += m.doubled.Load()
		moved += m.moved.Load()
		resumes += int64(m.session.Stats().Resumes)
	}
	c.t.Logf("%s: %d clients, %d messages there and back, lost %d, doubled %d, resets %d; moved %d, resumed %d; logins %d, refused %d, unanswered %d; %v",
		when, len(c.list), sent, lost, doubled, c.resets.Load(), moved, resumes, c.login.Load(), c.refused.Load(), c.failed.Load(), count)
	if lost+doubled+c.resets.Load() != 0 {
		c.t.Errorf("%s: lost %d, doubled %d, resets %d", when, lost, doubled, c.resets.Load())
	}
}

// settle has them stop, and looks at what came of everything.
func (c *crowd) settle() {
	c.t.Helper()
	c.stop()
	c.senders.Wait()
	c.told("in the end")
}
