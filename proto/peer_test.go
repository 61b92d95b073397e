package proto_test

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/usher-broker/usher/proto"
)

var (
	aPeer = proto.Peer{
		ID: "n1", Role: proto.RoleNode, State: proto.StateReady, URL: "ws://h/", Region: "eu", Pool: "p",
		Capacity: 10_000, Live: 300, Generation: 1 << 40, Version: "v1",
	}
	aReport = proto.Report{
		ID: "n1", Generation: 5, Seq: 128, State: proto.StateFull, Capacity: 10_000, Live: 300, Attached: 299,
		Arrived: 7, ArrivedAll: 1<<64 - 1,
	}
)

// Members of other versions read these bytes: they must not change.
const (
	goldenPeer   = "01" + "01026e31" + "020101" + "030102" + "040777733a2f2f682f" + "05026575" + "060170" + "0702904e" + "0802ac02" + "0906808080808020" + "0a027631"
	goldenReport = "01" + "01026e31" + "030103" + "0702904e" + "0802ac02" + "090105" + "0b028001" + "0c02ab02" + "0d0107" + "0e0affffffffffffffffff01"
)

func TestPeerGolden(t *testing.T) {
	b, err := proto.AppendPeer(nil, aPeer)
	if err != nil || hex.EncodeToString(b) != goldenPeer {
		t.Errorf("got  %x, %v\nwant %s", b, err, goldenPeer)
	}
	if p, err := proto.ParsePeer(unhex(t, goldenPeer)); err != nil || p != aPeer {
		t.Errorf("got %+v, %v; want %+v", p, err, aPeer)
	}
}

func TestReportGolden(t *testing.T) {
	b, err := proto.AppendReport(nil, aReport)
	if err != nil || hex.EncodeToString(b) != goldenReport {
		t.Errorf("got  %x, %v\nwant %s", b, err, goldenReport)
	}
	if r, err := proto.ParseReport(unhex(t, goldenReport)); err != nil || r != aReport {
		t.Errorf("got %+v, %v; want %+v", r, err, aReport)
	}
}

// A member of a later version may add fields; this version ignores them.
func TestUnknownFieldsAreIgnored(t *testing.T) {
	later := "c800" + "c903616263" + "ffff" + strings.Repeat("00", 255)
	if p, err := proto.ParsePeer(unhex(t, goldenPeer+later)); err != nil || p != aPeer {
		t.Errorf("peer: got %+v, %v", p, err)
	}
	if r, err := proto.ParseReport(unhex(t, goldenReport+later)); err != nil || r != aReport {
		t.Errorf("report: got %+v, %v", r, err)
	}
	if r, err := proto.ParseReport(unhex(t, goldenPeer)); err != nil || r.ID != aPeer.ID || r.Live != aPeer.Live {
		t.Errorf("a peer read as a report: got %+v, %v", r, err)
	}
}

func TestBadRecords(t *testing.T) {
	id := "01016e" + "020101"
	for name, in := range map[string]string{
		"empty":                   "",
		"version alone":           "01",
		"later version":           "02" + id,
		"no id":                   "01" + "020101",
		"no role":                 "01" + "01016e",
		"role 0":                  "01" + "01016e" + "020100",
		"tag alone":               "01" + id + "03",
		"truncated field":         "01" + id + "0403777733"[:8],
		"length past the end":     "01" + id + "04ff61",
		"text that is not UTF-8":  "01" + id + "0401ff",
		"number without bytes":    "01" + id + "0700",
		"unterminated number":     "01" + id + "07018" + "0",
		"bytes after a number":    "01" + id + "07020101",
		"capacity past 32 bits":   "01" + id + "0705" + "8080808010",
		"role past 8 bits":        "01" + "01016e" + "0202" + "8002",
		"generation past 64 bits": "01" + id + "090a" + "80808080808080808002",
		"number of eleven bytes":  "01" + id + "090b" + "8080808080808080808000",
		"one byte too long":       "01" + id + "c8ff" + strings.Repeat("00", 255) + "c8f7" + strings.Repeat("00", 247),
	} {
		t.Run(name, func(t *testing.T) {
			b := unhex(t, in)
			if p, err := proto.ParsePeer(b); !errors.Is(err, proto.ErrPeer) || p != (proto.Peer{}) {
				t.Errorf("peer: got %+v, %v", p, err)
			}
		})
	}
	for name, in := range map[string]string{
		"no id":                 "01" + "030101",
		"seq past 64 bits":      "01" + "01016e" + "0b0a" + "80808080808080808002",
		"attached past 32 bits": "01" + "01016e" + "0c05" + "8080808010",
		"truncated":             goldenReport[:len(goldenReport)-2],
	} {
		t.Run("report/"+name, func(t *testing.T) {
			if r, err := proto.ParseReport(unhex(t, in)); !errors.Is(err, proto.ErrPeer) || r != (proto.Report{}) {
				t.Errorf("got %+v, %v", r, err)
			}
		})
	}
}

