package node

import (
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Rates limit what one connection may send per second, on average over rateBurst. The
// node does not refuse what exceeds them. It reads the connection more slowly, so
// that data backs up at that client, and other clients do not wait.
type Rates struct {
	Bytes    int // bytes of WebSocket frames. Default 4,194,304; negative: no limit
	Messages int // messages of the application and controls of the protocol. Default 2,000; negative: no limit
	Frames   int // frames of all kinds, each fragment of a message included. Default 4,000; negative: no limit
	Pings    int // WebSocket pings, pongs and closes. Default 50; negative: no limit
}

func (r *Rates) setDefaults() {
	setDefault(&r.Bytes, 4<<20)
	setDefault(&r.Messages, 2000)
	setDefault(&r.Frames, 4000)
	setDefault(&r.Pings, 50)
}

// rateBurst is how far a connection may be ahead of its rate: after a resume a client
// sends what it has kept.
const rateBurst = 2 * time.Second

// maxFragments limits the frames of one message. Senders fragment messages that
// exceed their buffer; a message within the limits never needs more.
const maxFragments = 1024

var errFragments = errors.New("a message has too many fragments")

// The quantities that have a rate.
const (
	rateBytes = iota
	rateMessages
	rateFrames
	ratePings
	rateCount
)

// amounts holds one number for each quantity.
type amounts [rateCount]int64

var rateNames = [rateCount]string{"bytes", "messages", "frames", "pings"}

// meter slows connections that send too much, and counts it. One meter serves all
// connections of a node.
type meter struct {
	rates   amounts // per second
	slowed  [rateCount]prometheus.Counter
	refused prometheus.Counter // connections closed for too many fragments
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

// spent is what a connection has sent: for each quantity the time, in Unix
// nanoseconds, at which it would have been sent at the allowed rate.
type spent struct {
	until  amounts
	warned bool
}

// charge charges the connection for the amounts n that were read, and sleeps if they
// exceed a rate.
func (t *meter) charge(s *spent, now instant, n amounts, peer interface{ RemoteAddr() net.Addr }) {
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
		t.log.Warn("client sends too much; reading it more slowly", "client", peer.RemoteAddr().String(), "of", rateNames[most])
	}
	time.Sleep(time.Duration(wait)) // short: one read is at most one buffer
}
