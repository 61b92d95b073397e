package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// root is the top of the repository.
var root = filepath.Join("..", "..")

// need skips the test if the tool is not installed. With USHER_SLOW set it fails the
// test instead.
func need(t *testing.T, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		if os.Getenv("USHER_SLOW") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// run runs a command in dir and returns its output. The test fails if the command does.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// read returns the text of a file of the repository.
func read(t *testing.T, name ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{root}, name...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// buildUsher builds the binary and returns its path.
func buildUsher(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "usher")
	run(t, filepath.Join(root, "cmd", "usher"), "go", "build", "-o", bin, ".")
	return bin
}

// TestKubernetes builds the manifests and validates them against the schemas of the API.
func TestKubernetes(t *testing.T) {
	if os.Getenv("USHER_SLOW") == "" {
		t.Skip("slow: builds kustomize and kubectl-validate (USHER_SLOW=1)")
	}
	bins := t.TempDir()
	for _, tool := range []string{"sigs.k8s.io/kustomize/kustomize/v5@v5.7.1", "sigs.k8s.io/kubectl-validate@v0.0.4"} {
		cmd := exec.Command("go", "install", tool)
		cmd.Env = append(os.Environ(), "GOBIN="+bins, "GOWORK=off", "GOFLAGS=", "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go install %s: %v\n%s", tool, err, out)
		}
	}
	manifests := filepath.Join(t.TempDir(), "usher.yaml")
	built := run(t, root, filepath.Join(bins, "kustomize"), "build", filepath.Join("deploy", "kubernetes", "base"))
	if err := os.WriteFile(manifests, []byte(built), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := run(t, root, filepath.Join(bins, "kubectl-validate"), manifests); !strings.Contains(out, "OK") {
		t.Errorf("kubectl-validate prints no OK:\n%s", out)
	}
	// The validator must report an unknown field.
	bad := strings.Replace(built, "terminationGracePeriodSeconds: 60", "terminationGracePeriod: 60", 1)
	if err := os.WriteFile(manifests, []byte(bad), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(filepath.Join(bins, "kubectl-validate"), manifests).CombinedOutput(); err == nil {
		t.Errorf("kubectl-validate accepted a field that does not exist:\n%s", out)
	}
	kinds := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^kind: (\w+)$`).FindAllStringSubmatch(built, -1) {
		kinds[m[1]]++
	}
	for _, kind := range []string{"StatefulSet", "Deployment", "Ingress", "PodDisruptionBudget", "HorizontalPodAutoscaler", "NetworkPolicy", "Service", "ConfigMap"} {
		if kinds[kind] == 0 {
			t.Errorf("the manifests have no %s, only %v", kind, kinds)
		}
	}
	// Every container must have these.
	containers := strings.Count(built, "image: ")
	for _, must := range []string{"readOnlyRootFilesystem: true", "allowPrivilegeEscalation: false", "- ALL", "requests:"} {
		if n := strings.Count(built, must); n < containers {
			t.Errorf("%d of %d containers have %q", n, containers, must)
		}
	}
}

// TestFlagsExist checks that the binary has every flag and environment variable that the
// samples set.
func TestFlagsExist(t *testing.T) {
	bin := buildUsher(t)
	help := map[string]string{}
	for _, role := range []string{"auth", "broker", "node", "drain", "keys"} {
		out, _ := exec.Command(bin, role, "--help").CombinedOutput()
		help[role] = string(out)
	}
	flag := regexp.MustCompile(`--[a-z][a-z-]+`)
	for role, files := range map[string][]string{
		"auth":   {"deploy/kubernetes/base/auth.yaml", "deploy/systemd/usher-auth.service"},
		"broker": {"deploy/kubernetes/base/broker.yaml", "deploy/systemd/usher-broker.service"},
		"node":   {"deploy/systemd/usher-node.service"},
	} {
		for _, file := range files {
			for _, f := range flag.FindAllString(read(t, filepath.FromSlash(file)), -1) {
				if !strings.Contains(help[role], f+"=") && !strings.Contains(help[role], f+" ") && !strings.Contains(help[role], f+",") {
					t.Errorf("%s sets %s, which is not a flag of usher %s", file, f, role)
				}
			}
		}
	}
	// Environment variables set flags as well.
	for _, file := range []string{
		"docker-compose.yml", "deploy/compose/bridge.yml", "deploy/kubernetes/base/config.yaml", "deploy/systemd/usher-node.service",
	} {
		for _, name := range regexp.MustCompile(`(?m)^\s*(?:Environment=)?(USHER_[A-Z_]+)[:=]`).FindAllStringSubmatch(read(t, filepath.FromSlash(file)), -1) {
			if !strings.Contains(help["node"], "$"+name[1]) && !strings.Contains(help["auth"], "$"+name[1]) {
				t.Errorf("%s sets %s, which no role reads", file, name[1])
			}
		}
	}
}

// TestUnits checks the units with systemd-analyze.
func TestUnits(t *testing.T) {
	need(t, "systemd-analyze")
	dir := t.TempDir()
	bin := buildUsher(t)
	units, err := filepath.Glob(filepath.Join(root, "deploy", "systemd", "*.service"))
	if err != nil || len(units) != 3 {
		t.Fatal(units, err)
	}
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		copied := filepath.Join(dir, filepath.Base(unit))
		if err := os.WriteFile(copied, []byte(strings.ReplaceAll(string(text), "/usr/local/bin/usher", bin)), 0o600); err != nil {
			t.Fatal(err)
		}
		if out := strings.TrimSpace(run(t, dir, "systemd-analyze", "verify", copied)); strings.Contains(out, filepath.Base(unit)) {
			t.Errorf("systemd-analyze verify %s: %s", filepath.Base(unit), out)
		}
		out := run(t, dir, "systemd-analyze", "security", "--offline=true", "--threshold=20", copied)
		t.Log(out[strings.LastIndex(strings.TrimSpace(out), "\n")+1:])
	}
}
