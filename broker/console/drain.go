package console

import (
	"net/http"

	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/proto"
)

// drainNode drains a node. The body is optional.
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
	return s.writeNode(w, id, proto.StateDraining)
}

func (s *Server) undrainNode(w http.ResponseWriter, r *http.Request) *proto.Problem {
	id := param(r, "id")
	note(r, "node", id)
	ctx, cancel := s.limit(r)
	defer cancel()
	if err := s.cfg.Broker.Undrain(ctx, id); err != nil {
		return s.brokerProblem(r, err)
	}
	return s.writeNode(w, id, proto.StateReady)
}

// writeNode answers with the node, and with the state that it was commanded to enter,
// because its report of that state may arrive a moment later.
func (s *Server) writeNode(w http.ResponseWriter, id string, state proto.NodeState) *proto.Problem {
	v, ok := s.cfg.Broker.Node(id)
	if !ok {
		return noSuchNode(id)
	}
	n := showNode(v)
	n.State = state.String()
	if state != proto.StateDraining {
		n.Drain = nil
	}
	httpapi.WriteJSON(w, n)
	return nil
}
