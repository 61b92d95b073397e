package serve

import (
	"crypto/ed25519"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/proto"
)

func TestURLPatterns(t *testing.T) {
	for pattern, urls := range map[string]map[string]bool{
		"wss://*.rt.example.com": {
			"wss://node-1.rt.example.com/v1/connect": true, "wss://NODE-1.RT.example.com:7000/v1/connect": true,
			"ws://node-1.rt.example.com/": false, "wss://rt.example.com/": false, "wss://a.b.rt.example.com/": false,
			"wss://node-1.rt.example.com.evil.example/": false, "wss://evilrt.example.com/": false, "wss://.rt.example.com/": false,
		},
		"wss://node.example.com:7000": {"wss://node.example.com:7000/x": true, "wss://node.example.com/x": false, "wss://node.example.com:7001/": false},
		"ws://10.0.0.0/8":             {"ws://10.1.2.3:7000/": true, "ws://11.0.0.1/": false, "ws://node.example.com/": false, "wss://10.1.2.3/": false},
		"ws://2001:db8::/32":          {"ws://[2001:db8::7]:7000/": true, "ws://[2001:db9::7]/": false},
		"ws://[::1]:7000":             {"ws://[::1]:7000/": true},
	} {
		p, err := parseURLPattern(pattern)
		if err != nil {
			t.Errorf("%s: %v", pattern, err)
			continue
		}
		for text, want := range urls {
			u, err := url.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			if got := p.matches(u); got != want {
				t.Errorf("%s for %s: %v", pattern, text, got)
			}
		}
	}
	for _, bad := range []string{"", "*", "wss://", "https://a", "wss://*", "wss://*.", "wss://a.*.b", "wss://u@a", "wss://a/b", "wss://a?b", "10.0.0.0/8"} {
		if p, err := parseURLPattern(bad); err == nil {
			t.Errorf("%q: %+v", bad, p)
		}
	}
}

func TestNodeKeys(t *testing.T) {
	dir := t.TempDir()
	private, public := filepath.Join(dir, "node.key"), filepath.Join(dir, "node.keys")
	secret, text, err := process.NewNodeKey()
	if err != nil {
		t.Fatal(err)
	}
	line := "node-7 " + text + "\n"
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(private, secret+"\n")
	write(public, "# ours\n"+line)
	key, err := process.ReadNodeKey(private)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := TrustFlags{NodeKeys: public, NodeURLs: []string{"wss://*.example.com"}}.open()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	signed := func(p proto.Peer, key ed25519.PrivateKey) error {
		raw, err := proto.AppendPeer(nil, p)
		if err == nil && key != nil {
			raw, err = proto.SignPeer(raw, key)
		}
		if err != nil {
			t.Fatal(err)
		}
		return trust.accept(p, raw)
	}
	good := proto.Peer{ID: "node-7", Role: proto.RoleNode, URL: "wss://node-7.example.com/v1/connect", Issued: now.Unix()}
	with := func(change func(*proto.Peer)) proto.Peer { p := good; change(&p); return p }
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		peer proto.Peer
		key  ed25519.PrivateKey
		want string // of the error; "" for none
	}{
		{"good", good, key, ""},
		{"no address yet", with(func(p *proto.Peer) { p.URL = "" }), key, ""},
		{"not signed", good, nil, "not signed"},
		{"signed by another", good, stranger, "not signed"},
		{"another node with its key", with(func(p *proto.Peer) { p.ID = "node-8" }), key, "not signed"},
		{"old", with(func(p *proto.Peer) { p.Issued = now.Add(-4 * time.Hour).Unix() }), key, "ago"},
		{"from the future", with(func(p *proto.Peer) { p.Issued = now.Add(time.Hour).Unix() }), key, "clocks"},
		{"another address", with(func(p *proto.Peer) { p.URL = "wss://evil.example/v1/connect" }), key, "--node-urls"},
		{"a user in it", with(func(p *proto.Peer) { p.URL = "wss://x@node-7.example.com/" }), key, "--node-urls"},
	} {
		if err := signed(tt.peer, tt.key); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	for name, text := range map[string]string{"no id": " " + text, "short": "* AAAA\n", "no base64": "* !!\n", "three": "a b c\n"} {
		write(public, text)
		if _, err := readNodeKeys(public); err == nil {
			t.Errorf("%s: read", name)
		}
	}
	write(public, line)
	if _, err := process.ReadNodeKey(public); err == nil {
		t.Error("a file of public keys was read as a private key")
	}
}
