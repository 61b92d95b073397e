package proto_test

import (
	"slices"
	"testing"

	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/vectors"
)

func TestCloseCodeVectors(t *testing.T) {
	var named []proto.CloseCode
	for _, v := range vectors.CloseCodes() {
		if got := v.Code.String(); got != v.Reason {
			t.Errorf("%d %s: reason %q, want %q", v.Code, v.Name, got, v.Reason)
		}
		if got := v.Code.Action().String(); got != v.Action {
			t.Errorf("%d %s: action %q, want %q", v.Code, v.Name, got, v.Action)
		}
		if v.Reason != "" {
			named = append(named, v.Code)
		}
	}
	if !slices.Equal(named, proto.CloseCodes) {
		t.Errorf("the vectors have reasons for %v, the package for %v", named, proto.CloseCodes)
	}
}

// The range of a code alone decides its action, for every 16-bit number.
func TestEveryCodeHasAnAction(t *testing.T) {
	for n := range 1 << 16 {
		c := proto.CloseCode(n)
		want := proto.ActionRetry
		switch n / 100 {
		case 40:
			want = proto.ActionStop
		case 42:
			want = proto.ActionReconnect
		case 45, 46, 47, 48, 49:
			want = proto.ActionApp
		}
		if got := c.Action(); got != want {
			t.Errorf("%d: %v, want %v", n, got, want)
		}
		if known := slices.Contains(proto.CloseCodes, c); known != (c.String() != "") {
			t.Errorf("%d: reason %q, known %v", n, c.String(), known)
		}
	}
}

func TestUnknownNames(t *testing.T) {
	for got, want := range map[string]string{
		proto.Action(9).String():    "action(9)",
		proto.Role(9).String():      "role(9)",
		proto.NodeState(9).String(): "state(9)",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
