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
