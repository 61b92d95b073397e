package cluster

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/usher-broker/usher/proto"
)

func TestJoinUpdateLeave(t *testing.T) {
	key := bytes.Repeat([]byte{7}, 32)
	var r recorder
	auth, node := authConfig("auth/1"), nodeConfig("n1")
	auth.Key, node.Key, auth.Events = key, key, r.events()
	node.Self.URL, node.Self.Region = "ws://127.0.0.1:1/v1/connect", "eu"
	a, n := pair(t, auth, node)

	if got := r.peer("n1"); got != node.Self {
		t.Errorf("Update got %+v, want %+v", got, node.Self)
	}
	if got := a.Members(); got[0] != auth.Self || got[1] != node.Self {
		t.Errorf("members %+v", got)
	}
	if r.knows("auth/1") {
		t.Error("a member got an event about itself")
	}
	if h := n.Health(); !h.Joined || h.LastError != nil || h.Members != 2 {
		t.Errorf("health %+v", h)
	}

	changed := node.Self
	changed.State, changed.Live = proto.StateDraining, 77
	if err := n.SetSelf(changed); err != nil {
		t.Fatal(err)
	}
	if got := n.Members()[1]; got != changed {
		t.Errorf("its own metadata is %+v", got)
	}
	eventually(t, "the change", func() bool { return r.peer("n1") == changed })

	begin := time.Now()
	if err := n.Leave(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the leave", func() bool { return !r.knows("n1") && len(a.Members()) == 1 })
	t.Logf("leave seen after %v", time.Since(begin))
	if d := time.Since(begin); d > 4*time.Second { // a death would take longer
		t.Errorf("leave seen after %v", d)
	}
	for what, err := range map[string]error{
		"SetSelf": n.SetSelf(node.Self), "SendReport": n.SendReport("auth/1", proto.Report{ID: "n1"}), "Leave": orIfNil(n.Leave(time.Second), ErrClosed),
		"Close": orIfNil(n.Close(), ErrClosed),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after Leave: %v", what, err)
		}
	}
}

func orIfNil(err, instead error) error {
	if err == nil {
		return instead
	}
	return err
}

func TestReport(t *testing.T) {
	var r recorder
	auth := authConfig("a")
	auth.Events = r.events()
	a, n := pair(t, auth, nodeConfig("n"))
	want := proto.Report{ID: "n", Generation: 1, Seq: 1, State: proto.StateReady, Capacity: 1000, Live: 3, Arrived: 2, ArrivedAll: 4}
	eventually(t, "the report", func() bool { // it may be lost
		if err := n.SendReport("a", want); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
		return len(r.reported()) > 0
	})
	if got := r.reported()[0]; got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if err := n.SendReport("ghost", want); !errors.Is(err, ErrUnknownMember) {
		t.Errorf("to an unknown member: %v", err)
	}
	if h := n.Health(); h.ReportsSent == 0 || a.Health().ReportsReceived == 0 {
		t.Errorf("not counted: %+v", h)
	}
	// A report of an unknown member, and one of a member that is not a node, are
	// dropped.
	for _, id := range []string{"ghost", "a"} {
		b, _ := proto.AppendReport([]byte{kindReport}, proto.Report{ID: id})
		a.receive(b)
	}
	if h := a.Health(); h.Strangers != 2 {
		t.Errorf("strangers %d, want 2", h.Strangers)
	}
}

func TestDeathIsDetected(t *testing.T) {
	var r recorder
	auth := authConfig("a")
	auth.Events = r.events()
	a, n := pair(t, auth, nodeConfig("n"))
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if !r.knows("n") || len(a.Members()) != 2 {
		t.Error("a member that closed without Leave was removed at once")
	}
	begin := time.Now()
	eventually(t, "the death", func() bool { return !r.knows("n") && len(a.Members()) == 1 })
	t.Logf("death seen after %v", time.Since(begin))
}

