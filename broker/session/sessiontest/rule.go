package sessiontest

import (
	"errors"
	"sync/atomic"

	"github.com/usher-broker/usher/broker/session"
)

var one = session.Rule{Sessions: 1, Reason: code, CloseReason: "elsewhere", TTL: long}

// refuse returns the rule with Refuse set.
func refuse(r session.Rule) session.Rule { r.Refuse = true; return r }

// createUnder creates a session of the fixture's user under the rule.
func (f *fixture) createUnder(rule session.Rule) (session.Record, []session.Record, error) {
	f.Helper()
	return f.Store.Create(f.Context(), session.NewRequest(), f.draft(), rule, long)
}

// endedAre fails the test unless the ended sessions are want, in that order.
func (f *fixture) endedAre(ended []session.Record, want ...session.Record) {
	f.Helper()
	if len(ended) != len(want) {
		f.Fatalf("%d sessions ended, want %d", len(ended), len(want))
	}
	for i, w := range want {
		w.State, w.Reason, w.CloseReason, w.Changed = session.Ended, code, "elsewhere", ended[i].Changed
		f.same(ended[i], w)
		f.unchanged(w)
	}
}

var ruleTests = []test{
	{"A rule of one ends the previous session", func(f *fixture) {
		old := f.attached()
		made, ended, err := f.createUnder(one)
		f.must(err)
		f.endedAre(ended, old)
		f.unchanged(made)
		list, err := f.Sessions(f.Context(), f.user, 10)
		f.must(err)
		if len(list) != 1 || list[0].ID != made.ID {
			f.Errorf("sessions %+v", list)
		}
	}},
	{"A rule of three ends the oldest sessions", func(f *fixture) {
		var all []session.Record
		for range 5 {
			all = append(all, f.create())
		}
		rule := one
		rule.Sessions = 3
		_, ended, err := f.createUnder(rule)
		f.must(err)
		f.endedAre(ended, all[:3]...)
		for _, r := range all[3:] {
			f.unchanged(r)
		}
	}},
	{"A rule counts the sessions of one pool that have not ended", func(f *fixture) {
		f.ended()
		d := f.draft()
		d.Pool = "casual"
		other, err := f.Create(f.Context(), "r", d, long)
		f.must(err)
		_, ended, err := f.createUnder(one)
		f.must(err)
		f.endedAre(ended)
		f.unchanged(other)
	}},
	{"A rule counts the sessions of one user", func(f *fixture) {
		r := f.create()
		f.user = newUser()
		_, ended, err := f.createUnder(one)
		f.must(err)
		f.endedAre(ended)
		f.unchanged(r)
	}},
	{"A rule does not count expired sessions", func(f *fixture) {
		d := f.draft()
		_, err := f.Create(f.Context(), "r", d, long/2)
		f.must(err)
		f.advance(long)
		_, ended, err := f.createUnder(refuse(one))
		f.must(err)
		f.endedAre(ended)
	}},
	{"A rule that refuses, with an assigned or attached session: ErrConnected", func(f *fixture) {
		for _, create := range []func() session.Record{f.create, f.attached} {
			f.user = newUser()
			r := create()
			_, ended, err := f.createUnder(refuse(one))
			f.is(err, session.ErrConnected)
			f.endedAre(ended)
			f.unchanged(r)
		}
	}},
	{"A rule that refuses ends detached sessions", func(f *fixture) {
		detached := f.attached()
		detached.State = session.Detached
		f.must(f.renew(detached))
		detached = f.get(detached.ID)
		_, ended, err := f.createUnder(refuse(one))
		f.must(err)
		f.endedAre(ended, detached)
		_, _, err = f.createUnder(refuse(one))
		f.is(err, session.ErrConnected)
	}},
	{"Create repeated under a rule returns the ended sessions again, and ends no others", func(f *fixture) {
		old := f.attached()
		d := f.draft()
		made, ended, err := f.Store.Create(f.Context(), "r", d, one, long)
		f.must(err)
		f.endedAre(ended, old)
		later := f.create()
		again, ended, err := f.Store.Create(f.Context(), "r", d, one, long)
		f.must(err)
		f.same(again, made)
		f.endedAre(ended, old)
		f.unchanged(later)
	}},
	{"Create under a rule of one, by many at once: one session is left", func(f *fixture) {
		var returned atomic.Int32
		atOnce(16, func(int) {
			_, ended, err := f.Store.Create(f.Context(), session.NewRequest(), f.draft(), one, long)
			if err != nil {
				f.Error(err)
			}
			returned.Add(int32(len(ended)))
		})
		list, err := f.Sessions(f.Context(), f.user, 32)
		f.must(err)
		if len(list) != 1 || returned.Load() != 15 {
			f.Errorf("%d sessions are left, and %d were returned as ended", len(list), returned.Load())
		}
	}},
	{"Create under a rule that refuses, by many at once: one succeeds", func(f *fixture) {
		var errs [16]error
		atOnce(len(errs), func(i int) {
			_, _, errs[i] = f.Store.Create(f.Context(), session.NewRequest(), f.draft(), refuse(one), long)
		})
		f.oneWins(errs[:], session.ErrConnected)
	}},
}

var endUserTests = []test{
	{"EndUser ends all sessions of a user, and of no other user", func(f *fixture) {
		other := f.create()
		f.user = newUser()
		f.ended()
		want := []session.Record{f.attached(), f.create()}
		ended, err := f.EndUser(f.Context(), f.user, code, "elsewhere", long)
		f.must(err)
		f.endedAre(ended, want...)
		f.unchanged(other)
		again, err := f.EndUser(f.Context(), f.user, code2, "", long)
		f.must(err)
		f.endedAre(again)
	}},
	{"EndUser of a user with very many sessions", func(f *fixture) {
		for range 700 {
			f.create()
		}
		ended, err := f.EndUser(f.Context(), f.user, code, "", long)
		f.must(err)
		list, err := f.Sessions(f.Context(), f.user, 10)
		f.must(err)
		if len(ended) != 700 || len(list) != 0 {
			f.Errorf("%d ended, %d are left", len(ended), len(list))
		}
	}},
	{"EndUser of an unknown user", func(f *fixture) {
		for _, user := range []string{f.user, ""} {
			ended, err := f.EndUser(f.Context(), user, code, "", long)
			f.must(err)
			f.endedAre(ended)
		}
	}},
	{"EndUser while sessions are created: each is ended or listed", func(f *fixture) {
		made := make([]session.Record, 16)
		atOnce(17, func(i int) {
			var err error
			if i == 16 {
				_, err = f.EndUser(f.Context(), f.user, code, "", long)
			} else {
				made[i], err = f.Create(f.Context(), session.NewRequest(), f.draft(), long)
			}
			if err != nil {
				f.Error(err)
			}
		})
		list, err := f.Sessions(f.Context(), f.user, 32)
		f.must(err)
		alive := 0
		for _, r := range made {
			if _, err := f.Get(f.Context(), r.ID); !errors.Is(err, session.ErrEnded) {
				f.must(err)
				alive++
			}
		}
		if alive != len(list) {
			f.Errorf("%d alive, %d listed", alive, len(list))
		}
	}},
}
