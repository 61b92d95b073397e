package broker_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

func textPush(s string) proto.Push { return proto.Push{Text: &s} }

// answerPushes makes the nodes answer pushes with the result for each session. It
// returns the number of pushes.
func (h *fixture) answerPushes(results map[string]string) *atomic.Int64 {
	var n atomic.Int64
	h.answers(func(_ context.Context, _ string, cmd proto.Command) (proto.CommandResult, error) {
		n.Add(1)
		result, found := results[cmd.Session]
		return proto.CommandResult{Found: found, Result: result}, nil
	})
	return &n
}

func TestPush(t *testing.T) {
	h := newFixture(t, "node-1")
	a, waiting, over := h.assign(ada), h.assign(ada), h.assign(ada)
	h.attach(a)
	if err := h.End(t.Context(), over.Session, proto.CloseKicked, ""); err != nil {
		t.Fatal(err)
	}
	h.answerPushes(map[string]string{a.Session: proto.PushBuffered})
	for sid, want := range map[string]string{
		a.Session: proto.PushBuffered, waiting.Session: proto.PushNotAttached, over.Session: proto.PushEnded,
	} {
		got, err := h.Push(t.Context(), sid, "key", textPush("x"))
		if err != nil || got != (proto.PushResult{Session: sid, Node: "node-1", Result: want}) {
			t.Errorf("%+v, %v, want %s", got, err, want)
		}
	}
	for _, sid := range []string{"none", session.NewID("ada")} {
		if _, err := h.Push(t.Context(), sid, "", textPush("x")); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("%s: %v", sid, err)
		}
	}
	bad := "\xff"
	for name, p := range map[string]proto.Push{
		"nothing": {}, "too large": textPush(strings.Repeat("x", 13_000)), "no text": {Text: &bad}, "both": {Text: &text, Data: []byte("x")},
	} {
		if _, err := h.Push(t.Context(), a.Session, "", p); !errors.Is(err, broker.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := h.Push(t.Context(), a.Session, strings.Repeat("k", 65), textPush("x")); !errors.Is(err, broker.ErrInvalid) {
		t.Errorf("long key: %v", err)
	}
}

var text = "x"

// A push follows a session that moves, and ends with the caller's context.
func TestPushFollows(t *testing.T) {
	h := newFixture(t, "node-1", "node-2")
	a := h.assign(ada)
	l := h.attach(a)
	h.answers(func(ctx context.Context, to string, cmd proto.Command) (proto.CommandResult, error) {
		if to != a.Node.ID {
			return proto.CommandResult{Found: true, Result: proto.PushSent}, nil
		}
		_, err := h.store.Reassign(ctx, "r", session.Record{ID: l.ID, Epoch: 1}, other(to), time.Minute)
		return proto.CommandResult{}, err
	})
	got, err := h.Push(t.Context(), a.Session, "", textPush("x"))
	if err != nil || got.Result != proto.PushSent || got.Node != other(a.Node.ID) {
		t.Errorf("%+v, %v", got, err)
	}
	h.answerPushes(nil)
	ctx, cancel := context.WithTimeout(t.Context(), 120*time.Millisecond)
	defer cancel()
	if got, err := h.Push(ctx, a.Session, "", textPush("x")); err != nil || got.Result != proto.PushUnavailable {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestPushUser(t *testing.T) {
	h := newFixture(t, "node-1")
	a, b := h.assign(ada), h.assign(ada)
	h.attach(a)
	n := h.answerPushes(map[string]string{a.Session: proto.PushSent})
	got, err := h.PushUser(t.Context(), "ada", "", textPush("x"))
	if err != nil || len(got) != 2 || got[0].Result != proto.PushSent || got[1] != (proto.PushResult{Session: b.Session, Node: "node-1", Result: proto.PushNotAttached}) {
		t.Errorf("%+v, %v", got, err)
	}
	if n.Load() != 1 {
		t.Errorf("%d commands", n.Load())
	}
	if _, err := h.PushUser(t.Context(), "unknown", "", textPush("x")); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("unknown user: %v", err)
	}
}

func TestDrain(t *testing.T) {
	h := newFixture(t, "node-1")
	if err := h.Drain(t.Context(), "node-1", proto.DrainRequest{WindowMS: 5, Keep: true}); err != nil {
		t.Error(err)
	}
	if err := h.Undrain(t.Context(), "node-1"); err != nil {
		t.Error(err)
	}
	for _, err := range []error{h.Drain(t.Context(), "node-9", proto.DrainRequest{}), h.Undrain(t.Context(), "node-9")} {
		if !errors.Is(err, broker.ErrNoNode) {
			t.Errorf("unknown node: %v", err)
		}
	}
	for _, req := range []proto.DrainRequest{{WindowMS: -1}, {TimeoutMS: -1}, {WindowMS: 3_600_001}, {TimeoutMS: 86_400_001}} {
		if err := h.Drain(t.Context(), "node-1", req); !errors.Is(err, broker.ErrInvalid) {
			t.Errorf("%+v: %v", req, err)
		}
	}
	sent := h.commands()
	if len(sent) != 2 || sent[0].cmd.Op != proto.OpDrain || *sent[0].cmd.Drain != (proto.DrainRequest{WindowMS: 5, Keep: true}) || sent[1].cmd.Op != proto.OpUndrain {
		t.Errorf("sent %+v", sent)
	}
	h.answers(func(context.Context, string, proto.Command) (proto.CommandResult, error) {
		return proto.CommandResult{}, errors.New("no answer")
	})
	if err := h.Drain(t.Context(), "node-1", proto.DrainRequest{}); !errors.Is(err, broker.ErrNodeUnavailable) {
		t.Errorf("no answer: %v", err)
	}
}
