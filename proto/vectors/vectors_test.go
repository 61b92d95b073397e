package vectors_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/vectors"
)

// Every file has a loader and a section in README.md, and its vectors have unique
// names, by which a test in any language identifies a failing vector.
func TestFiles(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	loaders := map[string]int{
		"messages.json": len(vectors.Messages()), "bad_messages.json": len(vectors.BadMessages()),
		"controls.json": len(vectors.Controls()), "bad_controls.json": len(vectors.BadControls()),
		"close_codes.json": len(vectors.CloseCodes()), "backoff.json": len(vectors.Backoffs()),
		"handshakes.json": len(vectors.Handshakes()), "resume.json": len(vectors.Resumes()),
		"stream.json": len(vectors.Streams()), "proofs.json": len(vectors.Proofs()),
	}
	files, err := fs.Glob(vectors.FS, "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		n, ok := loaders[name]
		delete(loaders, name)
		if !ok || n == 0 {
			t.Errorf("%s: %d vectors loaded, has a loader: %v", name, n, ok)
		}
		if !strings.Contains(string(readme), "## `"+name+"`") {
			t.Errorf("%s: no section in README.md", name)
		}
		checkNames(t, name, n)
	}
	for name := range loaders {
		t.Errorf("%s: no such file", name)
	}
}

func checkNames(t *testing.T, file string, n int) {
	t.Helper()
	b, err := fs.ReadFile(vectors.FS, file)
	if err != nil {
		t.Fatal(err)
	}
	var list []struct{ Name string }
	if err := json.Unmarshal(b, &list); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, v := range list {
		if v.Name == "" || seen[v.Name] {
			t.Errorf("%s: name %q is empty or used twice", file, v.Name)
		}
		seen[v.Name] = true
	}
	if len(list) != n {
		t.Errorf("%s: %d vectors, %d loaded", file, len(list), n)
	}
	if i := strings.IndexFunc(string(b), func(r rune) bool { return r > 126 }); i >= 0 {
		t.Errorf("%s: byte %d is not ASCII: write it as an escape", file, i)
	}
}

// What the receiver of a control does follows from the control's type and the
// receiver's side.
func TestControlsSayWhoActs(t *testing.T) {
	for _, v := range vectors.Controls() {
		client, node := vectors.Act, vectors.Act
		switch v.Control.Type {
		case proto.TypeAck, proto.TypePing, proto.TypePong:
		case proto.TypeWelcome, proto.TypeGoAway:
			node = vectors.Refuse
		default:
			client, node = vectors.Ignore, vectors.Refuse
		}
		if v.Client != client || v.Node != node {
			t.Errorf("%s: client %s, node %s; want %s, %s", v.Name, v.Client, v.Node, client, node)
		}
	}
}

func TestHandshakesAreConsistent(t *testing.T) {
	statuses := map[int][]string{
		400: {proto.ProblemInvalidRequest}, 401: {proto.ProblemInvalidToken}, 403: {proto.ProblemForbidden},
		405: {proto.ProblemMethodNotAllowed}, 426: {proto.ProblemUpgradeRequired},
	}
	refusals := map[proto.CloseCode]bool{}
	for _, v := range vectors.Handshakes() {
		o := v.Outcome
		switch {
		case o.Status != 0 && o.Close == 0 && o.Welcome == nil:
			if !slices.Contains(statuses[o.Status], o.Problem) {
				t.Errorf("%s: %d %s", v.Name, o.Status, o.Problem)
			}
		case o.Status == 0 && o.Close != 0 && o.Welcome == nil:
			refusals[o.Close] = true
		case o.Status == 0 && o.Close == 0 && o.Welcome != nil:
			checkWelcome(t, v)
		default:
			t.Errorf("%s: not exactly one outcome: %+v", v.Name, o)
		}
		if v.Session.Attached && !v.Session.Held || v.Session.Held != (v.Session.Stream == "current") {
			t.Errorf("%s: session contradicts itself: %+v", v.Name, v.Session)
		}
	}
	for _, c := range []proto.CloseCode{
		proto.CloseProtocolError, proto.CloseSessionEnded, proto.CloseKicked, proto.CloseReplaced, proto.CloseInternal,
		proto.CloseGoingAway, proto.CloseTokenExpired, proto.CloseMoved, proto.CloseFull, proto.CloseUnknownSession,
	} {
		if !refusals[c] {
			t.Errorf("no handshake is refused with %d %v", c, c)
		}
	}
}

func checkWelcome(t *testing.T, v vectors.Handshake) {
	t.Helper()
	w, q := v.Outcome.Welcome, v.Request.Query
	named := q[proto.QueryStream] != ""
	if w.Resumed && (w.Reason != "" || !named) || !w.Resumed && (w.Received != 0 || v.Outcome.Resends != 0 || named != (w.Reason != "")) {
		t.Errorf("%s: impossible welcome: %+v", v.Name, w)
	}
	if v.Outcome.Replaces != v.Session.Attached {
		t.Errorf("%s: replaces %v, attached %v", v.Name, v.Outcome.Replaces, v.Session.Attached)
	}
	if w.Resumed && w.Received != v.Session.Accepted {
		t.Errorf("%s: received %d, accepted %d", v.Name, w.Received, v.Session.Accepted)
	}
}
