package cluster

// recentCalls is how many calls a member remembers to have carried out. It has
// to outlast the retries of one: at most 10 s of calls.
const recentCalls = 4096

// recent remembers the latest calls and what was answered. The zero value is
// empty. The owner locks.
type recent struct {
	answers map[callID][]byte // nil while the call is being carried out
	ids     []callID          // a ring, once it is full
	next    int
}

// begin notes a call, unless it is known; then answer is what was answered, if
// it was.
func (r *recent) begin(id callID) (answer []byte, known bool) {
	if answer, known = r.answers[id]; known {
		return answer, true
	}
	if r.answers == nil {
		r.answers = map[callID][]byte{}
	}
	if len(r.ids) < recentCalls {
		r.ids = append(r.ids, id)
	} else {
		delete(r.answers, r.ids[r.next])
		r.ids[r.next] = id
		r.next = (r.next + 1) % recentCalls
	}
	r.answers[id] = nil
	return nil, false
}

// finish notes the answer, if the call is still remembered.
func (r *recent) finish(id callID, answer []byte) {
	if _, ok := r.answers[id]; ok {
		r.answers[id] = answer
	}
}
