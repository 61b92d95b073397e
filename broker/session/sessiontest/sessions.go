package sessiontest

import (
	"strconv"
	"time"

	"github.com/usher-broker/usher/broker/session"
)

// createSome creates n sessions one after the other.
func (f *fixture) createSome(n int) []session.Record {
	f.Helper()
	list := make([]session.Record, n)
	for i := range list {
		list[i] = f.create()
		f.advance(time.Millisecond) // so that no two have the same age
	}
	return list
}

// listed fails the test unless Sessions returns exactly want, in that order.
func (f *fixture) listed(limit int, want ...session.Record) {
	f.Helper()
	list, err := f.Sessions(f.Context(), f.user, limit)
	f.must(err)
	if len(list) != len(want) {
		f.Fatalf("%d sessions, want %d", len(list), len(want))
	}
	for i := range want {
		f.same(list[i], want[i])
	}
}

var sessionsTests = []test{
	{"Sessions of an unknown user: none", func(f *fixture) { f.listed(10) }},
	{"Sessions are oldest first, at most limit", func(f *fixture) {
		all := f.createSome(5)
		f.listed(10, all...)
		f.listed(5, all...)
		f.listed(3, all[:3]...)
		f.listed(1, all[0])
		f.listed(0)
		f.listed(-1)
	}},
	{"Restored sessions are listed by age", func(f *fixture) {
		var all []session.Record
		for _, age := range []time.Duration{1, 3, 2} {
			r := f.restorable()
			r.Created = time.Now().Add(-age * time.Hour).Truncate(time.Microsecond)
			f.must(f.renew(r))
			all = append(all, f.get(r.ID))
		}
		f.listed(10, all[1], all[2], all[0])
	}},
	{"Sessions in every state but Ended are listed", func(f *fixture) {
		a, b := f.attached(), f.create()
		a.State = session.Detached
		f.must(f.renew(a))
		b, err := f.Reassign(f.Context(), "r", b.ID, 1, "node-2", long)
		f.must(err)
		f.listed(10, f.get(a.ID), b)
	}},
	{"Ended sessions are not listed, and do not count towards the limit", func(f *fixture) {
		all := f.createSome(4)
		for _, i := range []int{0, 2} {
			_, err := f.End(f.Context(), all[i].ID, code, long)
			f.must(err)
		}
		f.listed(2, all[1], all[3])
	}},
	{"Expired sessions are not listed, and do not count towards the limit", func(f *fixture) {
		short := f.draft()
		_, err := f.Create(f.Context(), "r", short, time.Minute)
		f.must(err)
		kept := f.createSome(2)
		f.advance(2 * time.Minute)
		f.listed(2, kept...)
	}},
	{"Sessions stay listed while they are renewed", func(f *fixture) {
		d := f.draft()
		r, err := f.Create(f.Context(), "r", d, time.Minute)
		f.must(err)
		_, err = f.Attach(f.Context(), lease(r), "s", 10*time.Minute)
		f.must(err)
		f.advance(5 * time.Minute)
		r = f.get(r.ID)
		f.listed(10, r)
		f.must(f.renew(r)) // an hour
		f.advance(30 * time.Minute)
		f.listed(10, r)
	}},
	{"Sessions of other users are not listed", func(f *fixture) {
		f.create()
		mine := newUser()
		f.user = mine
		f.listed(10)
	}},
	{"Sessions of two users with the same tag are kept apart", func(f *fixture) {
		for _, f.user = range sameTagUsers() {
			f.create()
		}
		for _, f.user = range sameTagUsers() {
			list, err := f.Sessions(f.Context(), f.user, 10)
			f.must(err)
			if len(list) != 1 || list[0].User != f.user {
				f.Errorf("%s has %+v", f.user, list)
			}
			_, err = f.End(f.Context(), list[0].ID, code, long)
			f.must(err)
		}
	}},
	{"Sessions finds the few that have not expired among many that have", func(f *fixture) {
		first := f.create()
		records, ttls := make([]session.Record, 700), make([]time.Duration, 700)
		for i := range records {
			records[i], ttls[i] = f.restorable(), time.Minute
			records[i].Created = first.Created.Add(time.Duration(i+1) * time.Millisecond)
		}
		for _, err := range f.Renew(f.Context(), records, ttls) {
			f.must(err)
		}
		last := f.restorable()
		last.Created = first.Created.Add(time.Second)
		f.must(f.renew(last))
		f.advance(2 * time.Minute)
		f.listed(2, first, f.get(last.ID))
	}},
	{"Sessions that were created at once are all listed", func(f *fixture) {
		var ids [16]string
		atOnce(len(ids), func(i int) {
			r, err := f.Create(f.Context(), session.NewRequest(), f.draft(), long)
			if err != nil {
				f.Error(err)
			}
			ids[i] = r.ID
		})
		list, err := f.Sessions(f.Context(), f.user, 100)
		f.must(err)
		listed := make(map[string]bool)
		for _, r := range list {
			listed[r.ID] = true
		}
		for _, id := range ids {
			if !listed[id] {
				f.Errorf("%s is not listed", id)
			}
		}
	}},
}

// sameTagUsers returns two users with the same tag. There are 256 tags, so there are
// such pairs among 257 users.
func sameTagUsers() [2]string {
	seen := make(map[string]string)
	for i := 0; ; i++ {
		user := "user-" + strconv.Itoa(i)
		tag := session.Tag(user)
		if other, ok := seen[tag]; ok {
			return [2]string{other, user}
		}
		seen[tag] = user
	}
}
