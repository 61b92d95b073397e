package upgrade

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	// oldLayout is the last revision with an earlier layout of the data in Redis.
	oldLayout = "3c4c513"
	// layoutRefusal is what a process says of data in another layout, as part of the text
	// that wraps session.ErrLayout.
	layoutRefusal = "this program needs layout"
)

// TestOldLayout starts an auth and a node on a Redis server whose sessions an earlier
// version has stored in another layout. Both must refuse it with a clear message, in
// the log or in /readyz, and must not change the data: the earlier version then
// continues the session without a loss.
func TestOldLayout(t *testing.T) {
	t.Parallel()
	before, err := buildRevision(t, "old", oldLayout)
	if errors.Is(err, errNoRevision) && os.Getenv("CI") == "" { // such as in an archive without the history
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	after := buildTree(t, "new", newStamp)
	c := newCluster(t, before)
	auth, node := c.auths[0], c.nodes[0]
	// Alone, an auth that accepts the data gets ready.
	auth.args = slices.DeleteFunc(auth.args, func(arg string) bool { return strings.HasPrefix(arg, "--join=") })
	node.args = append(node.args, "--drain-timeout=2s", "--resume-window=5m")
	startBoth := func() {
		t.Helper()
		if err := errors.Join(auth.start(before), node.start(before), auth.awaitReady(), node.awaitReady(), auth.awaitNodes(1)); err != nil {
			t.Fatal(err)
		}
	}
	startBoth()
	player, err := startTalker(c.front.url(), "player", 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer player.close()
	r := run{cluster: &cluster{auths: []*member{auth}, nodes: []*member{node}}, talkers: []*talker{player}}
	if err := r.awaitEchoes(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(node.stop(), auth.stop()); err != nil {
		t.Fatal(err)
	}

	for _, m := range []*member{auth, node} {
		if err := m.start(after); err != nil {
			t.Fatal(err)
		}
		said, err := m.awaitRefusal(layoutRefusal)
		if err != nil {
			t.Error(err)
		} else {
			t.Logf("%s says: %s", m.process.name, said)
		}
		m.kill()
	}

	startBoth()
	if err := errors.Join(r.awaitEchoes(), r.check()); err != nil {
		t.Errorf("the data was changed: %v", err)
	}
}

// awaitRefusal waits until the process says the text, in its log or in /readyz, and
// returns that line. It is an error if the process gets ready.
func (p *process) awaitRefusal(text string) (line string, err error) {
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		status, body, err := p.get("/readyz")
		if err == nil && status == http.StatusOK {
			return "", fmt.Errorf("%s is ready, and should refuse the data", p.name)
		}
		lines := strings.Split(p.output.tail()+"\n"+string(body), "\n")
		if i := slices.IndexFunc(lines, func(s string) bool { return strings.Contains(s, text) }); i >= 0 {
			return lines[i], nil
		}
	}
	return "", fmt.Errorf("%s has not said %q after %v:\n%s", p.name, text, startTimeout, p.output.tail())
}
