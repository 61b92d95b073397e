package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"runtime"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sync/errgroup"

	"github.com/usher-broker/usher/proto"
)

// benchMemoryCmd attaches many clients to a node in a process of its own and
// looks at how much that process has grown.
type benchMemoryCmd struct {
	Sessions int           `help:"Sessions to attach." default:"5000" placeholder:"N"`
	TLS      bool          `name:"tls" help:"Attach by wss."`
	Echo     bool          `help:"Have each session echo one message before it idles."`
	Settle   time.Duration `help:"How long the sessions idle before the process is looked at." default:"6s" placeholder:"TIME"`
	JSON     bool          `name:"json" help:"Print one line of JSON."`
}

// memoryResult is the JSON that is printed.
type memoryResult struct {
	BytesPerSession int     `json:"bytes_per_session"` // resident, of the process with the node; session record included
	HeapPerSession  int     `json:"heap_bytes_per_session"`
	StackPerSession int     `json:"stack_bytes_per_session"`
	Sessions        int     `json:"sessions"`
	TLS             bool    `json:"tls"`
	Echo            bool    `json:"echo"`
	Goroutines      float64 `json:"goroutines_per_session"`
	Go              string  `json:"go"`
	Version         string  `json:"version"`
}

// warmUp sessions are attached before the first look, so that what the first
// ones cost once is not counted.
const warmUp = 200

func (c *benchMemoryCmd) Run(ctx context.Context, e *env) error {
	if err := c.check(); err != nil {
		return err
	}
	target, err := startTarget(ctx, c.Sessions+warmUp, c.TLS)
	if err != nil {
		return err
	}
	defer target.stop()
	load := newIdlers(target)
	defer load.close()
	before, err := c.measure(ctx, load, warmUp)
	if err != nil {
		return err
	}
	after, err := c.measure(ctx, load, c.Sessions)
	if err != nil {
		return err
	}
	return c.tell(e, before, after)
}

// check refuses more sessions than the files of a process allow: each is one
// here and one in the node.
func (c *benchMemoryCmd) check() error {
	files, err := openFiles()
	if err != nil {
		return err
	}
	const others = 200
	limit := min(int(min(files, math.MaxInt32))-others-warmUp, 60_000) // of ports to one address
	if c.Sessions < 1 || c.Sessions > limit {
		return usageError{"--sessions", fmt.Errorf("%d: must be 1 to %d here; a process may open %d files", c.Sessions, limit, files)}
	}
	return nil
}

// measure attaches n more clients and looks at the process once they idle.
func (c *benchMemoryCmd) measure(ctx context.Context, l *idlers, n int) (usage, error) {
	if err := l.attach(ctx, n, c.Echo); err != nil {
		return usage{}, err
	}
	if err := pause(ctx, c.Settle); err != nil {
		return usage{}, err
	}
	return l.target.usage(ctx)
}

func (c *benchMemoryCmd) tell(e *env, before, after usage) error {
	each := func(a, b float64) float64 { return (b - a) / float64(c.Sessions) }
	r := memoryResult{
		BytesPerSession: int(math.Round(each(before.resident, after.resident))),
		HeapPerSession:  int(math.Round(each(before.heap, after.heap))),
		StackPerSession: int(math.Round(each(before.stack, after.stack))),
		Goroutines:      math.Round(100*each(before.goroutines, after.goroutines)) / 100,
		Sessions:        c.Sessions, TLS: c.TLS, Echo: c.Echo, Go: runtime.Version(), Version: versionString(),
	}
	if got := after.sessions - before.sessions; int(got) != c.Sessions {
		return fmt.Errorf("the node holds %.0f more sessions, not %d: nothing was measured", got, c.Sessions)
	}
	if c.JSON {
		return json.NewEncoder(e.out).Encode(r)
	}
	_, err := fmt.Fprintf(e.out, "%d resident bytes per idle session (heap in use %d, stacks %d, goroutines %.2f), over %d sessions\n",
		r.BytesPerSession, r.HeapPerSession, r.StackPerSession, r.Goroutines, r.Sessions)
	return err
}

// idlers is the clients.
type idlers struct {
	target *target
	ctx    context.Context // of the clients' reading
	stop   context.CancelFunc
	reads  errgroup.Group
	n      int
}

func newIdlers(t *target) *idlers {
	l := &idlers{target: t}
	l.ctx, l.stop = context.WithCancel(context.Background())
	return l
}

// attach attaches n clients, a few at a time.
func (l *idlers) attach(ctx context.Context, n int, echo bool) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for range n {
		l.n++
		name := fmt.Sprint("bench-", l.n)
		g.Go(func() error {
			ws, err := l.target.connect(ctx, name)
			if err != nil {
				return err
			}
			if echo {
				if err := echoOnce(ctx, ws); err != nil {
					return err
				}
			}
			l.reads.Go(func() error { // answers pings
				defer ws.CloseNow()
				for {
					if _, _, err := ws.Read(l.ctx); err != nil {
						return err
					}
				}
			})
			return nil
		})
	}
	return g.Wait()
}

// echoOnce sends a message, waits for it to come back and confirms that.
func echoOnce(ctx context.Context, ws *websocket.Conn) error {
	hello := proto.AppendMessage(nil, proto.Message{Text: true, Data: []byte("hello")})
	if err := ws.Write(ctx, websocket.MessageBinary, hello); err != nil {
		return err
	}
	for {
		kind, b, err := ws.Read(ctx)
		if err != nil {
			return err
		}
		if kind == websocket.MessageBinary && bytes.Equal(b, hello) {
			ack := proto.AppendControl(nil, proto.Control{Type: proto.TypeAck, Received: 1})
			return ws.Write(ctx, websocket.MessageText, ack)
		}
	}
}

func (l *idlers) close() {
	l.stop()
	_ = l.reads.Wait()
}
