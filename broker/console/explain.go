package console

import (
	"fmt"
	"math"
	"net/http"

	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/proto"
)

// explanationJSON says which node a login would get, and why. openapi.yaml defines the
// fields.
type explanationJSON struct {
	User     string        `json:"user"`
	Node     string        `json:"node,omitempty"`
	Group    string        `json:"group_node,omitempty"`
	Sessions []sessionJSON `json:"sessions"`
	Nodes    []ratingJSON  `json:"nodes"`
}

type ratingJSON struct {
	ID          string   `json:"id"`
	Region      string   `json:"region,omitempty"`
	Pool        string   `json:"pool"`
	Candidate   bool     `json:"candidate"`
	Chosen      bool     `json:"chosen"`
	Score       *float64 `json:"score,omitempty"`
	Capacity    uint32   `json:"capacity"`
	Estimate    float64  `json:"estimate"`
	LoadPenalty int      `json:"load_penalty"`
	Because     string   `json:"because"`
}

// explain answers with the node that a login would get now, and with the reason for
// each other node.
func (s *Server) explain(w http.ResponseWriter, r *http.Request) *proto.Problem {
	q := r.URL.Query()
	for name := range q {
		switch name {
		case "user", "region", "fallback", "strict", "pool", "group", "unreachable":
		default:
			return httpapi.Invalid(fmt.Sprintf("Unknown parameter %.64q. The parameters are user, region, fallback, strict, pool, group and unreachable.", name))
		}
	}
	strict := q.Get("strict")
	if strict != "" && strict != "true" && strict != "false" {
		return httpapi.Invalid(fmt.Sprintf("The parameter strict is %.64q; set it to true or false.", strict))
	}
	req := proto.AssignmentRequest{User: q.Get("user"), Placement: proto.Placement{
		Region: q.Get("region"), Fallback: q["fallback"], Strict: strict == "true", Pool: q.Get("pool"), Group: q.Get("group"),
	}}
	ctx, cancel := s.limit(r)
	defer cancel()
	e, err := s.cfg.Broker.Explain(ctx, req, q.Get("unreachable"))
	if err != nil {
		return s.brokerProblem(r, err)
	}
	out := explanationJSON{User: req.User, Node: e.Node, Group: e.Group, Sessions: []sessionJSON{}, Nodes: []ratingJSON{}}
	for _, rec := range e.Sessions {
		out.Sessions = append(out.Sessions, showSession(rec))
	}
	for _, v := range e.Nodes {
		out.Nodes = append(out.Nodes, showRating(v))
	}
	httpapi.WriteJSON(w, out)
	return nil
}

func showRating(v placement.Rating) ratingJSON {
	n := showNode(v.View)
	out := ratingJSON{
		ID: n.ID, Region: n.Region, Pool: n.Pool, Candidate: v.Candidate, Chosen: v.Chosen,
		Capacity: n.Capacity, Estimate: n.Estimate, LoadPenalty: v.LoadPenalty, Because: v.Because,
	}
	if v.Scored && !math.IsInf(v.Score, 0) && !math.IsNaN(v.Score) {
		score := v.Score
		out.Score = &score
	}
	return out
}