func TestAppendRefusesInvalidRecords(t *testing.T) {
	for name, change := range map[string]func(*proto.Peer){
		"no id":        func(p *proto.Peer) { p.ID = "" },
		"no role":      func(p *proto.Peer) { p.Role = 0 },
		"long field":   func(p *proto.Peer) { p.URL = strings.Repeat("u", 256) },
		"not UTF-8":    func(p *proto.Peer) { p.Pool = "\xff" },
		"long in sum":  func(p *proto.Peer) { p.ID, p.URL = strings.Repeat("i", 255), strings.Repeat("u", 255) },
		"long and bad": func(p *proto.Peer) { p.URL, p.Pool = strings.Repeat("u", 300), "\xff" },
	} {
		t.Run(name, func(t *testing.T) {
			p := aPeer
			change(&p)
			if b, err := proto.AppendPeer([]byte("kept"), p); !errors.Is(err, proto.ErrPeer) || string(b) != "kept" {
				t.Errorf("got %q, %v", b, err)
			}
		})
	}
	for name, r := range map[string]proto.Report{"no id": {Seq: 1}, "long id": {ID: strings.Repeat("i", 256)}} {
		if b, err := proto.AppendReport([]byte("kept"), r); !errors.Is(err, proto.ErrPeer) || string(b) != "kept" {
			t.Errorf("report, %s: got %q, %v", name, b, err)
		}
	}
}

// A peer with the longest id and URL that the configuration allows together fits
// the 512 bytes of memberlist.
func TestLongestPeerFits(t *testing.T) {
	p := proto.Peer{
		ID: strings.Repeat("i", proto.MaxNameBytes), URL: "wss://" + strings.Repeat("u", 150), Region: strings.Repeat("r", 64), Pool: strings.Repeat("p", 64),
		Role: proto.RoleBroker, State: proto.StateDraining, Capacity: 1<<32 - 1, Live: 1<<32 - 1, Generation: 1<<64 - 1, Version: "v1.2.3",
	}
	b, err := proto.AppendPeer(nil, p)
	if err != nil || len(b) > proto.MaxPeerBytes {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	if got, err := proto.ParsePeer(b); err != nil || got != p {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestRecordRoundTrip(t *testing.T) {
	text := rapid.StringN(0, 20, 60)
	rapid.Check(t, func(t *rapid.T) {
		p := proto.Peer{
			ID: rapid.StringN(1, 20, 60).Draw(t, "id"), Role: proto.Role(rapid.Uint8Range(1, 255).Draw(t, "role")),
			State: proto.NodeState(rapid.Uint8().Draw(t, "state")), URL: text.Draw(t, "url"),
			Region: text.Draw(t, "region"), Pool: text.Draw(t, "pool"), Version: text.Draw(t, "version"),
			Capacity: rapid.Uint32().Draw(t, "capacity"), Live: rapid.Uint32().Draw(t, "live"),
			Generation: rapid.Uint64().Draw(t, "generation"),
		}
		b, err := proto.AppendPeer(nil, p)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := proto.ParsePeer(b); err != nil || got != p {
			t.Fatalf("peer: got %+v, %v; want %+v", got, err, p)
		}
		r := proto.Report{
			ID: p.ID, Generation: p.Generation, Seq: rapid.Uint64().Draw(t, "seq"), State: p.State,
			Capacity: p.Capacity, Live: p.Live, Attached: rapid.Uint32().Draw(t, "attached"),
			Arrived: rapid.Uint64().Draw(t, "arrived"), ArrivedAll: rapid.Uint64().Draw(t, "arrived all"),
		}
		b, err = proto.AppendReport(b[:1], r)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := proto.ParseReport(b[1:]); err != nil || got != r {
			t.Fatalf("report: got %+v, %v; want %+v", got, err, r)
		}
	})
}

func TestRoles(t *testing.T) {
	for role, want := range map[proto.Role]bool{proto.RoleNode: false, proto.RoleAuth: true, proto.RoleBroker: true, 0: false, 9: false} {
		if got := role.Places(); got != want {
			t.Errorf("%v places: %v", role, got)
		}
	}
	names := []string{
		proto.RoleNode.String(), proto.RoleAuth.String(), proto.RoleBroker.String(),
		proto.StateStarting.String(), proto.StateReady.String(), proto.StateFull.String(), proto.StateDraining.String(),
	}
	if got, want := strings.Join(names, " "), "node auth broker starting ready full draining"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
