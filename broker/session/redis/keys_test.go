package redis

import (
	"slices"
	"testing"

	"github.com/usher-broker/usher/broker/session"
)

// Other versions read these keys. If one of them must change, so must layoutVersion.
func TestKeysStayTheSame(t *testing.T) {
	const (
		id    = "fd.aaaaaaaaaaaaaaaaaaaaaaaaaa"
		group = "usher:{bd}:group:bdb3a3acc4e1db7c34c0e156e37cd24f"
		queue = "usher:{29}:queue:29dd93e58e20409c7e211db5eeb0d4d9"
	)
	got := slices.Concat(
		recordKeys(id), []string{userKey("ada")}, groupKeys("pool\nmatch"), queueKeys("pool\neu", "entry", "broker-1"),
		[]string{fenceKey("node-1"), failuresKey("0f1e"), layoutKey},
	)
	want := []string{
		"usher:{fd}:session:" + id, "usher:{fd}:state:" + id, "usher:{fd}:user:ada",
		group, group + ":sessions",
		queue, queue + ":until", queue + ":number", queue + ":rate", queue + ":recent", queue + ":recent:broker-1", queue + ":admitted:entry",
		"usher:{35}:fence:35971be6e9bb024a895582fe0e42e048", "usher:{09}:failed:0f1e", "usher:layout",
	}
	if !slices.Equal(got, want) {
		t.Errorf("keys\n%q, want\n%q", got, want)
	}
	if layoutVersion != 2 {
		t.Errorf("layout %d: this test has the keys of layout 2", layoutVersion)
	}
	for _, id := range []string{"", "ada", id + "a", "fdee430d.aaaaaaaaaaaaaaaaaaaaaaaaaa"} {
		if keys := recordKeys(id); keys != nil {
			t.Errorf("%q has the keys %q", id, keys)
		}
	}
	if tag, _ := session.TagOf(id); sessionKey(tag, id) != got[0] {
		t.Errorf("the record is at %s", sessionKey(tag, id))
	}
}
