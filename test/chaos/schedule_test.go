package chaos

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// traced makes all parts of the cluster log to the test's output.
var traced = os.Getenv("USHER_CHAOS_TRACE") != ""

func TestMain(m *testing.M) {
	checks := "300"
	if os.Getenv("USHER_SLOW") != "" && !racing {
		checks = "10000"
	}
	_ = flag.Set("rapid.checks", checks) // flags of the command line override this
	_ = flag.Set("rapid.nofailfile", "true")
	runtime.GOMAXPROCS(1) // so that a seed replays the same schedule
	os.Exit(m.Run())
}

// step is one operation of a schedule.
type step struct {
	op     string
	target int // selects the player or node
	n      int
	wait   time.Duration // after it
}

func (s step) String() string { return fmt.Sprintf("%s(%d, %d) then %v", s.op, s.target, s.n, s.wait) }

const players = 3

// ops lists the operations of a schedule. One listed twice is drawn twice as often.
var ops = []string{
	"send", "send", "send", "send", "push", "push",
	"cut", "cut", "block", "network", "block and network",
	"drain", "undrain", "restart", "shed", "hold", "release",
	"login", "take over", "unreachable",
}

func drawSchedule(t *rapid.T, more ...string) []step {
	names := append(slices.Clone(ops), more...)
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
		return step{
			op:     rapid.SampledFrom(names).Draw(t, "op"),
			target: rapid.IntRange(0, 5).Draw(t, "target"), n: rapid.IntRange(1, 12).Draw(t, "n"),
			wait: time.Duration(rapid.SampledFrom([]int{0, 1, 20, 150, 700, 3000, 9000}).Draw(t, "wait")) * time.Millisecond,
		}
	}), 1, 24).Draw(t, "schedule")
}

// TestSchedules runs random schedules of cuts, half-open connections, drains, moves,
// restarts and logins. Each direction of a session must deliver every message once and
// in order, each session must have one connection, and in the end every buffer must be
// empty.
func TestSchedules(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		opts := options{
			Seed:  rapid.Uint64().Draw(rt, "seed"),
			Delay: time.Duration(rapid.SampledFrom([]int{1, 20, 200}).Draw(rt, "delay")) * time.Millisecond,
		}
		run(t, rt, opts, drawSchedule(rt))
	})
}

// TestCheckpointedSchedules is TestSchedules with checkpoints, and nodes are killed at
// any moment as well.
func TestCheckpointedSchedules(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		opts := options{
			Seed: rapid.Uint64().Draw(rt, "seed"), Checkpoint: true,
			Delay: time.Duration(rapid.SampledFrom([]int{1, 20, 200}).Draw(rt, "delay")) * time.Millisecond,
		}
		run(t, rt, opts, drawSchedule(rt, "kill", "kill"))
	})
}

// run runs the schedule in a new world with a simulated clock.
func run(t *testing.T, rt *rapid.T, opts options, schedule []step) {
	var faults []string
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, opts, 3)
		g := &game{world: w}
		g.run(schedule)
		w.app.mu.Lock()
		faults = append(faults, w.app.faults...)
		w.app.mu.Unlock()
	})
	if len(faults) > 0 {
		rt.Fatalf("%s", strings.Join(faults, "\n"))
	}
}
