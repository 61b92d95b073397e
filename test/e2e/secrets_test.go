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

// TestNoSecretLeaks gives a cluster secrets of all kinds and uses each of them,
// correctly and incorrectly, at log level debug. It then searches for them in logs,
// metrics, profiles, error answers, command lines, and Redis.
func TestNoSecretLeaks(t *testing.T) {
	dir := t.TempDir()
	secrets := map[string]string{} // by kind
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

	store := startCluster(t, 0) // only its Redis is used
	if err := store.redis.Do("CONFIG", "SET", "requirepass", secrets["redis password"]); err != nil {
		t.Fatal(err)
	}
	store.auth.kill()
	address := write("redis.url", "redis://:"+secrets["redis password"]+"@"+store.redis.Addr()+"/0")
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
		p.await("reach the nodes", startTimeout, func() bool { return p.metrics()["usher_nodes_eligible"] == 2 })
	}

	base := "http://" + auth.listen
	var answers strings.Builder
	send := func(method, url string, header map[string]string, body string) answer {
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
		return send("POST", base+"/v1/login", nil, fmt.Sprintf(`{"method":"password","credentials":{"username":%q,"password":%q}}`, user, password))
	}
	ok := login("ada", secrets["password"])
	if ok.status != 200 {
		t.Fatal(ok)
	}
	secrets["token"] = ok.at.Token
	login("ada", secrets["wrong password"])
	login(secrets["password"], "ada")                                                                                                           // the password in the wrong field
	send("POST", base+"/v1/login", nil, fmt.Sprintf(`{"method":"password","credentials":{"username":"ada","password":%q`, secrets["password"])) // truncated JSON
	for _, more := range []string{"good", "bad"} {
		send("POST", base+"/v1/login", nil, fmt.Sprintf(`{"method":"webhook","credentials":{"key":%q,"it":%q}}`, secrets["webhook credential"], more))
	}
	bearer := map[string]string{"Authorization": "Bearer " + ok.at.Token}
	send("POST", base+"/v1/reconnect", bearer, "{}")
	send("POST", base+"/v1/reconnect", map[string]string{"Authorization": "Bearer " + ok.at.Token[:len(ok.at.Token)-2]}, "{}")
	send("GET", "http://"+nodes[0].listen+proto.ConnectPath+"?token="+ok.at.Token, nil, "")
	send("GET", "http://"+nodes[0].listen+proto.ConnectPath, bearer, "")
	attach(t, ok.at, "")
	send("GET", "http://"+broker.listen+"/v1/nodes", map[string]string{"Authorization": "Bearer " + apiKey}, "")
	send("GET", "http://"+broker.listen+"/v1/nodes", map[string]string{"Authorization": "Bearer " + apiKey + "x"}, "")

	ec := startEchoClient(t, usher.Config{Auth: base, Credentials: usher.Guest("bob"), Key: client}, 20*time.Millisecond)
	awaitEchoes(t, []*echoClient{ec}, 20*time.Second)
	secrets["bound token"] = ec.session.Token()
	proof := tokentest.Holder{Key: client}.Proof(proto.ProofReconnect, ec.session.Token(), uint64(time.Now().UnixMilli()+1000))
	secrets["proof"] = proof
	for range 2 { // the second use is refused
		send("POST", base+"/v1/reconnect", map[string]string{"Authorization": "Bearer " + ec.session.Token(), proto.HeaderProof: proof}, "{}")
	}
	send("DELETE", "http://"+broker.listen+"/v1/sessions/"+ok.at.Session, map[string]string{"Authorization": "Bearer " + apiKey}, "")
	for _, args := range [][]string{
		{"nodes", "--api=http://" + broker.listen, "--api-key-file=" + write("api.key", apiKey)},
		{"doctor", "--redis-file=" + address, "--gossip-key-file=" + gossip, "--gossip=127.0.0.1:0", "--join=" + auth.gossip, "--signing-key=" + signing},
	} {
		out, _ := exec.Command(usherBin, args...).CombinedOutput()
		answers.Write(out)
	}

	found := 0
	search := func(where, text string) {
		t.Helper()
		for what, secret := range secrets {
			if strings.Contains(text, secret) {
				found++
				i := strings.Index(text, secret)
				t.Errorf("%s contains the %s: …%.60s", where, what, text[max(0, i-40):])
			}
		}
	}
	search("answers", answers.String())
	searched := len(answers.String())
	for _, p := range all {
		output := p.output.String()
		search("the output of "+p.name, output)
		searched += len(output)
		for _, path := range []string{"/metrics", "/debug/pprof/goroutine?debug=2", "/debug/pprof/cmdline"} {
			text := p.text(path)
			search(p.name+path, text)
			searched += len(text)
		}
		argv, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		search(p.name+"'s command line", string(argv))
		searched += len(argv)
	}
	dump := exec.Command("redis-cli", "-p", store.redis.Addr()[strings.LastIndexByte(store.redis.Addr(), ':')+1:], "--no-auth-warning", "eval",
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
	search("the Redis database", string(stored))
	t.Logf("searched for %d secrets in %d KB: found %d", len(secrets), (searched+len(stored))/1000, found)
}
