package console

import (
	"fmt"
	"net/http"
	"time"

	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/proto"
)

const (
	// maxStreams bounds the streams of events that are open.
	maxStreams = 200
	// eventEvery is the time between two events.
	eventEvery = time.Second
)

// events sends all nodes, once a second, until the caller has gone.
func (s *Server) events(w http.ResponseWriter, r *http.Request) *proto.Problem {
	stream, ok := s.streams.Open(w, r)
	if !ok {
		return &proto.Problem{
			Status: http.StatusServiceUnavailable, Code: proto.ProblemOverloaded, RetryAfter: httpapi.RetryAfter(),
			Detail: fmt.Sprintf("There are %d streams of events already.", maxStreams),
		}
	}
	defer stream.End()
	for stream.Send("nodes", map[string]any{"nodes": s.showNodes(), "at": time.Now().UTC()}) == nil && stream.Wait(eventEvery) {
	}
	return nil
}
