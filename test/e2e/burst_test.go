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

// landings counts the sessions that were sent to each node, and when.
type landings struct {
	mu sync.Mutex
	on map[string]int
	at map[string][]time.Time
}

func (l *landings) add(node string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.on == nil {
		l.on, l.at = map[string]int{}, map[string][]time.Time{}
	}
	l.on[node]++
	l.at[node] = append(l.at[node], time.Now())
}

// evenness is the fullest of so many nodes over the mean.
func (l *landings) evenness(nodes int) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	sum, most := 0, 0
	for _, n := range l.on {
		sum += n
		most = max(most, n)
	}
	return float64(most) * float64(nodes) / float64(sum)
}

// peak is the most sessions that the node got in any second.
func (l *landings) peak(node string) (most int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	times := slices.Clone(l.at[node])
	slices.SortFunc(times, time.Time.Compare)
	for i, j := 0, 0; j < len(times); j++ {
		for times[j].Sub(times[i]) >= time.Second {
			i++
		}
		most = max(most, j-i+1)
	}
	return most
}

// loginsAt logs so many guests in at the doors by turns, many at once, and has
// every one attach if it is to.
func loginsAt(t *testing.T, doors []string, name string, n int, stays bool, l *landings) {
	t.Helper()
	const atOnce = 64
	var wg sync.WaitGroup
	next := make(chan int)
	for range atOnce {
		wg.Go(func() {
			for i := range next {
				a := post(t, "http://"+doors[i%len(doors)]+"/v1/login", "",
					fmt.Sprintf(`{"method":"guest","credentials":{"name":"%s-%d"}}`, name, i))
				if a.status != 200 {
					t.Errorf("login: %v", a)
					continue
				}
				l.add(a.at.Node.ID)
				if stays {
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

// TestBurst sends a burst of logins to one auth, and to four with gossip between
// them and the nodes; then an empty node joins, under load.
func TestBurst(t *testing.T) {
	const nodes = 8
	logins := pick(1600, 4000)
	t.Run("one auth", func(t *testing.T) {
		c := startCluster(t, nodes)
		var l landings
		loginsAt(t, []string{c.auth.listen}, "one", logins, false, &l)
		t.Logf("%d logins: max/mean %.4f, %v", logins, l.evenness(nodes), l.on)
		if e := l.evenness(nodes); e > 1.03 {
			t.Errorf("max/mean %.4f, more than 1.03", e)
		}
	})
	t.Run("four auths", func(t *testing.T) {
		c := startCluster(t, nodes)
		doors := []string{c.auth.listen}
		for i := range 3 {
			doors = append(doors, c.startAuth(fmt.Sprint("auth-", i+2)).listen)
		}
		var l landings
		loginsAt(t, doors, "four", logins, true, &l)
		t.Logf("%d logins: max/mean %.4f, %v", logins, l.evenness(nodes), l.on)
		if e := l.evenness(nodes); e > 1.10 {
			t.Errorf("max/mean %.4f, more than 1.10", e)
		}
		joinUnderLoad(t, c, doors, nodes)
	})
}

// joinUnderLoad starts one more node while logins come, and looks how fast it is
// filled.
func joinUnderLoad(t *testing.T, c *cluster, doors []string, nodes int) {
	t.Helper()
	stop := make(chan struct{})
	var l landings
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
				a := post(t, "http://"+doors[i%len(doors)]+"/v1/login", "", fmt.Sprintf(`{"method":"guest","credentials":{"name":"join-%d"}}`, i))
				if a.status == 200 {
					l.add(a.at.Node.ID)
				}
			})
		}
	})
	const capacity = 3000 // filled at 50 a second at most, of itself
	c.startNode("late", fmt.Sprintf("--max-sessions=%d", capacity))
	time.Sleep(pick(15*time.Second, 30*time.Second))
	close(stop)
	wg.Wait()
	t.Logf("200 logins a second for %d nodes and an empty one: at most %d a second on it, %d in all; %v", nodes, l.peak("late"), l.on["late"], l.on)
	if l.on["late"] == 0 {
		t.Error("the node that joined got nothing")
	}
	// Its bound is a sixtieth of its capacity a second, plus a quarter of a
	// second's worth that was saved up, and every auth's own rounding.
	if most := l.peak("late"); most > capacity/60+capacity/60/4+2*len(doors) {
		t.Errorf("%d a second on the node that joined, more than its bound of %d", most, capacity/60)
	}
}

// TestStorm kills a node with very many sessions, all of whose clients ask where
// to go as soon as they can and come back when they are told.
func TestStorm(t *testing.T) {
	sessions := pick(1500, 10_000)
	c := startCluster(t, 0)
	c.startNode("doomed", "--max-sessions=20000")
	c.awaitNodes()
	var l landings
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
	each(64, func(i int) { at[i] = c.enter(fmt.Sprint("storm-", i)) })
	for i := range 5 {
		c.startNode(fmt.Sprint("node-", i+1), "--max-sessions=20000")
	}
	c.awaitNodes()
	c.nodes["doomed"].kill()
	began := time.Now()
	var mu sync.Mutex
	shed, slowest := 0, time.Duration(0)
	each(1000, func(i int) {
		for {
			a := post(t, c.url("/v1/reconnect"), at[i].Token, `{"unreachable":"doomed"}`)
			mu.Lock()
			slowest = max(slowest, a.took)
			mu.Unlock()
			if a.status == 200 && a.at.Node.ID != "doomed" {
				l.add(a.at.Node.ID)
				return
			}
			if a.status == 200 { // it is taken for alive still
				time.Sleep(time.Second)
				continue
			}
			if a.status != 503 || a.retryAfter() < 1 {
				t.Errorf("reconnect: %v", a)
				return
			}
			mu.Lock()
			shed++
			mu.Unlock()
			time.Sleep(time.Duration(a.retryAfter()) * time.Second)
		}
	})
	delete(c.nodes, "doomed")
	t.Logf("%d clients of a dead node were told where to go in %v: max/mean %.4f, %v; %d answers were to come back later, the slowest took %v",
		sessions, time.Since(began).Round(time.Millisecond), l.evenness(5), slices.Sorted(maps.Values(l.on)), shed, slowest)
	if e := l.evenness(5); e > 1.05 {
		t.Errorf("max/mean %.4f", e)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it took %v", took)
	}
}
