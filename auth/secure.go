package auth

import (
	"context"
	"net/http"
	"net/netip"
	"strings"

	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/proto"
)

// byHTTPS reports whether the client's request came by https, here or at a
// trusted proxy, which says so in X-Forwarded-Proto.
func byHTTPS(r *http.Request, trusted []netip.Prefix) bool {
	if r.TLS != nil {
		return true
	}
	if !isTrusted(parseAddr(r.RemoteAddr), trusted) {
		return false
	}
	// Of several proxies the first one saw the client.
	first, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",")
	return strings.EqualFold(strings.TrimSpace(first), "https")
}

// secured refuses to send a client that came by https to an address without TLS:
// its token would travel in the open, and a browser would not go there.
func (s *Server) secured(r *http.Request, a proto.Assignment) *proto.Problem {
	if !strings.HasPrefix(a.Node.URL, "ws://") || !byHTTPS(r, s.cfg.TrustedProxies) {
		return nil
	}
	s.log.Error("node without TLS for a client that came by https; give the node a certificate, or a wss:// address in --advertise",
		"node", a.Node.ID, "url", a.Node.URL)
	return &proto.Problem{
		Status: http.StatusServiceUnavailable, Code: proto.ProblemInsecureNode, RetryAfter: httpapi.RetryAfter(),
		Detail: "The node that would serve this session has an address without TLS (ws://), and this request came by https.",
	}
}

// securedOrEnded is secured for a session that has just been opened: refused, it
// ends.
func (s *Server) securedOrEnded(r *http.Request, a proto.Assignment) *proto.Problem {
	problem := s.secured(r, a)
	if problem == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.BrokerTimeout)
	defer cancel()
	if err := s.cfg.Broker.End(ctx, a.Session, proto.CloseSessionEnded, ""); err != nil {
		s.log.Warn("session not ended; it will expire", "session", a.Session, "error", err)
	}
	return problem
}
