package upgrade

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestUpgrade upgrades a cluster one process at a time, the nodes first, and then
// downgrades it, while clients talk. At every step each login must succeed; no message
// may be lost, duplicated or out of order; no stream may be reset; and each session
// keeps its id.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	before, after, strict := binaries(t)
	c := newCluster(t, before)
	r := run{cluster: c}
	defer func() { t.Logf("%s\n%s", t.Name(), r.table()) }()
	defer r.close()
	err := r.all(before, after)
	switch {
	case err != nil && strict:
		t.Error(err)
	case err == nil && r.totals().moved == 0:
		t.Error("no session has moved, so the test has shown nothing")
	case err != nil:
		t.Logf("NOT COMPATIBLE, which is reported only, because the file from is empty:\n%v", err)
	}
}

// binaries returns the two binaries, and whether a difference between them fails the
// test.
func binaries(t *testing.T) (before, after binary, strict bool) {
	t.Helper()
	after = buildTree(t, "new", newStamp)
	from := released(t)
	revision := cmp.Or(os.Getenv("USHER_OLD"), from)
	if revision == "" {
		return buildTree(t, "old", oldStamp), after, true
	}
	before, err := buildRevision(t, "old", revision)
	if err != nil {
		t.Fatal(err)
	}
	return before, after, from != ""
}

// pick returns ordinary, or slow if USHER_LONG is set.
func pick[T any](ordinary, slow T) T {
	if os.Getenv("USHER_LONG") != "" {
		return slow
	}
	return ordinary
}

// run is a run of the test.
type run struct {
	cluster  *cluster
	talkers  []*talker
	visitors *visitors
	steps    []step
}

// step is what happened in a step.
type step struct {
	name             string
	took             time.Duration
	messages, logins int
	retried          int // logins
	counts
	pause time.Duration // longest time from a message to its echo
}

// counts are those of the talkers.
type counts struct {
	moved, resumed, resets int
}

// all runs all steps, until one fails.
func (r *run) all(before, after binary) error {
	if err := r.step("start "+before.name, func() error { return r.start(before) }); err != nil {
		return err
	}
	for round := range pick(1, 3) {
		for _, to := range []binary{after, before} {
			if err := r.replaceAll(to, fmt.Sprintf("round %d", round+1)); err != nil {
				return err
			}
		}
	}
	return nil
}

// replaceAll replaces the processes one by one, and then lets the cluster run.
func (r *run) replaceAll(to binary, round string) error {
	for _, m := range slices.Concat(r.cluster.nodes, r.cluster.auths) {
		if err := r.step(fmt.Sprintf("%s: %s is %s", round, m.name, to.name), func() error { return r.cluster.replace(m, to) }); err != nil {
			return err
		}
	}
	return r.step(round+": all are "+to.name, func() error {
		time.Sleep(pick(2*time.Second, 10*time.Second))
		return nil
	})
}

// start starts the cluster and the clients.
func (r *run) start(b binary) error {
	if err := r.cluster.start(b); err != nil {
		return err
	}
	auth := r.cluster.front.url()
	for i := range pick(30, 300) {
		c, err := startTalker(auth, fmt.Sprint("talker-", i+1), pick(50*time.Millisecond, 250*time.Millisecond))
		if err != nil {
			return err
		}
		r.talkers = append(r.talkers, c)
	}
	r.visitors = startVisitors(auth)
	return nil
}

// step runs f, waits until each talker has an echo of a message that it sent after
// that, and checks everything.
func (r *run) step(name string, f func() error) error {
	began, before := time.Now(), r.totals()
	err := f()
	if err == nil {
		err = r.awaitEchoes()
	}
	err = errors.Join(err, r.check())
	now := r.totals()
	now.name, now.took = name, time.Since(began)
	now.messages -= before.messages
	now.logins -= before.logins
	now.retried -= before.retried
	now.moved -= before.moved
	now.resumed -= before.resumed
	now.resets -= before.resets
	r.steps = append(r.steps, now)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// totals returns the counts so far, and the longest pause since the last call.
func (r *run) totals() (s step) {
	for _, c := range r.talkers {
		stats := c.session.Stats()
		c.mu.Lock()
		s.messages += c.echoed
		s.moved += c.moves
		s.resets += c.resets
		s.pause = max(s.pause, c.pause)
		c.pause = 0
		c.mu.Unlock()
		s.resumed += int(stats.Resumes)
	}
	if v := r.visitors; v != nil {
		v.mu.Lock()
		s.logins, s.retried = v.done, v.retries
		v.mu.Unlock()
	}
	return s
}

// echoTimeout is how long a talker may wait for an echo on a loaded machine.
const echoTimeout = 30 * time.Second

func (r *run) awaitEchoes() error {
	deadline := time.Now().Add(echoTimeout)
	marks := make([]int, len(r.talkers)) // all at the same time: the waits overlap
	for i, c := range r.talkers {
		marks[i] = c.mark()
	}
	for i, c := range r.talkers {
		for mark := marks[i]; !c.reached(mark); {
			if err := c.check(); err != nil {
				return err
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("session %s: message %d has no echo after %v; the session is %v", c.id, marks[i], echoTimeout, c.session.State())
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	return nil
}

func (r *run) check() error {
	errs := []error{r.cluster.check()}
	for _, c := range r.talkers {
		errs = append(errs, c.check())
	}
	if r.visitors != nil {
		errs = append(errs, r.visitors.check())
	}
	return errors.Join(errs...)
}

func (r *run) close() {
	if r.visitors != nil {
		r.visitors.close()
	}
	for _, c := range r.talkers {
		c.close()
	}
}

// table returns the steps as text.
func (r *run) table() string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "step\ttook\tmessages\tlogins\tretried\tmoved\tresumed\tresets\tlongest pause")
	for _, s := range r.steps {
		fmt.Fprintf(w, "%s\t%v\t%d\t%d\t%d\t%d\t%d\t%d\t%v\n", s.name, s.took.Round(10*time.Millisecond), s.messages, s.logins, s.retried,
			s.moved, s.resumed, s.resets, s.pause.Round(time.Millisecond))
	}
	_ = w.Flush() // a strings.Builder does not fail
	return text.String()
}
