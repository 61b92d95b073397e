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

	"github.com/usher-broker/usher/proto"
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

// TestCompose builds the image and starts a cluster. It then scales the nodes up and
// down, kills a container and restarts Redis, while 500 clients on the host send
// messages all the time.
func TestCompose(t *testing.T) {
	needEngine(t)
	p := newProject(t)
	p.env = append(p.env, "USHER_CHECKPOINT=true") // so that no message is lost on kill -9
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

	list := newPlayers(t, p.auth, 10, "ada")
	for _, c := range list {
		before := c.session.Node()
		c.talk(40, c.cut)
		if c.session.Node() != before {
			t.Errorf("after a cut the session is on %s, was on %s", c.session.Node(), before)
		}
		if s := c.session.Stats(); s.Resumes == 0 || s.Resets != 0 {
			t.Errorf("after a cut: %d resumes, %d resets", s.Resumes, s.Resets)
		}
	}

	background := newClients(t, p.auth)
	background.add(250)
	background.check("on 2 nodes")

	// Log in until each new node has got a login.
	before := p.eligible()
	began := time.Now()
	p.compose("up", "--detach", "--scale", "node=5")
	up := time.Since(began)
	fresh := map[string]time.Duration{}
	await(t, "a login on each new node", waitLimit, func() bool {
		c := newPlayer(t, p.auth, "bob"+strconv.Itoa(int(time.Since(began))))
		if node := c.session.Node(); !before[node] && fresh[node] == 0 {
			fresh[node] = time.Since(began)
		}
		return len(fresh) == 3
	})
	for node, d := range fresh {
		t.Logf("%s got its first login %.1f s after the scale command began, %.1f s after it returned", node, d.Seconds(), max(d-up, 0).Seconds())
		if d-up > 10*time.Second {
			t.Errorf("%s got no login for %v", node, d)
		}
	}
	p.awaitHealthy("node", 5)
	if now := get(t, p.auth+"/.well-known/jwks.json"); now != keys {
		t.Errorf("scaling changed the keys:\n%s\n%s", keys, now)
	}
	background.add(250)
	background.check("on 5 nodes")

	p.compose("up", "--detach", "--scale", "node=3")
	p.awaitEligible(3)
	left := p.eligible()
	await(t, "all sessions to leave the stopped nodes", waitLimit, func() bool { return background.allOn(left) })
	background.check("on 3 nodes again")

	victim := ""
	for id := range p.containers("node") {
		victim = id
		break
	}
	docker(t, "kill", "--signal", "KILL", victim)
	await(t, "the killed node to be detected", waitLimit, func() bool { return len(p.eligible()) < 3 })
	left = p.eligible()
	await(t, "all sessions to leave the killed node", waitLimit, func() bool { return background.allOn(left) })
	background.check("after a container was killed")
	docker(t, "start", victim)
	p.awaitEligible(3)

	p.compose("restart", "redis")
	p.awaitHealthy("redis", 1)
	if n := len(p.eligible()); n != 3 {
		t.Errorf("%d nodes are eligible after Redis was restarted, want 3", n)
	}
	p.awaitHealthy("node", 3)
	background.check("after Redis was restarted")

	background.settle()
	for _, c := range list {
		c.talk(10, nil)
		if s := c.session.Stats(); s.Resets != 0 {
			t.Errorf("%d resets", s.Resets)
		}
	}
}

// TestBridge starts the cluster of bridge.yml, whose containers have their own network.
// Each node must discover at which port it is published.
func TestBridge(t *testing.T) {
	needEngine(t)
	p := newBridge(t)
	p.compose("build")
	p.compose("up", "--detach", "--scale", "node=3")
	for service, n := range map[string]int{"redis": 1, "auth": 1, "broker": 1, "node": 3} {
		p.awaitHealthy(service, n)
	}
	list := newPlayers(t, p.auth, 30, "ada")
	if n := nodes(list); len(n) != 3 {
		t.Errorf("30 players are on %v, want some on each of three nodes", n)
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
	t.Logf("clients reach the nodes at %v", urls)
	p.compose("up", "--detach", "--scale", "node=2")
	await(t, "all sessions to be on two nodes", waitLimit, func() bool { return len(nodes(list)) == 2 })
	for _, c := range list {
		c.talk(10, nil)
		if s := c.session.Stats(); s.Resets != 0 {
			t.Errorf("%d resets", s.Resets)
		}
	}
}

// checkImage checks the size, user and version of the image.
func checkImage(t *testing.T, p *project) {
	t.Helper()
	size, err := strconv.Atoi(docker(t, "image", "inspect", "--format", "{{.Size}}", p.image()))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("image: %.1f MB", float64(size)/1e6)
	limit := 40_000_000
	if os.Getenv("RUN_IMAGE") == "" {
		limit -= 2_000_000 // the files of the real run image that its substitute lacks
	}
	if size > limit {
		t.Errorf("the image has %d bytes, want at most %d", size, limit)
	}
	if user := docker(t, "image", "inspect", "--format", "{{.Config.User}}", p.image()); user != "65532:65532" {
		t.Errorf("the image runs as %q, want 65532:65532", user)
	}
	version := docker(t, "image", "inspect", "--format", `{{index .Config.Labels "org.opencontainers.image.version"}}`, p.image())
	out := docker(t, "run", "--rm", "--network=none", p.image(), "version", "--output=json")
	var built struct{ Version, Commit string }
	if err := json.Unmarshal([]byte(out), &built); err != nil {
		t.Fatalf("usher version prints %q: %v", out, err)
	}
	if version != proto.Version || !strings.HasPrefix(built.Version, version) || built.Commit != commit {
		t.Errorf("usher version prints %q, the label is %q", out, version)
	}
}

// checkHardened checks the security options of the running containers.
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

// eligible returns the nodes that the broker would assign sessions to.
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
	await(p.t, strconv.Itoa(n)+" eligible nodes", waitLimit, func() bool { return len(p.eligible()) == n })
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
