package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/usher-broker/usher/proto"
)

var endCommand = proto.Command{Op: proto.OpEnd, Session: "s1", Code: proto.CloseKicked}

func TestCall(t *testing.T) {
	node := nodeConfig("n")
	node.Handle = func(_ context.Context, from string, cmd proto.Command) proto.CommandResult {
		if from != "a" || cmd != endCommand {
			return proto.CommandResult{Error: fmt.Sprintf("from %s: %+v", from, cmd)}
		}
		return proto.CommandResult{Found: true}
	}
	a, n := pair(t, authConfig("a"), node)
	if r, err := a.Call(t.Context(), "n", endCommand); err != nil || r != (proto.CommandResult{Found: true}) {
		t.Errorf("got %+v, %v", r, err)
	}
	if r, err := a.Call(t.Context(), "n", proto.Command{Op: "odd"}); err != nil || r.Error == "" {
		t.Errorf("got %+v, %v", r, err)
	}
	if _, err := a.Call(t.Context(), "ghost", endCommand); !errors.Is(err, ErrUnknownMember) {
		t.Errorf("unknown member: %v", err)
	}
	if _, err := a.Call(t.Context(), "n", proto.Command{Op: strings.Repeat("x", maxCallBytes)}); err == nil || errors.Is(err, ErrNoAnswer) {
		t.Errorf("too long a command: %v", err)
	}
	if _, err := n.Call(t.Context(), "a", endCommand); err == nil || !strings.Contains(err.Error(), "a node may not send commands") {
		t.Errorf("a node's command: %v", err)
	}
	b := start(t, authConfig("b", a.Addr()))
	eventually(t, "b to know a", func() bool { return len(b.Members()) == 3 })
	eventually(t, "a to know b", func() bool { return len(a.Members()) == 3 })
	if r, err := b.Call(t.Context(), "a", endCommand); err != nil || r.Error == "" {
		t.Errorf("a member that accepts no commands: %+v, %v", r, err)
	}
	if h := a.Health(); h.Calls != 4 || h.CallsFailed != 2 || n.Health().Served != 2 {
		t.Errorf("counts %+v", h)
	}
}

func TestCallMany(t *testing.T) {
	node := nodeConfig("n")
	var handled atomic.Int64
	node.Handle = func(_ context.Context, _ string, cmd proto.Command) proto.CommandResult {
		handled.Add(1)
		return proto.CommandResult{Error: cmd.Session}
	}
	a, _ := pair(t, authConfig("a"), node)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			want := fmt.Sprint("s", i)
			if r, err := a.Call(t.Context(), "n", proto.Command{Op: "x", Session: want}); err != nil || r.Error != want {
				t.Errorf("got %+v, %v; want %s", r, err, want)
			}
		})
	}
	wg.Wait()
	if handled.Load() != 100 {
		t.Errorf("%d executed", handled.Load())
	}
}

// A command that takes long is sent again, and executed once.
func TestCallRetries(t *testing.T) {
	node := nodeConfig("n")
	var handled atomic.Int64
	release := make(chan struct{})
	node.Handle = func(context.Context, string, proto.Command) proto.CommandResult {
		handled.Add(1)
		<-release
		return proto.CommandResult{Found: true}
	}
	a, n := pair(t, authConfig("a"), node)
	got := make(chan error, 1)
	go func() {
		_, err := a.Call(t.Context(), "n", endCommand)
		got <- err
	}()
	eventually(t, "the second request", func() bool { return n.Health().Duplicates > 0 })
	close(release)
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	if handled.Load() != 1 {
		t.Errorf("executed %d times", handled.Load())
	}
}

