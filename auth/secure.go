package auth

import (
	"context"
	"net/http"
	"net/netip"
	"strings"

	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/proto"
)

// byHTTPS reports whether the client sent the request by https, to this server or to a
// trusted proxy that says so in X-Forwarded-Proto.
func byHTTPS(r *http.Request, trusted []netip.Prefix) bool {
	if r.TLS != nil {
		return true
	}
	if !isTrusted(parseAddr(r.RemoteAddr), trusted) {
		return false
	}
	// If there are several proxies, the first one received the request from the client.
	first, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",")
	return strings.EqualFold(strings.TrimSpace(first), "https")
}

// secured returns a problem if the client used https and the node's address has no TLS.
// The token would cross the network in clear text, and a browser would refuse to connect.
func (s *Server) secured(r *http.Request, a proto.Assignment) *proto.Problem {
	if !strings.HasPrefix(a.Node.URL, "ws://") || !byHTTPS(r, s.cfg.TrustedProxies) {
		return nil
	}
	s.log.Error("a client that used https was assigned to a node without TLS; give the node a certificate, or a wss:// address in --advertise",
		"node", a.Node.ID, "url", a.Node.URL)
	return &proto.Problem{
		Status: http.StatusServiceUnavailable, Code: proto.ProblemInsecureNode, RetryAfter: httpapi.RetryAfter(),
		Detail: "The node that would serve this session has an address without TLS (ws://), and this request was sent by https.",
	}
}

// securedOrEnded is secured for a session that was just opened. It ends the session if
// there is a problem.
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
