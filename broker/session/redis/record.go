package redis

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// milliseconds returns the ttl in milliseconds, rounded up, so that no record expires
// early. It returns 0 for a negative ttl.
func milliseconds(ttl time.Duration) int64 {
	if ttl <= 0 {
		return 0
	}
	ms := int64(ttl / time.Millisecond)
	if ttl%time.Millisecond > 0 {
		ms++
	}
	return ms
}

// flag returns b in the form that the scripts expect.
func flag(b bool) string {
	if b {
		return "1"
	}
	return ""
}

func formatEpoch(e uint64) string { return strconv.FormatUint(e, 10) }

// fields returns the names and values of the fields that describe the session and
// that no transition changes. It leaves out empty ones, because most of them mostly
// are.
func fields(r session.Record) []any {
	list := make([]any, 0, 14)
	list = append(list, "user", r.User, "pool", r.Pool)
	for _, f := range [...]struct{ name, value string }{
		{"region", r.Region},
		{"group", r.Group},
		{"ext", string(r.Ext)},
		{"fallback", strings.Join(r.Fallback, "\n")},
		{"strict", flag(r.Strict)},
	} {
		if f.value != "" {
			list = append(list, f.name, f.value)
		}
	}
	return list
}

// record returns the record that the names and values of a Redis hash describe.
func record(id string, hash []any) (session.Record, error) {
	f := make(map[string]string, len(hash)/2)
	for i := 0; i+1 < len(hash); i += 2 {
		name, ok1 := hash[i].(string)
		value, ok2 := hash[i+1].(string)
		if !ok1 || !ok2 {
			return session.Record{}, fmt.Errorf("record %s: a field or value is not a string", id)
		}
		f[name] = value
	}
	r := session.Record{
		ID: id, User: f["user"], Node: f["node"], State: session.State(f["state"]), Stream: f["stream"],
		Pool: f["pool"], Region: f["region"], Group: f["group"],
		Leaving: f["leaving"] == "1", CloseReason: f["close_reason"], Strict: f["strict"] == "1",
	}
	if fallback := f["fallback"]; fallback != "" {
		r.Fallback = strings.Split(fallback, "\n")
	}
	if ext := f["ext"]; ext != "" {
		r.Ext = json.RawMessage(ext)
	}
	epoch, err1 := strconv.ParseUint(f["epoch"], 10, 64)
	reason, err2 := strconv.ParseUint(f["reason"], 10, 16)
	created, err3 := strconv.ParseInt(f["created"], 10, 64)
	changed, err4 := strconv.ParseInt(f["changed"], 10, 64)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return session.Record{}, fmt.Errorf("record %s: %w", id, err)
	}
	if r.User == "" || r.Node == "" || !known(r.State) {
		return session.Record{}, fmt.Errorf("record %s: user %q, node %q, state %q: none may be empty, and the state must be known", id, r.User, r.Node, r.State)
	}
	// Do not accept the value of a key with another tag, or one that something else
	// has written.
	if tag, ok := session.TagOf(id); !ok || session.Tag(r.User) != tag {
		return session.Record{}, fmt.Errorf("record %s: it belongs to another user, %q", id, r.User)
	}
	r.Epoch, r.Reason = epoch, session.Reason(reason)
	r.Created, r.Changed = time.UnixMicro(created), time.UnixMicro(changed)
	return r, nil
}

func known(s session.State) bool {
	switch s {
	case session.Assigned, session.Attached, session.Detached, session.Ended:
		return true
	}
	return false
}

// madeAt returns a record that has only its time of creation.
func madeAt(reply any) (session.Record, error) {
	text, _ := reply.(string)
	t, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return session.Record{}, fmt.Errorf("%w: time of creation %q", errCorrupt, text)
	}
	return session.Record{Created: time.UnixMicro(t)}, nil
}

// parseReply reads the reply of a script: an outcome and, for most outcomes, a
// record.
func parseReply(id string, reply []any) (session.Record, error) {
	if len(reply) == 0 {
		return session.Record{}, fmt.Errorf("%w: empty reply", errCorrupt)
	}
	var answer error
	switch name, _ := reply[0].(string); name {
	case "ok":
	case "made":
		return madeAt(reply[1])
	case "absent":
		return session.Record{}, session.ErrNotFound
	case "exists":
		return session.Record{}, session.ErrExists
	case "connected":
		return session.Record{}, session.ErrConnected
	case "ended":
		answer = session.ErrEnded
	case "moved":
		answer = session.ErrMoved
	case "replayed":
		answer = session.ErrReplayed
	default:
		return session.Record{}, fmt.Errorf("%w: record %s: unknown outcome %q", errCorrupt, id, name)
	}
	if len(reply) == 1 {
		return session.Record{}, answer
	}
	hash, _ := reply[1].([]any)
	r, err := record(id, hash)
	if err != nil {
		return session.Record{}, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	return r, answer
}

// sessionList reads the reply of sessions.lua and enduser.lua: whether the work is
// complete, and the list of ids and hashes, alternating.
func sessionList(reply []any) (complete bool, list []session.Record, err error) {
	if len(reply) != 2 {
		return false, nil, fmt.Errorf("a reply of %d elements, want 2", len(reply))
	}
	done, ok := reply[0].(int64)
	if !ok {
		return false, nil, fmt.Errorf("the first element of the reply is a %T, want an integer", reply[0])
	}
	list, err = recordList(reply[1])
	return done == 1, list, err
}

// recordList reads a list of ids and hashes, alternating.
func recordList(reply any) (list []session.Record, err error) {
	items, ok := reply.([]any)
	if !ok {
		return nil, fmt.Errorf("the records of the reply are a %T, want a list", reply)
	}
	for i := 0; i+1 < len(items); i += 2 {
		id, _ := items[i].(string)
		hash, _ := items[i+1].([]any)
		r, err := record(id, hash)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, nil
}
