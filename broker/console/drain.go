package console

import (
	"net/http"

	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/proto"
)

// drainNode has a node give its sessions away. The body may be missing.
func (s *Server) drainNode(w http.ResponseWriter, r *http.Request) *proto.Problem {
	var req proto.DrainRequest
	if r.ContentLength != 0 {
		if problem := s.readBody(w, r, &req); problem != nil {
			return problem
		}
	}
	id := param(r, "id")
	note(r, "node", id)
	ctx, cancel := s.limit(r)
	defer cancel()
	if err := s.cfg.Broker.Drain(ctx, id, req); err != nil {
		return s.brokerProblem(r, err)
	}
	return s.ordered(w, id, proto.StateDraining)
}

func (s *Server) undrainNode(w http.ResponseWriter, r *http.Request) *proto.Problem {
	id := param(r, "id")
	note(r, "node", id)
	ctx, cancel := s.limit(r)
	defer cancel()
	if err := s.cfg.Broker.Undrain(ctx, id); err != nil {
		return s.brokerProblem(r, err)
	}
	return s.ordered(w, id, proto.StateReady)
}

// ordered answers with the node in the state that it was told to be in: its
// own word of that may come a moment later.
func (s *Server) ordered(w http.ResponseWriter, id string, state proto.NodeState) *proto.Problem {
	v, ok := s.cfg.Broker.Node(id)
	if !ok {
		return notFound("The node has left.")
	}
	n := showNode(v)
	n.State = state.String()
	if state != proto.StateDraining {
		n.Drain = nil
	}
	httpapi.WriteJSON(w, n)
	return nil
}
