package console

import (
	"math"
	"net/http"

	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/broker/nodes"
	"github.com/usher-broker/usher/proto"
)

// nodeJSON is a node in an answer. openapi.yaml defines the fields.
type nodeJSON struct {
	ID          string  `json:"id"`
	URL         string  `json:"url,omitempty"`
	Region      string  `json:"region,omitempty"`
	Pool        string  `json:"pool"`
	State       string  `json:"state"`
	Capacity    uint32  `json:"capacity"`
	Live        uint32  `json:"live"`
	Attached    uint32  `json:"attached"`
	Arrived     uint64  `json:"arrived"`
	Pending     int     `json:"pending"`
	Estimate    float64 `json:"estimate"`
	ReportAgeMS int64   `json:"report_age_ms"`
	LoadPenalty int     `json:"load_penalty"`
	Reach       string  `json:"reach"`
	Unreached   string  `json:"unreached,omitempty"`
	Eligible    bool    `json:"eligible"`
	Why         string  `json:"why,omitempty"`
	Version     string  `json:"version,omitempty"`

	Drain *proto.Drain `json:"drain,omitempty"`
}

// showNode prefers the node's report to gossip, which is coarser and slower. The
// exception is a drain: it shows as soon as either source reports it.
func showNode(v nodes.View) nodeJSON {
	p := v.Peer
	state, capacity, live := p.State, p.Capacity, p.Live
	if v.Report.ID != "" {
		capacity, live = v.Report.Capacity, v.Report.Live
		if state != proto.StateDraining {
			state = v.Report.State
		}
	}
	drain := v.Report.Drain
	if state != proto.StateDraining {
		drain = nil
	}
	return nodeJSON{
		Drain: drain,
		ID:    p.ID, URL: p.URL, Region: p.Region, Pool: p.Pool, State: state.String(),
		Capacity: capacity, Live: live, Attached: v.Report.Attached, Arrived: v.Report.ArrivedAll, Pending: v.Pending,
		Estimate: math.Round(v.Estimate*10) / 10, ReportAgeMS: max(v.Age.Milliseconds(), 0),
		LoadPenalty: v.LoadPenalty, Reach: v.Reach.String(), Unreached: v.Unreached,
		Eligible: v.Eligible(), Why: v.Why(), Version: p.Version,
	}
}

func (s *Server) nodes(w http.ResponseWriter, _ *http.Request) *proto.Problem {
	httpapi.WriteJSON(w, map[string]any{"nodes": s.showNodes()})
	return nil
}

func (s *Server) showNodes() []nodeJSON {
	views := s.cfg.Broker.Nodes()
	list := make([]nodeJSON, len(views))
	for i, v := range views {
		list[i] = showNode(v)
	}
	return list
}

func (s *Server) node(w http.ResponseWriter, r *http.Request) *proto.Problem {
	v, ok := s.cfg.Broker.Node(param(r, "id"))
	if !ok {
		return noSuchNode(param(r, "id"))
	}
	httpapi.WriteJSON(w, showNode(v))
	return nil
}
