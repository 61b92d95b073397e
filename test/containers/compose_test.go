package containers

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/usher-broker/usher/proto"
)

// commit is the commit that the image is said to be built from.
const commit = "0123456789ab"

// root is the top of the repository.
var root = filepath.Join("..", "..")

// project is a running docker-compose.yml.
type project struct {
	t       testing.TB
	name    string
	command []string
	file    string // other than docker-compose.yml
	env     []string
	auth    string // base URL
	api     string
}

// newProject returns a project with its own names, ports and address, so that it does
// not collide with anything else on this machine. The test's cleanup removes it.
func newProject(t testing.TB) *project {
	t.Helper()
	tag := strconv.FormatUint(rand.Uint64()>>32, 36)
	b := substitutes(t, tag)
	address := fmt.Sprintf("127.%d.%d.%d", 64+rand.IntN(128), rand.IntN(256), 1+rand.IntN(254))
	api := freePort(t)
	return startProject(t, b, &project{
		t: t, name: "usher-test-" + tag, command: []string{"docker-compose"},
		auth: "http://" + address + ":8080", api: "http://127.0.0.1:" + api,
		env: append(os.Environ(), "BUILD_IMAGE="+b.build, "RUN_IMAGE="+b.run, "REDIS_IMAGE="+b.redis, "VERSION="+proto.Version, "COMMIT="+commit,
			"USHER_IMAGE=usher-test:"+tag, "USHER_ADDRESS="+address, "USHER_API_PORT="+api, "USHER_REDIS_PORT="+freePort(t),
			"DOCKER_BUILDKIT=0"), // the substitute images exist only in the engine
	})
}

// newBridge is newProject for deploy/compose/bridge.yml.
func newBridge(t testing.TB) *project {
	t.Helper()
	tag := strconv.FormatUint(rand.Uint64()>>32, 36)
	b := substitutes(t, tag)
	host := bridgeAddress(t)
	login, first := freePort(t), 20_000+100*rand.IntN(100)
	return startProject(t, b, &project{
		t: t, name: "usher-test-" + tag, command: []string{"docker-compose"}, file: filepath.Join("deploy", "compose", "bridge.yml"),
		auth: "http://" + net.JoinHostPort(host, login),
		env: append(os.Environ(), "BUILD_IMAGE="+b.build, "RUN_IMAGE="+b.run, "REDIS_IMAGE="+b.redis, "VERSION="+proto.Version, "COMMIT="+commit,
			"USHER_IMAGE=usher-test:"+tag, "USHER_ADDRESS="+host, "USHER_LOGIN_PORT="+login,
			"USHER_NODE_PORTS="+fmt.Sprintf("%d-%d", first, first+9), "DOCKER_BUILDKIT=0"),
	})
}

// bridgeAddress returns this machine's address on the engine's default bridge. It reads
// the address from the interface, because the engine does not report it on its first run.
func bridgeAddress(t testing.TB) string {
	t.Helper()
	name := docker(t, "network", "inspect", "bridge", "--format", `{{index .Options "com.docker.network.bridge.name"}}`)
	bridge, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatalf("the bridge %q: %v", name, err)
	}
	addrs, err := bridge.Addrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range addrs {
		if n, ok := addr.(*net.IPNet); ok && n.IP.To4() != nil {
			return n.IP.String()
		}
	}
	t.Fatalf("the bridge %s has no IPv4 address: %v", name, addrs)
	return ""
}

func startProject(t testing.TB, b bases, p *project) *project {
	t.Helper()
	if exec.Command("docker", "compose", "version").Run() == nil {
		p.command = []string{"docker", "compose"}
	}
	t.Logf("using %s", strings.Join(p.command, " "))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("logs:\n%s", p.try("logs", "--no-color", "--tail=40"))
		}
		p.compose("down", "--volumes", "--timeout", "5")
		_ = exec.Command("docker", "rmi", "--force", p.image()).Run()
		removeBuildLayers(t, b.build)
	})
	return p
}

func (p *project) image() string { return "usher-test:" + strings.TrimPrefix(p.name, "usher-test-") }

// compose runs a docker-compose command at the top of the repository. The test fails if
// the command does.
func (p *project) compose(args ...string) {
	p.t.Helper()
	began := time.Now()
	out, err := p.cmd(args...).CombinedOutput()
	if err != nil {
		p.t.Fatalf("compose %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	p.t.Logf("compose %s: %.1f s", strings.Join(args, " "), time.Since(began).Seconds())
}

// try is compose without failing the test; it returns the output.
func (p *project) try(args ...string) string {
	out, err := p.cmd(args...).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%v\n%s", err, out)
	}
	return string(out)
}

func (p *project) cmd(args ...string) *exec.Cmd {
	head := append(p.command[1:len(p.command):len(p.command)], "--project-name", p.name)
	if p.file != "" {
		head = append(head, "--file", p.file)
	}
	args = append(head, args...)
	cmd := exec.Command(p.command[0], args...)
	cmd.Dir, cmd.Env = root, p.env
	return cmd
}

// containers returns the status of each container of a service, by container id.
func (p *project) containers(service string) map[string]string {
	p.t.Helper()
	out := docker(p.t, "ps", "--all", "--format", "{{.ID}}\t{{.Status}}",
		"--filter", "label=com.docker.compose.project="+p.name, "--filter", "label=com.docker.compose.service="+service)
	list := map[string]string{}
	for line := range strings.Lines(out) {
		id, status, _ := strings.Cut(strings.TrimSpace(line), "\t")
		list[id] = status
	}
	return list
}

// awaitHealthy waits until exactly n containers of the service are healthy.
func (p *project) awaitHealthy(service string, n int) {
	p.t.Helper()
	await(p.t, fmt.Sprintf("%d healthy %s", n, service), time.Minute, func() bool {
		healthy := 0
		for _, status := range p.containers(service) {
			if strings.Contains(status, "(healthy)") {
				healthy++
			}
		}
		return healthy == n
	})
}

func docker(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("docker", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// await polls until done returns true, and fails the test after timeout.
func await(t testing.TB, what string, timeout time.Duration, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(timeout); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", timeout, what)
		}
	}
}

// removeBuildLayers removes the unnamed images that the build stage left on top of its
// base image. They are large, and no later build would use them.
func removeBuildLayers(t testing.TB, base string) {
	t.Helper()
	const first = "{{index .RootFS.Layers 0}}"
	layer := docker(t, "image", "inspect", "--format", first, base)
	for _, id := range strings.Fields(docker(t, "images", "--quiet", "--filter", "dangling=true", "--filter", "since="+base)) {
		if docker(t, "image", "inspect", "--format", first, id) == layer {
			docker(t, "rmi", id)
		}
	}
}

func freePort(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return port
}
