package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// nodeLoad has the fields of a node that the reason of an assignment needs.
type nodeLoad struct {
	ID       string  `json:"id"`
	Capacity uint32  `json:"capacity"`
	Estimate float64 `json:"estimate"`
	Eligible bool    `json:"eligible"`
	Why      string  `json:"why"`
}

// loads returns how full the nodes are, according to the private API, or nil if the
// API refuses or cannot be reached. Clients do not have this information. It is for the
// reason of the assignment.
func (j *journey) loads(ctx context.Context) []nodeLoad {
	base := j.cmd.API
	if base == "" {
		if base = "http://127.0.0.1:8081"; !onThisMachine(j.cmd.Auth) {
			return nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(base, "/")+"/v1/nodes", nil)
	if err != nil {
		return nil
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	var answer struct{ Nodes []nodeLoad }
	if resp.StatusCode != http.StatusOK || json.NewDecoder(io.LimitReader(resp.Body, 4<<20)).Decode(&answer) != nil {
		return nil
	}
	return answer.Nodes
}

func onThisMachine(base string) bool {
	u, err := url.Parse(base)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && ip.IsLoopback()
}

// assignmentReason describes the loads before the login. It returns "" if the chosen
// node is not among them.
func assignmentReason(nodes []nodeLoad, chosen string) string {
	if !slices.ContainsFunc(nodes, func(n nodeLoad) bool { return n.ID == chosen }) {
		return ""
	}
	slices.SortStableFunc(nodes, func(a, b nodeLoad) int { return cmp.Compare(a.ID, b.ID) })
	const few = 6
	var list []string
	for _, n := range nodes[:min(few, len(nodes))] {
		text := fmt.Sprintf("%s %.0f/%d", n.ID, n.Estimate, n.Capacity)
		if !n.Eligible {
			text += " (" + n.Why + ")"
		}
		list = append(list, text)
	}
	if len(nodes) > few {
		list = append(list, fmt.Sprintf("and %d more", len(nodes)-few))
	}
	return fmt.Sprintf("\n        because it was among the least loaded nodes: %s", strings.Join(list, ", "))
}
