package cluster

// recentCalls is how many executed calls a member remembers. It must cover the
// retries of a call: the calls of at most 10 s.
const recentCalls = 4096

// recent remembers the latest calls and their answers. The zero value is empty.
// The owner must lock it.
type recent struct {
	answers map[callID][]byte // nil while the call is being executed
	ids     []callID          // a ring buffer once it is full
	next    int
}

// begin records a call, unless it is known. For a known call, answer is its
// answer, or nil while it is being executed.
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

// finish records the answer, if the call is still remembered.
func (r *recent) finish(id callID, answer []byte) {
	if _, ok := r.answers[id]; ok {
		r.answers[id] = answer
	}
}
