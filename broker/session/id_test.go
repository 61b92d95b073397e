package session

import (
	"fmt"
	"strings"
	"testing"
)

// Ids and tags are stored and travel between versions, so they must stay as they are.
func TestTagsStayTheSame(t *testing.T) {
	for name, want := range map[string]string{"": "e3", "ada": "fd", "guest:ada": "e6", "é…🎲": "0c", strings.Repeat("n", 128): "dd"} {
		if got := Tag(name); got != want {
			t.Errorf("%q has the tag %q, want %q", name, got, want)
		}
	}
}

func TestNewIDHasTheTagOfTheUser(t *testing.T) {
	seen := map[string]bool{}
	for i := range 5000 {
		user := fmt.Sprint("user-", i)
		id := NewID(user)
		tag, ok := TagOf(id)
		if !ok || tag != Tag(user) || len(id) != 29 {
			t.Fatalf("id %q of %q: tag %q, %v", id, user, tag, ok)
		}
		seen[tag] = true
	}
	if len(seen) != 256 {
		t.Errorf("%d tags among 5000 users, want 256", len(seen))
	}
}

func TestTagOfOtherTexts(t *testing.T) {
	random := strings.Repeat("a", 26)
	for _, id := range []string{
		"", ".", "fd", "fd." + random[1:], "fd." + random + "a", "f." + random, "fdee430d." + random, "FD." + random, "fg." + random,
		"fd:" + random, "fd." + random[1:] + "1", "fd." + random[1:] + "A", "{d." + random, "fd." + random[1:] + "\n",
	} {
		if tag, ok := TagOf(id); ok {
			t.Errorf("%q has the tag %q", id, tag)
		}
	}
}
