package console

import (
	"fmt"
	"net/http"
	"time"

	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/proto"
)

const (
	// maxStreams is the most streams of events that may be open.
	maxStreams = 200
	// eventEvery is the time between two events.
	eventEvery = time.Second
)

// events sends all nodes once a second, until the caller closes the connection.
func (s *Server) events(w http.ResponseWriter, r *http.Request) *proto.Problem {
	stream, ok := s.streams.Open(w, r)
	if !ok {
		return &proto.Problem{
			Status: http.StatusServiceUnavailable, Code: proto.ProblemOverloaded, RetryAfter: httpapi.RetryAfter(),
			Detail: fmt.Sprintf("The broker already has %d open streams of events, the most that it allows. Try again later.", maxStreams),
		}
	}
	defer stream.End()
	for stream.Send("nodes", map[string]any{"nodes": s.showNodes(), "at": time.Now().UTC()}) == nil && stream.Wait(eventEvery) {
	}
	return nil
}
