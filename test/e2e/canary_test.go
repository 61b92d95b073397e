package e2e

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker/token/tokentest"
	usher "github.com/usher-broker/usher/client-sdk/go"
	"github.com/usher-broker/usher/proto"
)

// TestCanaries gives a cluster secrets of all kinds, has it do everything that it
// does with them, rightly and wrongly, at the loudest log level, and looks for them
// wherever they must not be: logs, metrics, answers, command lines, what processes
// say of themselves, and Redis.
func TestCanaries(t *testing.T) {
	dir := t.TempDir()
	secrets := map[string]string{} // by what they are
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	run := func(args ...string) string {
		out, err := exec.Command(usherBin, args...).Output()
		if err != nil {
			t.Fatalf("usher %v: %v", args, err)
		}
		return strings.TrimSpace(string(out))
	}
	secrets["gossip key"] = run("keys", "gossip")
	secrets["password"] = "canary-password-73f1"
	secrets["wrong password"] = "canary-mistyped-9be2"
	secrets["redis password"] = "canary-redis-5c8a"
	secrets["webhook secret"] = "canary-webhook-secret-d04e"
	secrets["webhook credential"] = "canary-webhook-credential-1a77"
	apiKey, line, _ := strings.Cut(run("keys", "api", "operator", "ops"), "\n")
	secrets["API key"] = apiKey
	run("keys", "node", "--out", filepath.Join(dir, "node.key"))
	signing := filepath.Join(dir, "signing.jwk")
	run("keys", "signing", "--out", signing)
	set := struct{ Keys []struct{ D string } }{}
	b, err := os.ReadFile(signing)
	if err != nil || json.Unmarshal(b, &set) != nil || len(set.Keys) != 1 {
		t.Fatalf("%v: %s", err, b)
	}
	secrets["signing key"] = set.Keys[0].D
	b, err = os.ReadFile(filepath.Join(dir, "node.key"))
	if err != nil {
		t.Fatal(err)
	}
	secrets["node key"] = strings.TrimSpace(string(b))
	users := usersFile(t, "ada", secrets["password"])
	b, err = os.ReadFile(users)
	if err != nil {
		t.Fatal(err)
	}
	secrets["password hash"] = strings.TrimSpace(string(b[strings.LastIndexByte(string(b), '$'):]))
	_, client, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	secrets["client's key"] = base64.RawURLEncoding.EncodeToString(client.Seed())

	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), "good") {
			io.WriteString(w, `{"user":"hooked"}`)
			return
		}
		w.WriteHeader(401)
	}))
	defer hook.Close()

	redis := startCluster(t, 0) // whose Redis alone is used
	if err := redis.redis.Do("CONFIG", "SET", "requirepass", secrets["redis password"]); err != nil {
		t.Fatal(err)
	}
	redis.auth.kill()
	address := write("redis.url", "redis://:"+secrets["redis password"]+"@"+redis.redis.Addr()+"/0")
	gossip := write("gossip.key", secrets["gossip key"])
	common := []string{"--gossip=127.0.0.1:0", "--redis-file=" + address, "--gossip-key-file=" + gossip, "--log-level=debug"}
	with := func(args ...string) []string { return append(args, common...) }
	auth := startRole(t, "auth", with("auth", "--guest", "--users="+users, "--listen=127.0.0.1:0", "--signing-key="+signing,
		"--webhook="+hook.URL, "--webhook-secret-file="+write("hook", secrets["webhook secret"]))...)
	nodes := []*process{}
	for i := range 2 {
		nodes = append(nodes, startRole(t, fmt.Sprint("node-", i+1), with("node", fmt.Sprint("--id=node-", i+1), "--listen=127.0.0.1:0", "--join="+auth.gossip,
			"--jwks=http://"+auth.listen+"/.well-known/jwks.json", "--node-key="+filepath.Join(dir, "node.key"))...))
	}
	broker := startRole(t, "broker", with("broker", "--listen=127.0.0.1:0", "--join="+auth.gossip, "--api-keys="+write("api.keys", line+"\n"))...)
	all := append([]*process{auth, broker}, nodes...)
	for _, p := range []*process{auth, broker} {
		p.await("reach the nodes", starts, func() bool { return p.metrics()["usher_nodes_eligible"] == 2 })
	}

	base := "http://" + auth.listen
	var answers strings.Builder
	ask := func(method, url string, header map[string]string, body string) answer {
		t.Helper()
		req, err := http.NewRequest(method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range header {
			req.Header.Set(k, v)
		}
		a, err := do(req)
		if err != nil {
			t.Fatal(err)
		}
		if a.status >= 300 {
			fmt.Fprintf(&answers, "%s %s: %s\n", method, req.URL.Path, a.body)
		}
		return a
	}
	login := func(user, password string) answer {
		return ask("POST", base+"/v1/login", nil, fmt.Sprintf(`{"method":"password","credentials":{"username":%q,"password":%q}}`, user, password))
	}
	ok := login("ada", secrets["password"])
	if ok.status != 200 {
		t.Fatal(ok)
	}
	secrets["token"] = ok.at.Token
	login("ada", secrets["wrong password"])
	login(secrets["password"], "ada")                                                                                                          // in the wrong field
	ask("POST", base+"/v1/login", nil, fmt.Sprintf(`{"method":"password","credentials":{"username":"ada","password":%q`, secrets["password"])) // cut short
	for _, more := range []string{"good", "bad"} {
		ask("POST", base+"/v1/login", nil, fmt.Sprintf(`{"method":"webhook","credentials":{"key":%q,"it":%q}}`, secrets["webhook credential"], more))
	}
	bearer := map[string]string{"Authorization": "Bearer " + ok.at.Token}
	ask("POST", base+"/v1/reconnect", bearer, "{}")
	ask("POST", base+"/v1/reconnect", map[string]string{"Authorization": "Bearer " + ok.at.Token[:len(ok.at.Token)-2]}, "{}")
	ask("GET", "http://"+nodes[0].listen+proto.ConnectPath+"?token="+ok.at.Token, nil, "")
	ask("GET", "http://"+nodes[0].listen+proto.ConnectPath, bearer, "")
	attach(t, ok.at, "")
	ask("GET", "http://"+broker.listen+"/v1/nodes", map[string]string{"Authorization": "Bearer " + apiKey}, "")
	ask("GET", "http://"+broker.listen+"/v1/nodes", map[string]string{"Authorization": "Bearer " + apiKey + "x"}, "")

	tk := talk(t, usher.Config{Auth: base, Credentials: usher.Guest("bob"), Key: client}, 20*time.Millisecond)
	awaitEchoes(t, []*talker{tk}, 20*time.Second)
	secrets["bound token"] = tk.session.Token()
	proof := tokentest.Holder{Key: client}.Proof(proto.ProofReconnect, tk.session.Token(), uint64(time.Now().UnixMilli()+1000))
	secrets["proof"] = proof
	for range 2 { // and stale
		ask("POST", base+"/v1/reconnect", map[string]string{"Authorization": "Bearer " + tk.session.Token(), proto.HeaderProof: proof}, "{}")
	}
	ask("DELETE", "http://"+broker.listen+"/v1/sessions/"+ok.at.Session, map[string]string{"Authorization": "Bearer " + apiKey}, "")
	for _, args := range [][]string{
		{"nodes", "--api=http://" + broker.listen, "--api-key-file=" + write("api.key", apiKey)},
		{"doctor", "--redis-file=" + address, "--gossip-key-file=" + gossip, "--gossip=127.0.0.1:0", "--join=" + auth.gossip, "--signing-key=" + signing},
	} {
		out, _ := exec.Command(usherBin, args...).CombinedOutput()
		answers.Write(out)
	}

	found := 0
	look := func(where, text string) {
		t.Helper()
		for what, secret := range secrets {
			if strings.Contains(text, secret) {
				found++
				i := strings.Index(text, secret)
				t.Errorf("%s: the %s: …%.60s", where, what, text[max(0, i-40):])
			}
		}
	}
	look("answers", answers.String())
	looked := len(answers.String())
	for _, p := range all {
		said := p.said.String()
		look(p.name+" says", said)
		looked += len(said)
		for _, path := range []string{"/metrics", "/debug/pprof/goroutine?debug=2", "/debug/pprof/cmdline"} {
			text := p.text(path)
			look(p.name+path, text)
			looked += len(text)
		}
		argv, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		look(p.name+"'s command line", string(argv))
		looked += len(argv)
	}
	dump := exec.Command("redis-cli", "-p", redis.redis.Addr()[strings.LastIndexByte(redis.redis.Addr(), ':')+1:], "--no-auth-warning", "eval",
		`local out = {} for _, k in ipairs(redis.call('KEYS', '*')) do
		   out[#out+1] = k
		   local t = redis.call('TYPE', k).ok
		   if t == 'string' then out[#out+1] = redis.call('GET', k) end
		   if t == 'hash' then for _, v in ipairs(redis.call('HGETALL', k)) do out[#out+1] = v end end
		 end return out`, "0")
	dump.Env = append(os.Environ(), "REDISCLI_AUTH="+secrets["redis password"])
	stored, err := dump.CombinedOutput()
	if err != nil || !strings.Contains(string(stored), "session:") {
		t.Fatalf("%v: %.300s", err, stored)
	}
	look("Redis", string(stored))
	t.Logf("%d secrets looked for in %d KB: %d hits", len(secrets), (looked+len(stored))/1000, found)
}
