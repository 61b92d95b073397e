package node

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/usher-broker/usher/proto"
)

// Nothing leads out of the end, every phase but the end can end, and each phase but the
// first can be entered.
func TestTransitions(t *testing.T) {
	for from := range phases {
		if got := transitions[ended][from]; got != "" {
			t.Errorf("an ended session becomes %v: %s", from, got)
		}
		if from != ended && transitions[from][ended] == "" {
			t.Errorf("a session that is %v cannot end", from)
		}
	}
	for to := attached; to < phases; to++ {
		if !slices.ContainsFunc(transitions[:], func(from [phases]string) bool { return from[to] != "" }) {
			t.Errorf("no session becomes %v", to)
		}
	}
}

// enter refuses a transition that is not in the table, and changes nothing.
func TestEnter(t *testing.T) {
	allowed := map[phase][]phase{
		attaching: {attached, moving, ended},
		attached:  {attached, detached, moving, ended},
		detached:  {attached, moving, ended},
		moving:    {attaching, attached, detached, ended},
	}
	for from := range phases {
		for to := range phases {
			s := &Session{phase: from}
			err := s.enter(to)
			if slices.Contains(allowed[from], to) {
				if err != nil || s.phase != to {
					t.Errorf("from %v to %v: %v, phase %v", from, to, err, s.phase)
				}
				continue
			}
			var refused *transitionError
			if !errors.As(err, &refused) || s.phase != from {
				t.Errorf("from %v to %v: %v, phase %v", from, to, err, s.phase)
			}
		}
	}
}

// A session whose connection ends while it is frozen continues detached.
func TestThaw(t *testing.T) {
	n := plainNode(t)
	for i, c := range []struct {
		before phase
		lost   bool
		after  phase
	}{
		{attaching, false, attaching},
		{attached, false, attached},
		{attached, true, detached},
		{detached, false, detached},
	} {
		s := fakeSession(t, n, fmt.Sprint("s-", i))
		s.phase = c.before
		if err := s.freeze(); err != nil {
			t.Fatal(err)
		}
		if err := s.phase.sendError(); !errors.Is(err, ErrMoving) {
			t.Errorf("frozen: %v", err)
		}
		if s.freeze() == nil {
			t.Error("frozen twice")
		}
		if c.lost {
			s.lostConnection()
		}
		if s.thaw(); s.phase != c.after {
			t.Errorf("from %v, connection lost %v: continues %v, want %v", c.before, c.lost, s.phase, c.after)
		}
		n.end(s, proto.CloseSessionEnded, "", false)
	}
}
