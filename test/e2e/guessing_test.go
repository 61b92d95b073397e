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

// usersFile writes a file for --users with one user and returns its path.
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

// TestPasswordGuessing guesses a password at two auths in turn. Together they must
// allow no more attempts than one auth. It then floods both with bad logins that
// have forged X-Forwarded-For headers, and checks that connected players are not
// disturbed, that attempts stay limited, and that memory stays bounded.
func TestPasswordGuessing(t *testing.T) {
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
	// The limit is ten attempts, and one more every 30 s.
	if tried < 10 || tried > 11 {
		t.Errorf("two auths checked %d guesses, want 10 or 11", tried)
	}
	for _, p := range auths {
		if a := guess(p, "ada", "correct horse"); a.status != 429 || a.retryAfter() == 0 {
			t.Errorf("%s: the attempt after the limit: %v, want 429 with Retry-After", p.name, a)
		}
	}

	clients := startEchoClients(t, 10, 50*time.Millisecond, func(name string) usher.Config {
		return usher.Config{Auth: c.url(""), Credentials: usher.Guest(name)}
	})
	awaitEchoes(t, clients, 20*time.Second)
	var before [2]float64
	for i, p := range auths {
		before[i] = p.metrics()["process_resident_memory_bytes"]
	}
	const rate = 2000
	duration := pick(2*time.Second, 10*time.Second)
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
				if due.Sub(start) > duration {
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
	awaitEchoes(t, clients, 10*time.Second)
	for _, ec := range clients {
		if states, resets, _ := ec.view(); len(states) != 1 || len(resets) != 0 {
			t.Errorf("a player was disturbed: %v, resets %q", states, resets)
		}
	}
	var grown [2]float64
	for i, p := range auths {
		grown[i] = (p.metrics()["process_resident_memory_bytes"] - before[i]) / 1e6
	}
	t.Logf("%d bad logins in %v (%.0f a second): %v; the auths grew by %.0f and %.0f MB", done.Load(), took, float64(done.Load())/took.Seconds(), got, grown[0], grown[1])
	// An address may fail 50 times, and once more every 2 s. It has failed 10 or 11
	// times already. The up to 32 requests in flight at the limit are still checked.
	if most := 50 + int(took/time.Second) + 32; got[401] > most {
		t.Errorf("the auths checked %d passwords, want at most %d", got[401], most)
	}
	if got[401]+got[429]+got[503] != int(done.Load()) {
		t.Errorf("status codes %v, want only 401, 429 and 503", got)
	}
	for _, g := range grown {
		if g > 200 { // a hash needs 19 MiB, which is freed only by the next garbage collection
			t.Errorf("an auth has grown by %.0f MB, want at most 200", g)
		}
	}
}
