package redis

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/usher-broker/usher/broker/session"
)

// Names of keys. Each begins with usher:{tag}: and one of the 256 tags of
// session.Tag. The tag is the hash tag of a Redis Cluster, so all keys with one tag are
// in one slot, and one script may use them together. The keys of a session have the
// tag of its user. The keys of a group, a queue, a fence and a count of failures have
// the tag of their own name. Only the marker of the layout has no tag; see layout.go.
//
// Names that come from outside are hashed, or stand last in the key.

// tagged returns a key with the tag of the name.
func tagged(name, rest string) string { return withTag(session.Tag(name), rest) }

func withTag(tag, rest string) string { return "usher:{" + tag + "}:" + rest }

// hashed returns the name in a form that contains only hex digits.
func hashed(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:16])
}

// sessionKey returns the key of a record: a hash.
func sessionKey(tag, id string) string { return withTag(tag, "session:"+id) }

// recordKeys returns the keys of a session that the id alone tells: the record, and
// the stored state, a hash. It returns nil if the id is not valid.
func recordKeys(id string) []string {
	tag, ok := session.TagOf(id)
	if !ok {
		return nil
	}
	return []string{sessionKey(tag, id), withTag(tag, "state:"+id)}
}

// userKey returns the key of the index of the user: a sorted set of session ids by
// time of creation.
func userKey(user string) string { return tagged(user, "user:"+user) }

// groupKeys returns the keys of a group: its node, and its sessions, a sorted set by
// the time at which they joined.
func groupKeys(group string) []string {
	key := tagged(group, "group:"+hashed(group))
	return []string{key, key + ":sessions"}
}

// queueKeys returns the keys of a queue, as queue.lua describes them, for one entry
// and one broker.
func queueKeys(queue, entry, broker string) []string {
	key := tagged(queue, "queue:"+hashed(queue))
	return []string{
		key, key + ":until", key + ":number", key + ":rate", key + ":recent",
		key + ":recent:" + broker, key + ":admitted:" + entry,
	}
}

func fenceKey(node string) string { return tagged(node, "fence:"+hashed(node)) }

func failuresKey(name string) string { return tagged(name, "failed:"+name) }
