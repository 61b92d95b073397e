package containers

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

func needEngine(t *testing.T) {
	t.Helper()
	if os.Getenv("USHER_CONTAINERS") == "" {
		t.Skip("set USHER_CONTAINERS=1 (make test-containers)")
	}
	if out, err := exec.Command("docker", "info").CombinedOutput(); err != nil {
		t.Fatalf("no Docker engine answers (apt-get install docker.io docker-compose; dockerd &): %v\n%s", err, out)
	}
}

// TestCompose builds the image, brings a cluster up, and does to it what happens
// to clusters: it grows and shrinks, a container is killed, Redis restarts. All
// the while 500 clients on the host talk.
func TestCompose(t *testing.T) {
	needEngine(t)
	p := newProject(t)
	p.env = append(p.env, "USHER_CHECKPOINT=true") // so that kill -9 loses nothing
	p.compose("build")
	checkImage(t, p)

	p.compose("up", "--detach", "--scale", "node=2")
	p.awaitHealthy("redis", 1)
	p.awaitHealthy("auth", 1)
	p.awaitHealthy("broker", 1)
	p.awaitHealthy("node", 2)
	p.awaitEligible(2)
	checkHardened(t, p)
	keys := get(t, p.auth+"/.well-known/jwks.json")

	list := players(t, p.auth, 10, "ada")
	for _, c := range list {
		home := c.session.Node()
		c.talk(40, c.cut)
		if c.session.Node() != home {
			t.Errorf("after a cut a session is on %s, was on %s", c.session.Node(), home)
		}
		if s := c.session.Stats(); s.Resumes == 0 || s.Resets != 0 {
			t.Errorf("after a cut: %d resumes, %d resets", s.Resumes, s.Resets)
		}
	}

	crowd := gather(t, p.auth)
	crowd.add(250)
	crowd.told("on 2 nodes")

	// Logins go on, so that a node that takes them is seen to.
	before := p.eligible()
	began := time.Now()
	p.compose("up", "--detach", "--scale", "node=5")
	up := time.Since(began)
	fresh := map[string]time.Duration{}
	await(t, "a login on each new node", patience, func() bool {
		c := play(t, p.auth, "bob"+strconv.Itoa(int(time.Since(began))))
		if node := c.session.Node(); !before[node] && fresh[node] == 0 {
			fresh[node] = time.Since(began)
		}
		return len(fresh) == 3
	})
	for node, d := range fresh {
		t.Logf("%s took its first login %.1f s after it was asked for, %.1f s after it ran", node, d.Seconds(), max(d-up, 0).Seconds())
		if d-up > 10*time.Second {
			t.Errorf("%s took no login for %v", node, d)
		}
	}
	p.awaitHealthy("node", 5)
	if now := get(t, p.auth+"/.well-known/jwks.json"); now != keys {
		t.Errorf("scaling has changed the keys:\n%s\n%s", keys, now)
	}
	crowd.add(250)
	crowd.told("on 5 nodes")

	p.compose("up", "--detach", "--scale", "node=3")
	p.awaitEligible(3)
	left := p.eligible()
	await(t, "all sessions to have left the stopped nodes", patience, func() bool { return crowd.within(left) })
	crowd.told("on 3 nodes again")

	victim := ""
	for id := range p.containers("node") {
		victim = id
		break
	}
	docker(t, "kill", "--signal", "KILL", victim)
	await(t, "the killed node to be found out", patience, func() bool { return len(p.eligible()) < 3 })
	left = p.eligible()
	await(t, "all sessions to have left the killed node", patience, func() bool { return crowd.within(left) })
	crowd.told("after a container was killed")
	docker(t, "start", victim)
	p.awaitEligible(3)

	p.compose("restart", "redis")
	p.awaitHealthy("redis", 1)
	if n := len(p.eligible()); n != 3 {
		t.Errorf("%d nodes take sessions after Redis was restarted", n)
	}
	p.awaitHealthy("node", 3)
	crowd.told("after Redis was restarted")

	crowd.settle()
	for _, c := range list {
		c.talk(10, nil)
		if s := c.session.Stats(); s.Resets != 0 {
			t.Errorf("%d resets", s.Resets)
		}
	}
}

