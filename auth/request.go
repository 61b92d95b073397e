package auth

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/rs/cors"

	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/strictjson"
)

// handler answers a request, or returns the problem to answer with.
type handler func(http.ResponseWriter, *http.Request) *proto.Problem

// answer counts and writes the problems of a handler. It also limits the time in
// which the body must arrive, whether the handler reads it or not. net/http removes the
// limit when the body has arrived.
func (s *Server) answer(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			rc := http.NewResponseController(w)
			_ = rc.SetReadDeadline(time.Now().Add(s.cfg.BodyTimeout)) // fails only without a connection
		}
		if problem := h(w, r); problem != nil {
			s.refuse(w, problem)
		}
	}
}

func (s *Server) refuse(w http.ResponseWriter, p *proto.Problem) {
	s.metrics.refused.WithLabelValues(p.Code).Inc()
	proto.WriteProblem(w, p)
}

// recover answers a request whose handler panics, and logs where.
func (s *Server) recover(next http.Handler) http.Handler {
	return httpapi.Recover(s.log, s.refuse, next)
}

// newCORS returns the rules for web pages of the origins, which are compared exactly;
// "*" stands for any origin. Cookies are never allowed.
func newCORS(origins []string) (*cors.Cors, error) {
	o := cors.Options{
		AllowedHeaders: []string{"Authorization", "Content-Type", proto.HeaderProof},
		ExposedHeaders: []string{"Retry-After", "WWW-Authenticate"},
		MaxAge:         7200,
	}
	for _, origin := range origins {
		if origin == "*" {
			return cors.New(o), nil
		}
		u, err := url.Parse(origin)
		if err != nil || u.Scheme == "" || u.Host == "" || origin != u.Scheme+"://"+u.Host {
			return nil, fmt.Errorf("auth: origin %q is not of the form https://game.example.com or *", origin)
		}
	}
	if len(origins) > 0 { // AllowedOrigins would read a * inside an origin as a pattern
		o.AllowOriginFunc = func(origin string) bool { return slices.Contains(origins, origin) }
	}
	return cors.New(o), nil
}

// allowOrigin lets web pages of the allowed origins call and answers their preflights.
// It refuses requests from pages of other origins: CORS alone would carry them out and
// only hide the answer from the page. Clients that are not web pages send no Origin and
// are not affected. The public keys are available to all.
func (s *Server) allowOrigin(next http.Handler) http.Handler {
	allowed := s.cors.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Origin") != "" && r.URL.Path != "/.well-known/jwks.json" && !s.cors.OriginAllowed(r) {
			w.Header().Add("Vary", "Origin")
			s.refuse(w, &proto.Problem{
				Status: http.StatusForbidden, Code: proto.ProblemForbidden,
				Detail: "Web pages of this origin may not call here.",
			})
			return
		}
		allowed.ServeHTTP(w, r)
	})
}

// clientAddr returns the address of the client that sent the request. This is the
// address of the connection or, if a trusted proxy has that address, the right-most
// address in X-Forwarded-For that is not trusted. The client itself may have written
// the addresses to the left of it. clientAddr returns the zero Addr if the connection
// has no IP address.
func clientAddr(r *http.Request, trusted []netip.Prefix) netip.Addr {
	addr := parseAddr(r.RemoteAddr)
	if !isTrusted(addr, trusted) {
		return addr
	}
	for _, line := range slices.Backward(r.Header.Values("X-Forwarded-For")) {
		for line != "" {
			i := strings.LastIndexByte(line, ',')
			next := parseAddr(strings.Trim(line[i+1:], " \t"))
			if !next.IsValid() {
				return addr // the last valid one
			}
			if addr = next; !isTrusted(addr, trusted) {
				return addr
			}
			line = line[:max(i, 0)]
		}
	}
	return addr
}

// parseAddr reads an IP address, with or without a port.
func parseAddr(s string) netip.Addr {
	if len(s) > 64 {
		return netip.Addr{}
	}
	addr, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		withPort, err := netip.ParseAddrPort(s)
		if err != nil {
			return netip.Addr{}
		}
		addr = withPort.Addr()
	}
	return addr.Unmap().WithZone("")
}

func isTrusted(addr netip.Addr, trusted []netip.Prefix) bool {
	return addr.IsValid() && slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(addr) })
}

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

// bodyRules are those of the bodies that clients send. A member whose value is null
// counts as absent.
var bodyRules = &strictjson.Rules{MaxBytes: proto.MaxBodyBytes, MaxDepth: 16, NullIsAbsent: true}

// readBody reads the request's body, one JSON object of at most
// proto.MaxBodyBytes. An empty body counts as {}. Unknown members are ignored,
// because a newer client may send them.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) (strictjson.Object, *proto.Problem) {
	b, problem := httpapi.ReadBody(w, r, s.cfg.BodyTimeout)
	if problem != nil {
		return strictjson.Object{}, problem
	}
	if len(b) == 0 {
		b = []byte("{}")
	}
	body, err := bodyRules.Parse(b)
	if err != nil {
		return strictjson.Object{}, invalidBody(err)
	}
	return body, nil
}

func invalidBody(err error) *proto.Problem {
	return httpapi.Invalid("The body is wrong: " + err.Error() + ".")
}

// readPlacement reads the optional member placement.
func readPlacement(body strictjson.Object) proto.Placement {
	o := body.OptionalObject("placement")
	p := proto.Placement{
		Region:   name(o, "region"),
		Pool:     name(o, "pool"),
		Group:    name(o, "group"),
		Fallback: o.OptionalStrings("fallback", proto.MaxFallback),
		Strict:   o.OptionalBool("strict"),
	}
	for i, region := range p.Fallback {
		checkName(o, fmt.Sprintf("fallback[%d]", i), region)
	}
	return p
}

// readKey reads the optional key to which the tokens of a login are to be bound.
func readKey(body strictjson.Object) proto.Confirmation {
	if !body.Has("cnf") {
		return proto.Confirmation{}
	}
	cnf := body.Object("cnf")
	thumbprint, err := token.Thumbprint(cnf.Raw("jwk"))
	if err != nil {
		cnf.Fail("jwk", "expected a key that can make proofs: "+err.Error())
	}
	return proto.Confirmation{Thumbprint: thumbprint}
}

// name returns the optional member that names a part of the cluster.
func name(o strictjson.Object, member string) string {
	s := o.OptionalString(member)
	checkName(o, member, s)
	return s
}

func checkName(o strictjson.Object, member, s string) {
	switch {
	case len(s) > proto.MaxNameBytes:
		o.Fail(member, fmt.Sprintf("%d bytes, expected at most %d", len(s), proto.MaxNameBytes))
	case strings.ContainsFunc(s, unicode.IsControl):
		o.Fail(member, "contains a control character")
	}
}
