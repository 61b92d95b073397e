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

// TestCompose builds the image, brings a cluster up, and grows and shrinks it
// under clients on the host.
func TestCompose(t *testing.T) {
	if os.Getenv("USHER_CONTAINERS") == "" {
		t.Skip("set USHER_CONTAINERS=1 (make test-containers)")
	}
	if out, err := exec.Command("docker", "info").CombinedOutput(); err != nil {
		t.Fatalf("no Docker engine answers (apt-get install docker.io docker-compose; dockerd &): %v\n%s", err, out)
	}
	p := newProject(t)
	p.compose("build")
	checkImage(t, p)

	p.compose("up", "--detach", "--scale", "node=3")
	p.awaitHealthy("redis", 1)
	p.awaitHealthy("auth", 1)
	p.awaitHealthy("broker", 1)
	p.awaitHealthy("node", 3)
	p.awaitEligible(3)
	checkHardened(t, p)
	keys := get(t, p.auth+"/.well-known/jwks.json")

	list := players(t, p.auth, 30, "ada")
	before := nodes(list)
	if len(before) != 3 {
		t.Errorf("30 players are on %v, want all of three nodes", before)
	}
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

	began := time.Now()
	p.compose("up", "--detach", "--scale", "node=5")
	p.awaitEligible(5)
	t.Logf("two more nodes take sessions %.1f s after they were asked for", time.Since(began).Seconds())
	p.awaitHealthy("node", 5)
	if now := get(t, p.auth+"/.well-known/jwks.json"); now != keys {
		t.Errorf("scaling has changed the keys:\n%s\n%s", keys, now)
	}
	fresh := players(t, p.auth, 30, "bob")
	grown, joined := nodes(fresh), 0
	for node, n := range grown {
		if before[node] == 0 {
			joined += n
		}
	}
	if joined == 0 {
		t.Errorf("30 more players are on %v, none on the nodes that joined", grown)
	}
	for _, c := range append(list, fresh...) {
		c.talk(10, nil)
		if s := c.session.Stats(); s.Resets != 0 {
			t.Errorf("scaling up: %d resets", s.Resets)
		}
	}

	p.compose("up", "--detach", "--scale", "node=3")
	p.awaitEligible(3)
	left := p.eligible()
	for _, c := range append(list, fresh...) {
		await(t, "a session to leave a stopped node", patience, func() bool { return left[c.session.Node()] })
		c.talk(10, nil)
	}
	t.Logf("30 players on 3 nodes: %v", before)
	t.Logf("30 more on 5 nodes: %v", grown)
	t.Logf("all, on 3 nodes again: %v", nodes(append(list, fresh...)))
}

// checkImage holds the image to what the Dockerfile promises.
func checkImage(t *testing.T, p *project) {
	t.Helper()
	size, err := strconv.Atoi(docker(t, "image", "inspect", "--format", "{{.Size}}", p.image()))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("image: %.1f MB", float64(size)/1e6)
	if size > 30_000_000 {
		t.Errorf("the image has %d bytes, want at most 30 MB", size)
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