// TestBridge is the cluster whose containers have a network of their own: each
// node finds out at which port it is published.
func TestBridge(t *testing.T) {
	needEngine(t)
	p := newBridge(t)
	p.compose("build")
	p.compose("up", "--detach", "--scale", "node=3")
	for service, n := range map[string]int{"redis": 1, "auth": 1, "broker": 1, "node": 3} {
		p.awaitHealthy(service, n)
	}
	list := players(t, p.auth, 30, "ada")
	if n := nodes(list); len(n) != 3 {
		t.Errorf("30 players are on %v, want all of three nodes", n)
	}
	urls := map[string]string{}
	for _, c := range list {
		c.talk(20, c.cut)
		if s := c.session.Stats(); s.Resumes == 0 || s.Resets != 0 {
			t.Errorf("after a cut: %d resumes, %d resets", s.Resumes, s.Resets)
		}
		c.mu.Lock()
		urls[c.session.Node()] = c.latest.RemoteAddr().String()
		c.mu.Unlock()
	}
	t.Logf("nodes are reached at %v", urls)
	p.compose("up", "--detach", "--scale", "node=2")
	await(t, "all sessions to be on two nodes", patience, func() bool { return len(nodes(list)) == 2 })
	for _, c := range list {
		c.talk(10, nil)
		if s := c.session.Stats(); s.Resets != 0 {
			t.Errorf("%d resets", s.Resets)
		}
	}
}

// checkImage holds the image to what the Dockerfile promises.
func checkImage(t *testing.T, p *project) {
	t.Helper()
	size, err := strconv.Atoi(docker(t, "image", "inspect", "--format", "{{.Size}}", p.image()))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("image: %.1f MB", float64(size)/1e6)
	most := 25_000_000
	if os.Getenv("RUN_IMAGE") == "" {
		most -= 2_000_000 // what is in the real one, and not in its stand-in
	}
	if size > most {
		t.Errorf("the image has %d bytes, want at most %d", size, most)
	}
	if user := docker(t, "image", "inspect", "--format", "{{.Config.User}}", p.image()); user != "65532:65532" {
		t.Errorf("the image runs as %q", user)
	}
	version := docker(t, "image", "inspect", "--format", `{{index .Config.Labels "org.opencontainers.image.version"}}`, p.image())
	if said := docker(t, "run", "--rm", "--network=none", p.image(), "version"); version == "" || !strings.Contains(said, version) {
		t.Errorf("usher version says %q, the label %q", said, version)
	}
}

// checkHardened holds the running containers to what docker-compose.yml asks.
func checkHardened(t *testing.T, p *project) {
	t.Helper()
	const format = "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}}"
	for _, service := range []string{"redis", "auth", "broker", "node", "keys"} {
		for id := range p.containers(service) {
			if got := docker(t, "inspect", "--format", format, id); got != "true [ALL] [no-new-privileges:true]" {
				t.Errorf("%s runs with %q", service, got)
			}
		}
	}
}

// eligible returns the nodes that the broker would send somebody to.
func (p *project) eligible() map[string]bool {
	var answer struct {
		Nodes []struct {
			ID       string
			Eligible bool
		}
	}
	list := map[string]bool{}
	resp, err := http.Get(p.api + "/v1/nodes")
	if err != nil {
		return list // not up yet
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		p.t.Errorf("GET /v1/nodes: %v", err)
	}
	for _, n := range answer.Nodes {
		if n.Eligible {
			list[n.ID] = true
		}
	}
	return list
}

func (p *project) awaitEligible(n int) {
	p.t.Helper()
	await(p.t, strconv.Itoa(n)+" nodes that take sessions", patience, func() bool { return len(p.eligible()) == n })
}

func get(t testing.TB, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s %v", url, resp.Status, err)
	}
	return string(body)
}