// A lost answer is sent again.
func TestAnswerAgain(t *testing.T) {
	node := nodeConfig("n")
	var handled atomic.Int64
	node.Handle = func(context.Context, string, proto.Command) proto.CommandResult {
		handled.Add(1)
		return proto.CommandResult{Found: true}
	}
	a, n := pair(t, authConfig("a"), node)
	frame, err := appendCall(callID{1}, "a", endCommand)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(3) { // no call of a waits for these answers
		n.receive(frame)
		eventually(t, "the answer", func() bool { return a.Health().LateAnswers == i+1 })
	}
	if handled.Load() != 1 || n.Health().Duplicates != 2 {
		t.Errorf("executed %d times, %d duplicates", handled.Load(), n.Health().Duplicates)
	}
}

func TestCallTimesOut(t *testing.T) {
	node := nodeConfig("n")
	node.Handle = func(ctx context.Context, _ string, _ proto.Command) proto.CommandResult {
		<-ctx.Done()
		return proto.CommandResult{}
	}
	a, n := pair(t, authConfig("a"), node)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := a.Call(ctx, "n", endCommand); !errors.Is(err, ErrNoAnswer) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	// The same if the member is gone.
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	if _, err := a.Call(ctx, "n", endCommand); !errors.Is(err, ErrNoAnswer) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
	if h := a.Health(); h.SendsFailed == 0 || h.CallRetries == 0 {
		t.Errorf("counts %+v", h)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.pending) != 0 {
		t.Errorf("%d calls are still pending", len(a.pending))
	}
}

func TestCloseEndsCalls(t *testing.T) {
	node := nodeConfig("n")
	begun := make(chan struct{})
	node.Handle = func(ctx context.Context, _ string, _ proto.Command) proto.CommandResult {
		close(begun)
		<-ctx.Done()
		return proto.CommandResult{}
	}
	a, n := pair(t, authConfig("a"), node)
	got := make(chan error, 1)
	go func() {
		_, err := a.Call(t.Context(), "n", endCommand)
		got <- err
	}()
	<-begun
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
	if err := n.Close(); err != nil { // waits until the command has ended
		t.Fatal(err)
	}
}

func TestCommandsOfUnknownMembers(t *testing.T) {
	node := nodeConfig("n")
	node.Handle = func(context.Context, string, proto.Command) proto.CommandResult {
		t.Error("executed")
		return proto.CommandResult{}
	}
	_, n := pair(t, authConfig("a"), node)
	for _, from := range []string{"ghost", "n", ""} {
		frame, err := appendCall(callID{9}, from, endCommand)
		if err != nil {
			t.Fatal(err)
		}
		n.receive(frame)
	}
	if h := n.Health(); h.Strangers != 3 {
		t.Errorf("strangers %d, want 3", h.Strangers)
	}
}

func TestOverload(t *testing.T) {
	node := nodeConfig("n")
	release := make(chan struct{})
	node.Handle = func(context.Context, string, proto.Command) proto.CommandResult {
		<-release
		return proto.CommandResult{}
	}
	_, n := pair(t, authConfig("a"), node)
	for i := range maxServing + 10 {
		frame, err := appendCall(callID{byte(i), byte(i >> 8)}, "a", endCommand)
		if err != nil {
			t.Fatal(err)
		}
		n.receive(frame)
	}
	if h := n.Health(); h.Overloads != 10 {
		t.Errorf("overloads %d, want 10", h.Overloads)
	}
	close(release)
}

func TestRecentIsBounded(t *testing.T) {
	var r recent
	id := func(i int) callID { return callID{byte(i), byte(i >> 8), byte(i >> 16)} }
	for i := range 3 * recentCalls {
		if _, known := r.begin(id(i)); known {
			t.Fatalf("call %d is known", i)
		}
		r.finish(id(i), []byte{1})
	}
	if len(r.answers) != recentCalls || len(r.ids) != recentCalls {
		t.Errorf("remembers %d, %d", len(r.answers), len(r.ids))
	}
	if _, known := r.begin(id(2 * recentCalls)); !known {
		t.Error("the oldest call within the limit is forgotten")
	}
	r.finish(id(1), []byte{1}) // already forgotten
	if _, known := r.begin(id(1)); known {
		t.Error("finish restored a forgotten call")
	}
}
