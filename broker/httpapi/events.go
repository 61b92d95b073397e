package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// eventWrite is how long a slow reader may hold up an event.
const eventWrite = 5 * time.Second

// Streams are the streams of server-sent events that a door has open.
type Streams struct {
	most    int64
	open    atomic.Int64
	closing chan struct{}
	close   sync.Once
}

// NewStreams returns room for so many streams.
func NewStreams(most int) *Streams {
	return &Streams{most: int64(most), closing: make(chan struct{})}
}

// Close ends all streams: the http.Server would wait for them when it shuts down.
func (s *Streams) Close() { s.close.Do(func() { close(s.closing) }) }

// Open begins a stream, or reports that there are too many. The caller ends it
// with End.
func (s *Streams) Open(w http.ResponseWriter, r *http.Request) (*Stream, bool) {
	if s.open.Add(1) > s.most {
		s.open.Add(-1)
		return nil, false
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would keep the events back
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{}) // or it would end the stream
	return &Stream{streams: s, w: w, r: r, rc: rc}, true
}

// Stream is one stream of events.
type Stream struct {
	streams *Streams
	w       http.ResponseWriter
	r       *http.Request
	rc      *http.ResponseController
}

// End ends the stream.
func (s *Stream) End() { s.streams.open.Add(-1) }

// Send sends an event. After an error the caller is gone.
func (s *Stream) Send(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_ = s.rc.SetWriteDeadline(time.Now().Add(eventWrite))
	fmt.Fprintf(s.w, "event: %s\ndata: %s\n\n", name, b) // Flush has the error
	return s.rc.Flush()
}

// Wait waits for the time until the next event, and reports whether there is to
// be one.
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
