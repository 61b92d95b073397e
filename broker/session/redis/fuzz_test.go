package redis

import (
	"strings"
	"testing"

	"github.com/usher-broker/usher/broker/session"
)

// Whatever the hash of a session contains, record returns a consistent record of the
// user whose session it is, or an error.
func FuzzRecord(f *testing.F) {
	id := session.NewID("ada")
	f.Add("user\nada\nnode\nnode-1\nepoch\n1\nstate\nassigned\nreason\n0\ncreated\n1\nchanged\n1")
	f.Add("user\nada\nnode\nnode-1\nepoch\n18446744073709551615\nstate\nended\nreason\n4001\ncreated\n-1\nchanged\n9223372036854775807\next\n{}\nfallback\na")
	f.Add("user\neve\nnode\nn\nepoch\n1\nstate\nattached\nreason\n0\ncreated\n1\nchanged\n1")
	f.Add("user")
	f.Fuzz(func(t *testing.T, text string) {
		var hash []any
		for part := range strings.SplitSeq(text, "\n") {
			hash = append(hash, part)
		}
		r, err := record(id, hash)
		if err != nil {
			return
		}
		if r.ID != id || session.Tag(r.User) != session.Tag("ada") || r.Node == "" || !known(r.State) {
			t.Errorf("accepted: %+v", r)
		}
	})
}
