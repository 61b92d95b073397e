package memory

import "time"

// add adds the entry, and frees memory by dropping some expired ones. s.mu is held.
func (s *Store) add(e *entry, now time.Time) {
	if old := s.entries[e.ID]; old != nil { // expired, or find would have returned it
		s.drop(old)
	}
	if e.older = s.users[e.User]; e.older != nil {
		e.older.newer = e
	}
	s.users[e.User] = e
	s.entries[e.ID] = e
	sweep(s.entries, func(_ string, e *entry) {
		if !now.Before(e.expires) {
			s.drop(e)
		}
	})
}

// drop deletes the entry and its links. s.mu is held.
func (s *Store) drop(e *entry) {
	delete(s.entries, e.ID)
	if e.older != nil {
		e.older.newer = e.newer
	}
	switch {
	case e.newer != nil:
		e.newer.older = e.older
	case e.older != nil:
		s.users[e.User] = e.older
	default:
		delete(s.users, e.User)
	}
}

// sweep calls f for a few elements of the map, different ones each time, because
// Go starts an iteration at a random element. Called for each addition, it keeps
// the share of expired elements small, and never takes long.
func sweep[K comparable, V any](m map[K]V, f func(K, V)) {
	const few = 8
	i := 0
	for k, v := range m {
		if i++; i > few {
			return
		}
		f(k, v)
	}
}
