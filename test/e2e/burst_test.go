package e2e

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/usher-broker/usher/proto"
)

// arrivals records how many sessions were assigned to each node, and when.
type arrivals struct {
	mu     sync.Mutex
	byNode map[string]int
	times  map[string][]time.Time
}

func (a *arrivals) add(node string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byNode == nil {
		a.byNode, a.times = map[string]int{}, map[string][]time.Time{}
	}
	a.byNode[node]++
	a.times[node] = append(a.times[node], time.Now())
}

// maxOverMean returns the sessions of the fullest node divided by the mean of all
// nodes.
func (a *arrivals) maxOverMean(nodes int) float64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	sum, most := 0, 0
	for _, n := range a.byNode {
		sum += n
		most = max(most, n)
	}
	return float64(most) * float64(nodes) / float64(sum)
}

// peak returns the largest number of sessions assigned to the node within one
// second.
func (a *arrivals) peak(node string) (most int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	sorted := slices.Clone(a.times[node])
	slices.SortFunc(sorted, time.Time.Compare)
	for i, j := 0, 0; j < len(sorted); j++ {
		for sorted[j].Sub(sorted[i]) >= time.Second {
			i++
		}
		most = max(most, j-i+1)
	}
	return most
}

// loginGuests logs n guests in, 64 at a time, alternating between the given auth
// addresses. If attaches is set, each guest also attaches to its node.
func loginGuests(t *testing.T, auths []string, name string, n int, attaches bool, got *arrivals) {
	t.Helper()
	const atOnce = 64
	var wg sync.WaitGroup
	next := make(chan int)
	for range atOnce {
		wg.Go(func() {
			for i := range next {
				a := post(t, "http://"+auths[i%len(auths)]+"/v1/login", "",
					fmt.Sprintf(`{"method":"guest","credentials":{"name":"%s-%d"}}`, name, i))
				if a.status != 200 {
					t.Errorf("login: %v", a)
					continue
				}
				got.add(a.at.Node.ID)
				if attaches {
					attach(t, a.at, "")
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// TestBurst sends a burst of logins to one auth, and then to four auths that share
// their state by gossip, and checks how evenly the nodes are filled. With four
// auths an empty node then joins under load.
func TestBurst(t *testing.T) {
	const nodes = 8
	logins := pick(1600, 4000)
	t.Run("one auth", func(t *testing.T) {
		c := startCluster(t, nodes)
		var got arrivals
		loginGuests(t, []string{c.auth.listen}, "one", logins, false, &got)
		t.Logf("%d logins: max/mean %.4f, %v", logins, got.maxOverMean(nodes), got.byNode)
		if e := got.maxOverMean(nodes); e > 1.03 {
			t.Errorf("max/mean %.4f, more than 1.03", e)
		}
	})
	t.Run("four auths", func(t *testing.T) {
		c := startCluster(t, nodes)
		auths := []string{c.auth.listen}
		for i := range 3 {
			auths = append(auths, c.startAuth(fmt.Sprint("auth-", i+2)).listen)
		}
		var got arrivals
		loginGuests(t, auths, "four", logins, true, &got)
		t.Logf("%d logins: max/mean %.4f, %v", logins, got.maxOverMean(nodes), got.byNode)
		if e := got.maxOverMean(nodes); e > 1.10 {
			t.Errorf("max/mean %.4f, more than 1.10", e)
		}
		joinUnderLoad(t, c, auths, nodes)
	})
}

// joinUnderLoad starts an empty node during a steady rate of logins and checks
// that the node receives sessions, but no faster than its bound.
func joinUnderLoad(t *testing.T, c *cluster, auths []string, nodes int) {
	t.Helper()
	stop := make(chan struct{})
	var got arrivals
	var wg sync.WaitGroup
	wg.Go(func() {
		pace := time.NewTicker(5 * time.Millisecond) // 200 a second
		defer pace.Stop()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-pace.C:
			}
			wg.Go(func() {
				a := post(t, "http://"+auths[i%len(auths)]+"/v1/login", "", fmt.Sprintf(`{"method":"guest","credentials":{"name":"join-%d"}}`, i))
				if a.status == 200 {
					got.add(a.at.Node.ID)
				}
			})
		}
	})
	const capacity = 3000 // by default a node is filled at capacity/60 = 50 sessions a second at most
	c.startNode("late", fmt.Sprintf("--max-sessions=%d", capacity))
	time.Sleep(pick(15*time.Second, 30*time.Second))
	close(stop)
	wg.Wait()
	t.Logf("200 logins a second, %d nodes and an empty one: the empty one got at most %d a second, %d in total; %v", nodes, got.peak("late"), got.byNode["late"], got.byNode)
	if got.byNode["late"] == 0 {
		t.Error("the node that joined got no sessions")
	}
	// The bound is capacity/60 sessions a second, plus a burst of a quarter of a
	// second, plus the rounding of each auth.
	if most := got.peak("late"); most > capacity/60+capacity/60/4+2*len(auths) {
		t.Errorf("the node that joined got %d sessions in one second, want at most about %d", most, capacity/60)
	}
}

// TestReconnectStorm kills a node with many sessions. All clients call
// /v1/reconnect at once and retry after the time that the answer gives. The
// sessions must spread evenly, within a minute.
func TestReconnectStorm(t *testing.T) {
	sessions := pick(1500, 10_000)
	c := startCluster(t, 0)
	c.startNode("doomed", "--max-sessions=20000")
	c.awaitNodes()
	var got arrivals
	at := make([]proto.Assignment, sessions)
	var wg sync.WaitGroup
	each := func(n int, f func(i int)) {
		for k := range n {
			wg.Go(func() {
				for i := k; i < sessions; i += n {
					f(i)
				}
			})
		}
		wg.Wait()
	}
	each(64, func(i int) { at[i] = c.mustLogin(fmt.Sprint("storm-", i)) })
	for i := range 5 {
		c.startNode(fmt.Sprint("node-", i+1), "--max-sessions=20000")
	}
	c.awaitNodes()
	c.nodes["doomed"].kill()
	began := time.Now()
	var mu sync.Mutex
	rejected, slowest := 0, time.Duration(0)
	each(1000, func(i int) {
		for {
			a := post(t, c.url("/v1/reconnect"), at[i].Token, `{"unreachable":"doomed"}`)
			mu.Lock()
			slowest = max(slowest, a.took)
			mu.Unlock()
			if a.status == 200 && a.at.Node.ID != "doomed" {
				got.add(a.at.Node.ID)
				return
			}
			if a.status == 200 { // auth does not know yet that the node is dead
				time.Sleep(time.Second)
				continue
			}
			if a.status != 503 || a.retryAfter() < 1 {
				t.Errorf("reconnect: %v", a)
				return
			}
			mu.Lock()
			rejected++
			mu.Unlock()
			time.Sleep(time.Duration(a.retryAfter()) * time.Second)
		}
	})
	delete(c.nodes, "doomed")
	t.Logf("%d clients of a dead node were assigned to other nodes in %v: max/mean %.4f, %v; %d answers were 503 with Retry-After, the slowest took %v",
		sessions, time.Since(began).Round(time.Millisecond), got.maxOverMean(5), slices.Sorted(maps.Values(got.byNode)), rejected, slowest)
	if e := got.maxOverMean(5); e > 1.05 {
		t.Errorf("max/mean %.4f, more than 1.05", e)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("assigning all clients took %v, more than a minute", took)
	}
}
