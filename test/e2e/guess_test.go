package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	usher "github.com/usher-broker/usher/client-sdk/go"
)

// usersFile makes a file of one user.
func usersFile(t *testing.T, name, password string) string {
	t.Helper()
	cmd := exec.Command(usherBin, "keys", "password", name)
	cmd.Stdin = strings.NewReader(password + "\n")
	line, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, line, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestGuessers has somebody guess a password at two auths in turn: together they
// allow no more tries than one. Then it floods them with bad logins that claim to
// come from everywhere, and looks at what the players notice.
func TestGuessers(t *testing.T) {
	users := usersFile(t, "ada", "correct horse")
	c := startCluster(t, 1, "--users="+users)
	auths := []*process{c.auth, c.startAuth("auth-2", "--users="+users)}
	guess := func(p *process, user, password string, header ...string) answer {
		t.Helper()
		req, err := http.NewRequest("POST", "http://"+p.listen+"/v1/login",
			strings.NewReader(fmt.Sprintf(`{"method":"password","credentials":{"username":%q,"password":%q}}`, user, password)))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		a, err := do(req)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	tried := 0
	for i := range 40 {
		if guess(auths[i%2], "ada", fmt.Sprint("guess ", i)).status == 401 {
			tried++
		}
	}
	// Ten, and one more each 30 s.
	if tried < 10 || tried > 11 {
		t.Errorf("%d guesses were tried at two auths", tried)
	}
	for _, p := range auths {
		if a := guess(p, "ada", "correct horse"); a.status != 429 || a.retryAfter() == 0 {
			t.Errorf("%s: the next one: %v", p.name, a)
		}
	}

	list := talkers(t, 10, 50*time.Millisecond, func(name string) usher.Config {
		return usher.Config{Auth: c.url(""), Credentials: usher.Guest(name)}
	})
	awaitEchoes(t, list, 20*time.Second)
	var before [2]float64
	for i, p := range auths {
		before[i] = p.metrics()["process_resident_memory_bytes"]
	}
	const rate = 2000
	over := pick(2*time.Second, 10*time.Second)
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer client.CloseIdleConnections()
	var next, done atomic.Int64
	var mu sync.Mutex
	got := map[int]int{}
	var wg sync.WaitGroup
	start := time.Now()
	for range 32 {
		wg.Go(func() {
			for {
				n := next.Add(1)
				due := start.Add(time.Duration(n) * time.Second / rate)
				if due.Sub(start) > over {
					return
				}
				time.Sleep(time.Until(due))
				req, err := http.NewRequest("POST", "http://"+auths[n%2].listen+"/v1/login",
					strings.NewReader(fmt.Sprintf(`{"method":"password","credentials":{"username":"user-%d","password":"x"}}`, n)))
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("X-Forwarded-For", fmt.Sprintf("10.%d.%d.%d", n>>16&255, n>>8&255, n&255))
				resp, err := client.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				drain(resp)
				done.Add(1)
				mu.Lock()
				got[resp.StatusCode]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	awaitEchoes(t, list, 10*time.Second)
	for _, tk := range list {
		if states, resets, _ := tk.view(); len(states) != 1 || len(resets) != 0 {
			t.Errorf("a player noticed: %v %v", states, resets)
		}
	}
	var grown [2]float64
	for i, p := range auths {
		grown[i] = (p.metrics()["process_resident_memory_bytes"] - before[i]) / 1e6
	}
	t.Logf("%d bad logins in %v (%.0f a second): %v; auths grew by %.0f and %.0f MB", done.Load(), took, float64(done.Load())/took.Seconds(), got, grown[0], grown[1])
	// The address has failed 10 or 11 times before: of its 50, and one more each 2 s,
	// some are left. Those under way when they are used up go on.
	if most := 50 + int(took/time.Second) + 32; got[401] > most {
		t.Errorf("%d passwords were tried, at most %d may", got[401], most)
	}
	if got[401]+got[429]+got[503] != int(done.Load()) {
		t.Errorf("answers %v", got)
	}
	for _, g := range grown {
		if g > 200 { // a hash takes 19 MiB, and the collector comes when it comes
			t.Errorf("an auth has grown by %.0f MB", g)
		}
	}
}
