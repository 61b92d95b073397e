package session

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// NewID returns a new session id for the user: the tag of the user, a dot, and
// 128 random bits. The tag lets a store keep all sessions of one user together
// (in Redis Cluster: in one slot), so that it can change several of them in one
// atomic step. It also lets a caller that has only the id find the record. Ids are
// stored and travel between versions, so their form must not change.
func NewID(user string) string { return Tag(user) + "." + strings.ToLower(rand.Text()) }

// Tag returns the tag of the user: one of 256, in two lower-case hex digits. The tags
// are few and fixed, so that a store can keep one object for each of them, and many
// users share a tag.
func Tag(user string) string {
	sum := sha256.Sum256([]byte(user))
	return hex.EncodeToString(sum[:1])
}

// TagOf returns the tag at the start of a session id, and whether the id has the
// form that NewID makes. Ids come from tokens and from URLs: check them with TagOf
// before you put them into a key.
func TagOf(id string) (tag string, ok bool) {
	tag, random, found := strings.Cut(id, ".")
	if !found || len(tag) != 2 || len(random) != 26 {
		return "", false
	}
	return tag, isHex(tag) && isBase32(random)
}

// ofUser reports whether the id was made for the user. A store can keep the
// sessions of one user together only if their ids have the same tag.
func ofUser(id, user string) bool {
	tag, ok := TagOf(id)
	return ok && user != "" && tag == Tag(user)
}

func isHex(s string) bool {
	return strings.Trim(s, "0123456789abcdef") == ""
}

func isBase32(s string) bool {
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz234567") == ""
}

// NewRequest returns a new request id.
func NewRequest() string { return rand.Text() }
