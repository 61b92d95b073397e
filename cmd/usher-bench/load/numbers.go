package load

import (
	"encoding/binary"
	"sync/atomic"
	"time"
)

// MinMessage is the smallest size of a message. A message begins with the time that it
// was planned for, and its number.
const MinMessage = 16

// Stamp writes the planned time into a message.
func Stamp(b []byte, planned time.Time) {
	binary.LittleEndian.PutUint64(b, uint64(planned.UnixNano()))
}

// Age returns the time since the planned time of a message, or 0 if the message is too
// short to have one.
func Age(b []byte) time.Duration {
	if len(b) < 8 {
		return 0
	}
	return time.Duration(time.Now().UnixNano() - int64(binary.LittleEndian.Uint64(b)))
}

// Numbers numbers the messages of one session and checks their echoes. One goroutine
// may send and one may receive.
type Numbers struct {
	Tally *Tally // of the times from the planned time to the echo

	sent       atomic.Uint64
	got        atomic.Uint64
	Missing    atomic.Int64 // a later echo has arrived
	Duplicated atomic.Int64
}

// Next writes the planned time and the next number into b and returns it.
func (n *Numbers) Next(b []byte, planned time.Time) []byte {
	Stamp(b, planned)
	binary.LittleEndian.PutUint64(b[8:], n.sent.Add(1))
	return b
}

// Unsent undoes the last Next.
func (n *Numbers) Unsent() { n.sent.Add(^uint64(0)) }

// Received checks an echo.
func (n *Numbers) Received(b []byte) {
	if len(b) < MinMessage {
		n.Tally.Failed("not what was sent")
		return
	}
	number, last := binary.LittleEndian.Uint64(b[8:]), n.got.Load()
	switch {
	case number <= last:
		n.Duplicated.Add(1)
		return
	case number > last+1:
		n.Missing.Add(int64(number - last - 1))
	}
	n.got.Store(number)
	n.Tally.Lasted(Age(b))
}

// Waiting returns the number of messages whose echo has not arrived.
func (n *Numbers) Waiting() int64 { return int64(n.sent.Load() - n.got.Load()) }

// Forget is called when the stream was reset: missing echoes will not arrive.
func (n *Numbers) Forget() { n.got.Store(n.sent.Load()) }
