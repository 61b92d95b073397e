package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/usher-broker/usher/broker/door"
	"github.com/usher-broker/usher/proto"
)

const (
	// maxStreams bounds the streams of events that are open.
	maxStreams = 200
	// eventEvery is the time between two events, eventWrite how long a slow reader
	// may hold one up.
	eventEvery = time.Second
	eventWrite = 5 * time.Second
)

// events sends all nodes, once a second, until the caller has gone.
func (s *Server) events(w http.ResponseWriter, r *http.Request) *proto.Problem {
	if n := s.streams.Add(1); n > maxStreams {
		s.streams.Add(-1)
		return &proto.Problem{
			Status: http.StatusServiceUnavailable, Code: proto.ProblemOverloaded, RetryAfter: door.RetryAfter(),
			Detail: fmt.Sprintf("There are %d streams of events already.", maxStreams),
		}
	}
	defer s.streams.Add(-1)
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would keep the events back
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{}) // or it would end the stream
	ticker := time.NewTicker(eventEvery)
	defer ticker.Stop()
	for {
		b, err := json.Marshal(map[string]any{"nodes": s.showNodes(), "at": time.Now().UTC()})
		if err != nil {
			return door.Internal()
		}
		_ = rc.SetWriteDeadline(time.Now().Add(eventWrite))
		fmt.Fprintf(w, "event: nodes\ndata: %s\n\n", b) // a caller that is gone is seen by Flush
		if rc.Flush() != nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return nil
		case <-s.closing:
			return nil
		}
	}
}
