package session

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// NewID returns a new session id for the user: the tag of the user, a dot, and
// 128 random bits. The tag lets a store keep all sessions of one user together
// (in Redis Cluster: in one slot), so that a change to several of them is one
// atomic step, and lets whoever holds an id find where it is kept.
func NewID(user string) string { return Tag(user) + "." + strings.ToLower(rand.Text()) }

// Tag returns the user's tag: 32 bits of a hash, in hex.
func Tag(user string) string {
	sum := sha256.Sum256([]byte(user))
	return hex.EncodeToString(sum[:4])
}

// TagOf returns the tag that a session id begins with, and whether the id has
// the form that NewID gives it. Ids come from tokens and from URLs: check them
// before they become part of a key.
func TagOf(id string) (tag string, ok bool) {
	tag, random, found := strings.Cut(id, ".")
	if !found || len(tag) != 8 || len(random) != 26 {
		return "", false
	}
	return tag, isHex(tag) && isBase32(random)
}

func isHex(s string) bool {
	return strings.Trim(s, "0123456789abcdef") == ""
}

func isBase32(s string) bool {
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz234567") == ""
}

// NewRequest returns a new request id.
func NewRequest() string { return rand.Text() }
