package main

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"runtime"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sync/errgroup"

	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/proto"
)

// memoryCmd attaches many clients to a node in another process and measures by how much
// that process grows.
type memoryCmd struct {
	process.OutputFlag `embed:""`

	Sessions int           `help:"Sessions to attach." default:"5000" placeholder:"N"`
	TLS      bool          `name:"tls" help:"Attach over TLS."`
	Echo     bool          `help:"Send one message in each session, and wait for its echo, before the session idles."`
	Settle   time.Duration `help:"How long the sessions idle before the measurement." default:"6s" placeholder:"TIME"`
}

// memoryResult is the JSON output.
type memoryResult struct {
	BytesPerSession int     `json:"bytes_per_session"` // resident memory of the node's process, with the session record
	HeapPerSession  int     `json:"heap_bytes_per_session"`
	StackPerSession int     `json:"stack_bytes_per_session"`
	Sessions        int     `json:"sessions"`
	TLS             bool    `json:"tls"`
	Echo            bool    `json:"echo"`
	Goroutines      float64 `json:"goroutines_per_session"`
	Go              string  `json:"go"`
	Version         string  `json:"version"`
}

// warmUp is the number of sessions that are attached before the first measurement, so
// that costs which occur once are not counted.
const warmUp = 200

func (c *memoryCmd) Run(ctx context.Context, e *process.Env) error {
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
	return c.print(e, before, after)
}

// check limits the sessions by the number of open files of a process. A session needs
// one file here and one in the node.
func (c *memoryCmd) check() error {
	files, err := process.OpenFiles()
	if err != nil {
		return err
	}
	const others = 200
	limit := min(int(min(files, math.MaxInt32))-others-warmUp, 60_000) // ports for connections to one address
	if c.Sessions < 1 || c.Sessions > limit {
		return process.FlagError{Flag: "--sessions", Err: fmt.Errorf("%d: must be 1 to %d on this machine, where a process may open %d files", c.Sessions, limit, files)}
	}
	return nil
}

// measure attaches n more clients and measures the process when they are idle.
func (c *memoryCmd) measure(ctx context.Context, l *idlers, n int) (usage, error) {
	if err := l.attach(ctx, n, c.Echo); err != nil {
		return usage{}, err
	}
	if err := pause(ctx, c.Settle); err != nil {
		return usage{}, err
	}
	return l.target.usage(ctx)
}

func (c *memoryCmd) print(e *process.Env, before, after usage) error {
	each := func(a, b float64) float64 { return (b - a) / float64(c.Sessions) }
	r := memoryResult{
		BytesPerSession: int(math.Round(each(before.resident, after.resident))),
		HeapPerSession:  int(math.Round(each(before.heap, after.heap))),
		StackPerSession: int(math.Round(each(before.stack, after.stack))),
		Goroutines:      math.Round(100*each(before.goroutines, after.goroutines)) / 100,
		Sessions:        c.Sessions, TLS: c.TLS, Echo: c.Echo, Go: runtime.Version(), Version: process.Version(),
	}
	if got := after.sessions - before.sessions; int(got) != c.Sessions {
		return fmt.Errorf("the node holds %.0f more sessions, not %d: the measurement is not valid", got, c.Sessions)
	}
	if c.JSON() {
		return process.WriteJSON(e.Out, r)
	}
	_, err := fmt.Fprintf(e.Out, "%d resident bytes per idle session (heap in use %d, stacks %d, goroutines %.2f), over %d sessions\n",
		r.BytesPerSession, r.HeapPerSession, r.StackPerSession, r.Goroutines, r.Sessions)
	return err
}

// idlers are the clients.
type idlers struct {
	target *target
	ctx    context.Context // of the readers
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

// echoOnce sends a message, waits for its echo and acknowledges it.
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