func TestSeedsDownAtFirst(t *testing.T) {
	first := start(t, authConfig("a"))
	addr := first.Addr()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(addr)
	n := start(t, nodeConfig("n", "localhost:"+port, "no-such-host.invalid:1"))
	eventually(t, "an error", func() bool { return n.Health().LastError != nil })
	if h := n.Health(); h.Joined || h.Members != 1 {
		t.Errorf("health with all seeds down: %+v", h)
	}
	auth := authConfig("a")
	auth.Bind = addr
	a := start(t, auth)
	eventually(t, "the join", func() bool { return len(a.Members()) == 2 && n.Health().Joined })
}

func TestOnlySeedIsItself(t *testing.T) {
	first := start(t, authConfig("a"))
	addr := first.Addr()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	auth := authConfig("a", addr)
	auth.Bind = addr
	a := start(t, auth)
	eventually(t, "Joined with no other member to join", func() bool { return a.Health().Joined })
	if h := a.Health(); h.Members != 1 || h.LastError != nil {
		t.Errorf("health %+v", h)
	}
	if !start(t, authConfig("b")).Health().Joined {
		t.Error("a member without seeds is not joined")
	}
}

func TestKeyAndLabelMismatch(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"other key": func(c *Config) { c.Key = bytes.Repeat([]byte{8}, 32) },
		"no key":    func(c *Config) { c.Key = nil },
		"label":     func(c *Config) { c.Label = "other" },
	} {
		t.Run(name, func(t *testing.T) {
			auth := authConfig("a")
			auth.Key = bytes.Repeat([]byte{7}, 32)
			a := start(t, auth)
			node := nodeConfig("n", a.Addr())
			node.Key = auth.Key
			change(&node)
			n := start(t, node)
			eventually(t, "an error", func() bool { return n.Health().LastError != nil && a.Health().Warnings > 0 })
			if n.Health().Joined || len(a.Members()) != 1 || len(n.Members()) != 1 {
				t.Errorf("joined: %+v", n.Health())
			}
		})
	}
}

