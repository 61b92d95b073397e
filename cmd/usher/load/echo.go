package load

import (
	"encoding/binary"
	"sync/atomic"
	"time"
)

// Message sizes: a message begins with the time it was planned for and its number.
const MinMessage = 16

// Stamp puts into a message when it was planned for.
func Stamp(b []byte, planned time.Time) {
	binary.LittleEndian.PutUint64(b, uint64(planned.UnixNano()))
}

// Age returns how long ago a message was planned for, or 0 if it does not say.
func Age(b []byte) time.Duration {
	if len(b) < 8 {
		return 0
	}
	return time.Duration(time.Now().UnixNano() - int64(binary.LittleEndian.Uint64(b)))
}

// Numbers numbers the messages of one session and judges what comes back of them.
// It is for one sender and one reader.
type Numbers struct {
	Tally *Tally // of the times until they came back

	sent    atomic.Uint64
	got     atomic.Uint64
	Missing atomic.Int64 // skipped by one that came after
	Doubled atomic.Int64
}

// Next fills in the next message, planned for a time.
func (n *Numbers) Next(b []byte, planned time.Time) []byte {
	Stamp(b, planned)
	binary.LittleEndian.PutUint64(b[8:], n.sent.Add(1))
	return b
}

// Unsent takes back the last Next.
func (n *Numbers) Unsent() { n.sent.Add(^uint64(0)) }

// Heard judges a message that came back.
func (n *Numbers) Heard(b []byte) {
	if len(b) < MinMessage {
		n.Tally.Failed("not what was sent")
		return
	}
	number, last := binary.LittleEndian.Uint64(b[8:]), n.got.Load()
	switch {
	case number <= last:
		n.Doubled.Add(1)
		return
	case number > last+1:
		n.Missing.Add(int64(number - last - 1))
	}
	n.got.Store(number)
	n.Tally.Lasted(Age(b))
}

// Waiting returns how many have not come back.
func (n *Numbers) Waiting() int64 { return int64(n.sent.Load() - n.got.Load()) }

// Forget notes that the stream was reset: what has not come back will not.
func (n *Numbers) Forget() { n.got.Store(n.sent.Load()) }
