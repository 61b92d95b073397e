package broker_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/usher-broker/usher/broker"
	"github.com/usher-broker/usher/proto"
)

// All tokens of a session whose first token is bound to a key are bound to it.
func TestTokensStayBound(t *testing.T) {
	h := newFixture(t, "node-1", "node-2")
	key := proto.Confirmation{Thumbprint: strings.Repeat("A", 43)}
	req := ada
	req.Confirm = key
	a := h.assign(req)
	h.attach(a)
	if got := h.claims(a).Confirm; got != key {
		t.Errorf("bound to %+v", got)
	}
	h.report(a.Node.ID, proto.StateDraining, 1)
	b := h.reconnect(a, a.Node.ID)
	if got := h.claims(b); got.Confirm != key || got.Epoch != 2 {
		t.Errorf("after a move: %+v", got)
	}
	if got := h.claims(h.reconnect(b, "")).Confirm; got != key {
		t.Errorf("where it stays: %+v", got)
	}
	if got := h.claims(h.assign(ada)).Confirm; got != (proto.Confirmation{}) {
		t.Errorf("without a key: %+v", got)
	}
	req.Confirm.Thumbprint = "short"
	if _, err := h.Assign(t.Context(), req); !errors.Is(err, broker.ErrInvalid) {
		t.Errorf("an invalid thumbprint: %v", err)
	}
}