func TestConfigRefused(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"requires a key":              func(c *Config) { c.Bind = "0.0.0.0:0" },
		"beyond loopback":             func(c *Config) { c.Bind = ":0" },
		"has 5 bytes, must have 32":   func(c *Config) { c.Key = []byte("short") },
		"missing port":                func(c *Config) { c.Bind = "127.0.0.1" },
		"not a number":                func(c *Config) { c.Bind = "127.0.0.1:http" },
		"lookup":                      func(c *Config) { c.Bind = "no-such-host.invalid:0" },
		"advertise":                   func(c *Config) { c.Advertise = "127.0.0.1" },
		"a specific address and port": func(c *Config) { c.Advertise = "127.0.0.1:0" },
		"join \"x\"":                  func(c *Config) { c.Join = []string{"x"} },
		"join \":7946\"":              func(c *Config) { c.Join = []string{":7946"} },
		"join \"x:0\"":                func(c *Config) { c.Join = []string{"x:0"} },
		"the label has":               func(c *Config) { c.Label = strings.Repeat("x", 256) },
		"no id or role":               func(c *Config) { c.Self.ID = "" },
		"more than 255":               func(c *Config) { c.Self.URL = strings.Repeat("x", 256) },
		"address already in use":      func(c *Config) { c.Bind = "taken" },
	} {
		cfg := nodeConfig("n")
		change(&cfg)
		if cfg.Bind == "taken" {
			cfg.Bind = start(t, nodeConfig("other")).Addr()
		}
		c, err := Join(t.Context(), cfg)
		if err == nil {
			c.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestSetSelfRefused(t *testing.T) {
	n := start(t, nodeConfig("n"))
	for _, p := range []proto.Peer{
		{ID: "other", Role: proto.RoleNode},
		{ID: "n", Role: proto.RoleAuth},
		{ID: "n", Role: proto.RoleNode, URL: strings.Repeat("x", 255), Region: strings.Repeat("x", 255), Pool: "x"},
	} {
		if n.SetSelf(p) == nil {
			t.Errorf("accepted %+v", p)
		}
	}
	if got := n.Members()[0]; got != nodeConfig("n").Self {
		t.Errorf("the metadata changed to %+v", got)
	}
}

func TestAdvertise(t *testing.T) {
	a := start(t, authConfig("a"))
	cfg := authConfig("b")
	cfg.Bind = a.Addr()
	_, port, _ := net.SplitHostPort(a.Addr())
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.Advertise = "localhost:" + port
	if b := start(t, cfg); b.Addr() != "127.0.0.1:"+port {
		t.Errorf("advertises %s", b.Addr())
	}
}

// With two live members of one id, the first stays, and both detect the conflict.
func TestConflict(t *testing.T) {
	var r recorder
	auth := authConfig("a")
	auth.Events = r.events()
	a, n := pair(t, auth, nodeConfig("n"))
	second := nodeConfig("n", a.Addr())
	second.Self.Generation = 2
	s := start(t, second)
	eventually(t, "the conflict", func() bool { return a.Health().Conflicts > 0 && s.Health().Conflicts > 0 })
	if got := r.peer("n"); got.Generation != 1 {
		t.Errorf("the second member replaced the first: %+v", got)
	}
	// When the first has left, the second gets the id.
	if err := n.Leave(time.Second); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the second member to be accepted", func() bool { return r.peer("n").Generation == 2 })
}

func TestRestart(t *testing.T) {
	var r recorder
	auth := authConfig("a")
	auth.Events = r.events()
	a, n := pair(t, auth, nodeConfig("n"))
	addr := n.Addr()
	for range 3 { // so that the incarnation number is higher than that of the next start
		p := nodeConfig("n").Self
		p.Live++
		if err := n.SetSelf(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	next := nodeConfig("n", a.Addr())
	next.Bind, next.Self.Generation = addr, 2
	start(t, next)
	eventually(t, "the new start", func() bool { return r.peer("n").Generation == 2 })
}

// rawMeta is the delegate of a member with arbitrary metadata.
type rawMeta struct {
	memberlist.Delegate
	meta []byte
}

func (m *rawMeta) NodeMeta(int) []byte             { return m.meta }
func (m *rawMeta) NotifyMsg([]byte)                {}
func (m *rawMeta) GetBroadcasts(_, _ int) [][]byte { return nil }
func (m *rawMeta) LocalState(bool) []byte          { return nil }
func (m *rawMeta) MergeRemoteState([]byte, bool)   {}

func TestBadMetadata(t *testing.T) {
	other, _ := proto.AppendPeer(nil, proto.Peer{ID: "other", Role: proto.RoleNode})
	for name, meta := range map[string][]byte{"nothing": nil, "garbage": []byte("garbage"), "another id": other} {
		t.Run(name, func(t *testing.T) {
			var r recorder
			auth := authConfig("a")
			auth.Events = r.events()
			a := start(t, auth)
			conf := memberlist.DefaultLANConfig()
			conf.Name, conf.BindAddr, conf.BindPort, conf.Label = "odd", "127.0.0.1", 0, "test"
			conf.Delegate, conf.LogOutput = &rawMeta{meta: meta}, &bytes.Buffer{}
			odd, err := memberlist.Create(conf)
			if err != nil {
				t.Fatal(err)
			}
			defer odd.Shutdown()
			if _, err := odd.Join([]string{a.Addr()}); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the bad member to be counted", func() bool { return a.Health().BadMembers > 0 })
			if len(a.Members()) != 1 || r.knows("odd") || r.knows("other") {
				t.Errorf("members %v", a.Members())
			}
		})
	}
}

// Close ends the events.
func TestCloseEndsEvents(t *testing.T) {
	var r recorder
	auth := authConfig("a")
	auth.Events = r.events()
	a, _ := pair(t, auth, nodeConfig("n"))
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	before := len(r.reported())
	b, _ := proto.AppendReport([]byte{kindReport}, proto.Report{ID: "n"})
	a.receive(b)
	a.remove("n")
	if len(r.reported()) != before || !r.knows("n") {
		t.Error("an event came after Close")
	}
	if _, err := a.Call(t.Context(), "n", proto.Command{}); !errors.Is(err, ErrClosed) {
		t.Errorf("Call: %v", err)
	}
}
