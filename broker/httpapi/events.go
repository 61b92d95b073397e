package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// eventWriteTimeout bounds the write of an event to a slow reader.
const eventWriteTimeout = 5 * time.Second

// Streams holds the open streams of server-sent events of an API and limits their
// number. Its methods may be called concurrently.
type Streams struct {
	limit   int64
	open    atomic.Int64
	closing chan struct{}
	close   sync.Once
}

// NewStreams returns a Streams that allows limit streams at a time.
func NewStreams(limit int) *Streams {
	return &Streams{limit: int64(limit), closing: make(chan struct{})}
}

// Close ends all streams. Otherwise http.Server.Shutdown would wait for them.
func (s *Streams) Close() { s.close.Do(func() { close(s.closing) }) }

// Open starts a stream, or returns false if too many are open. The caller must
// call End.
func (s *Streams) Open(w http.ResponseWriter, r *http.Request) (*Stream, bool) {
	if s.open.Add(1) > s.limit {
		s.open.Add(-1)
		return nil, false
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // otherwise nginx buffers the events
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{}) // a read timeout would end the stream
	return &Stream{streams: s, w: w, r: r, rc: rc}, true
}

// Stream is one stream of events. It is not safe for concurrent use.
type Stream struct {
	streams *Streams
	w       http.ResponseWriter
	r       *http.Request
	rc      *http.ResponseController
}

// End releases the stream.
func (s *Stream) End() { s.streams.open.Add(-1) }

// Send sends an event with v as JSON. An error of the connection means that the
// caller is gone.
func (s *Stream) Send(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_ = s.rc.SetWriteDeadline(time.Now().Add(eventWriteTimeout))
	fmt.Fprintf(s.w, "event: %s\ndata: %s\n\n", name, b) // Flush returns the error
	return s.rc.Flush()
}

// Wait waits for d. It returns false if the stream has ended.
func (s *Stream) Wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.r.Context().Done():
	case <-s.streams.closing:
	}
	return false
}
