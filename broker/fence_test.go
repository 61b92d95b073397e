package broker_test

import (
	"context"
	"testing"
	"time"

	"github.com/usher-broker/usher/proto"
)

// A node that cannot be notified that a session has ended or moved, because it is
// no member or does not answer, is notified through the store.
func TestUnnotifiedNodesAreFenced(t *testing.T) {
	h := newFixture(t, "node-1", "node-2")
	h.answers(func(_ context.Context, to string, _ proto.Command) (proto.CommandResult, error) {
		if to == "node-2" {
			return proto.CommandResult{Found: true}, nil
		}
		return proto.CommandResult{}, context.DeadlineExceeded
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = h.Run(ctx)
	}()
	defer func() { cancel(); <-done }()
	fenced := func(node string) string {
		t.Helper()
		text, err := h.store.Fenced(t.Context(), node)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	before := map[string]string{}
	for _, id := range []string{"node-1", "node-2", "node-3"} {
		before[id] = fenced(id)
	}
	end := func(node string) {
		t.Helper()
		h.join(node)
		a := h.assign(ada)
		for a.Node.ID != node {
			a = h.assign(ada)
		}
		if node == "node-3" {
			h.Leave(node)
		}
		if err := h.End(t.Context(), a.Session, proto.CloseKicked, ""); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{"node-2", "node-1", "node-3"} {
		end(id)
	}
	for _, id := range []string{"node-1", "node-3"} {
		for deadline := time.Now().Add(5 * time.Second); fenced(id) == before[id]; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s was not notified", id)
			}
		}
	}
	if fenced("node-2") != before["node-2"] {
		t.Error("a node that had answered was fenced as well")
	}
}
