package redis

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// Keys. All of one user have the user's tag as hash tag and so lie in one slot
// of a Redis Cluster. What is not of our making is hashed or comes last.

func sessionKey(tag, id string) string { return "usher:{" + tag + "}:session:" + id }

func userKey(user string) string { return "usher:{" + session.Tag(user) + "}:user:" + user }

func groupKey(group string) string {
	sum := sha256.Sum256([]byte(group))
	return "usher:group:{" + hex.EncodeToString(sum[:16]) + "}"
}

const pingKey = "usher:ping"

// milliseconds rounds up: a record is not to be gone before its time.
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

// flag is a truth value as the scripts take it.
func flag(b bool) string {
	if b {
		return "1"
	}
	return ""
}

func formatEpoch(e uint64) string { return strconv.FormatUint(e, 10) }

// fields returns the fields and values that describe the session and that no
// transition changes. What is empty is not kept: most of it mostly is.
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

// record makes a record of the fields and values of a Redis hash.
func record(id string, hash []any) (session.Record, error) {
	f := make(map[string]string, len(hash)/2)
	for i := 0; i+1 < len(hash); i += 2 {
		name, ok1 := hash[i].(string)
		value, ok2 := hash[i+1].(string)
		if !ok1 || !ok2 {
			return session.Record{}, fmt.Errorf("record %s: not strings", id)
		}
		f[name] = value
	}
	r := session.Record{
		ID: id, User: f["user"], Node: f["node"], State: session.State(f["state"]), Stream: f["stream"],
		Pool: f["pool"], Region: f["region"], Group: f["group"],
		Leaving: f["leaving"] == "1", CloseReason: f["word"], Strict: f["strict"] == "1",
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
		return session.Record{}, fmt.Errorf("record %s: no user, no node or no known state", id)
	}
	// A value that was copied to another key, or written by another's hand, is not
	// taken for this session's.
	if tag, ok := session.TagOf(id); !ok || session.Tag(r.User) != tag {
		return session.Record{}, fmt.Errorf("record %s: it is another user's", id)
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
