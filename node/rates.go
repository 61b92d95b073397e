package node

import (
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Rates bound what one connection may send per second, on average over
// rateBurst. What is beyond is not refused: the connection is read more slowly,
// so that the client's own sending backs up, and no other is kept waiting.
type Rates struct {
	Bytes    int // of WebSocket frames. Default 4,194,304; negative for any number
	Messages int // of the application and controls of the protocol. Default 2,000
	Frames   int // of all kinds: fragments of messages are frames. Default 4,000
	Pings    int // WebSocket pings, pongs and closes. Default 50
}

func (r *Rates) setDefaults() {
	setDefault(&r.Bytes, 4<<20)
	setDefault(&r.Messages, 2000)
	setDefault(&r.Frames, 4000)
	setDefault(&r.Pings, 50)
}

// rateBurst is how far a connection may be ahead of its rate: it may send what it
// has kept when it resumes.
const rateBurst = 2 * time.Second

// maxFragments bounds the frames of one message. Senders fragment what is
// larger than their buffer; nobody needs more for a message that fits the limits.
const maxFragments = 1024

var errFragments = errors.New("a message of too many fragments")

// The things that a connection has a rate of.
const (
	rateBytes = iota
	rateMessages
	rateFrames
	ratePings
	rateCount
)

// amounts are numbers of each of them.
type amounts [rateCount]int64

var rateNames = [rateCount]string{"bytes", "messages", "frames", "pings"}

// meter says how long connections wait, and counts it. One serves all connections
// of a node.
type meter struct {
	rates   amounts // per second
	slowed  [rateCount]prometheus.Counter
	refused prometheus.Counter // of connections cut for their fragments
	log     *slog.Logger
}

func newMeter(r Rates, m *metrics, log *slog.Logger) *meter {
	t := &meter{
		rates:   amounts{int64(r.Bytes), int64(r.Messages), int64(r.Frames), int64(r.Pings)},
		refused: m.closes.WithLabelValues("fragments"), log: log,
	}
	for i, name := range rateNames {
		t.slowed[i] = m.slowed.WithLabelValues(name)
	}
	return t
}

// spent is what a connection has sent: for each thing the time at which it would
// have been sent at the rate, in Unix nanoseconds.
type spent struct {
	until  amounts
	warned bool
}

// pay charges the connection for what was read, and waits if it was too much.
func (t *meter) pay(s *spent, now instant, n amounts, peer interface{ RemoteAddr() net.Addr }) {
	wait, most := int64(0), 0
	at := int64(now)
	for i, rate := range t.rates {
		if n[i] == 0 || rate <= 0 {
			continue
		}
		s.until[i] = max(s.until[i], at) + n[i]*int64(time.Second)/rate
		if ahead := s.until[i] - at - int64(rateBurst); ahead > wait {
			wait, most = ahead, i
		}
	}
	if wait == 0 {
		return
	}
	t.slowed[most].Inc()
	if !s.warned {
		s.warned = true
		t.log.Warn("client sends too much: it is read more slowly", "client", peer.RemoteAddr().String(), "of", rateNames[most])
	}
	time.Sleep(time.Duration(wait)) // short: no read is of more than a buffer
}
