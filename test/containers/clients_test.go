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

// clients holds many clients that send messages all the time, and a goroutine that logs
// in repeatedly.
type clients struct {
	t       *testing.T
	auth    string
	ctx     context.Context // ends when the clients stop sending
	list    []*client
	stop    context.CancelFunc
	senders sync.WaitGroup
	resets  atomic.Int64

	login, refused, failed atomic.Int64 // logins that succeeded, got another status, and got no answer
}

// client is one session that sends numbers and checks their echoes.
type client struct {
	session *usher.Session
	sent    atomic.Int64

	got, duplicated, lost, moved atomic.Int64
}

// sendInterval is the time between two messages of a client.
const sendInterval = time.Second

// newClients starts the repeated logins. It returns no clients yet: add adds them.
func newClients(t *testing.T, auth string) *clients {
	c := &clients{t: t, auth: auth}
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.senders.Go(c.logIn)
	t.Cleanup(func() {
		c.stop()
		c.senders.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		for _, cl := range c.list {
			_ = cl.session.Close(ctx) // the cluster may be gone
		}
	})
	return c
}

// add adds n clients.
func (c *clients) add(n int) {
	c.t.Helper()
	for range n {
		cl := &client{}
		s, err := usher.Connect(c.ctx, usher.Config{
			Auth: c.auth, Credentials: usher.Guest("client" + strconv.Itoa(len(c.list))),
			OnReset: func(usher.Reset) { c.resets.Add(1) },
		})
		if err != nil {
			c.t.Fatalf("client %d: %v", len(c.list), err)
		}
		cl.session = s
		c.list = append(c.list, cl)
		c.senders.Go(func() { cl.send(c.ctx) })
		go cl.receive()
	}
}

func (c *client) send(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(sendInterval):
		}
		// Not with ctx: a message that is being sent must not be canceled.
		sendCtx, cancel := context.WithTimeout(context.Background(), waitLimit)
		err := c.session.SendText(sendCtx, strconv.FormatInt(c.sent.Load()+1, 10))
		cancel()
		if err == nil {
			c.sent.Add(1)
		}
	}
}

func (c *client) receive() {
	node := c.session.Node()
	for {
		msg, err := c.session.Receive(context.Background())
		if err != nil {
			return
		}
		if now := c.session.Node(); now != node {
			node = now
			c.moved.Add(1)
		}
		i, _ := strconv.ParseInt(string(msg.Data), 10, 64)
		switch next := c.got.Load() + 1; {
		case i < next:
			c.duplicated.Add(1)
		default:
			c.lost.Add(i - next)
			c.got.Store(i)
		}
	}
}

// logIn logs in five times a second until ctx ends, each time as another guest.
func (c *clients) logIn() {
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

// allOn reports whether all clients are attached to these nodes.
func (c *clients) allOn(nodes map[string]bool) bool {
	for _, cl := range c.list {
		if cl.session.State() != usher.Attached || !nodes[cl.session.Node()] {
			return false
		}
	}
	return true
}

// check waits until every message sent so far is echoed. It logs the counts, and fails
// the test if a message was lost or duplicated or a stream was reset.
func (c *clients) check(when string) {
	c.t.Helper()
	target := make([]int64, len(c.list))
	for i, cl := range c.list {
		target[i] = cl.sent.Load()
	}
	await(c.t, "all echoes, "+when, time.Minute, func() bool {
		for i, cl := range c.list {
			if cl.got.Load() < target[i] {
				return false
			}
		}
		return true
	})
	count := map[string]int{}
	var sent, lost, duplicated, moved, resumes int64
	for _, cl := range c.list {
		count[cl.session.Node()]++
		sent += cl.got.Load()
		lost += cl.lost.Load()
		duplicated += cl.duplicated.Load()
		moved += cl.moved.Load()
		resumes += int64(cl.session.Stats().Resumes)
	}
	c.t.Logf("%s: %d clients, %d messages echoed, lost %d, duplicated %d, resets %d; moved %d, resumed %d; logins %d, refused %d, unanswered %d; %v",
		when, len(c.list), sent, lost, duplicated, c.resets.Load(), moved, resumes, c.login.Load(), c.refused.Load(), c.failed.Load(), count)
	if lost+duplicated+c.resets.Load() != 0 {
		c.t.Errorf("%s: lost %d, duplicated %d, resets %d", when, lost, duplicated, c.resets.Load())
	}
}

// settle stops the clients and the logins, and checks all messages.
func (c *clients) settle() {
	c.t.Helper()
	c.stop()
	c.senders.Wait()
	c.check("in the end")
}
