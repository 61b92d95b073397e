package broker_test

import (
	"errors"
	"testing"

	"github.com/usher-broker/usher/broker"
	"github.com/usher-broker/usher/proto"
)

func TestExplain(t *testing.T) {
	h := newFixture(t, "node-1", "node-2")
	h.report("node-1", proto.StateReady, 10)
	h.report("node-2", proto.StateReady, 20)
	explain := func(req proto.AssignmentRequest, unreachable string) broker.Explanation {
		t.Helper()
		e, err := h.Explain(t.Context(), req, unreachable)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	for range 3 { // it changes nothing
		if e := explain(ada, ""); e.Node != "node-1" || len(e.Nodes) != 2 || len(e.Sessions) != 0 {
			t.Errorf("%+v", e)
		}
	}
	if e := explain(ada, "node-1"); e.Node != "node-2" {
		t.Errorf("%+v", e)
	}
	a := h.assign(ada)
	if e := explain(ada, ""); len(e.Sessions) != 1 || e.Sessions[0].ID != a.Session {
		t.Errorf("%+v", e.Sessions)
	}
	first := h.assign(member("bob", ""))
	h.report(first.Node.ID, proto.StateReady, 500)
	if e := explain(member("eve", ""), ""); e.Group != first.Node.ID || e.Node != e.Group {
		t.Errorf("%s by the group's %s, bound to %s", e.Node, e.Group, first.Node.ID)
	}
	if _, err := h.Explain(t.Context(), user(""), ""); !errors.Is(err, broker.ErrInvalid) {
		t.Error(err)
	}
	h.store.Close()
	if _, err := h.Explain(t.Context(), ada, ""); err == nil {
		t.Error("the store is closed, and there is no error")
	}
}
