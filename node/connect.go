package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/proto"
)

// connect is the door: it lets in whoever holds an authentic token, says with
// an HTTP status what is wrong with everybody else's request, and tells those
// who cannot be served now with a close code what to do.
func (n *Node) connect(w http.ResponseWriter, r *http.Request) {
	if !n.enter() {
		n.refuseHTTP(w, &proto.Problem{
			Status: http.StatusServiceUnavailable, Code: proto.ProblemNoCapacity, RetryAfter: 1,
			Detail: "This node is shutting down; another one takes the session.",
		})
		return
	}
	defer n.goes.Done()
	query := r.URL.Query()
	raw, problem := n.checkHandshake(r, query)
	if problem != nil {
		n.refuseHTTP(w, problem)
		return
	}
	claims, print, err := n.verify(r.Context(), raw)
	expired := errors.Is(err, token.ErrExpired)
	if err != nil && !expired {
		n.refuseToken(w, err)
		return
	}
	proof, err := handshakeProof(r.Header, raw, claims)
	if err != nil {
		n.log.Info("proof refused", "session", claims.Session, "user", claims.User, "error", err)
		n.refuseHTTP(w, &proto.Problem{
			Status: http.StatusUnauthorized, Code: proto.ProblemInvalidProof,
			Detail: "The token is bound to a key: send a proof that you have it, made for this token and for attaching.",
		})
		return
	}

	// From here on the caller is one of ours, and a browser can only read a
	// close code: whatever is wrong is said after the upgrade.
	want, err := parseWant(query)
	want.claims, want.print, want.proof = claims, print, proof
	var s *Session
	var code proto.CloseCode
	switch {
	case err != nil:
		code = proto.CloseProtocolError
	case expired:
		code = proto.CloseTokenExpired
	default:
		s, code = n.claim(r.Context(), &want)
	}
	c, err := n.upgrade(w, r)
	if err != nil {
		n.refused(want, "upgrade", err)
		return
	}
	if code != 0 {
		n.goes.Go(func() { n.refuse(c, want, code) })
		return
	}
	if code := c.attach(s, want); code != 0 {
		want.word = s.word()
		n.goes.Go(func() { n.refuse(c, want, code) })
		return
	}
	// The reader is a goroutine that has done nothing else: attaching takes a
	// deep stack, and a stack that has grown is kept as long as the connection.
	n.goes.Add(1)
	go c.serve()
}

// verify verifies a token. One that the session it names has attached with before,
// and has not changed since, is not verified anew: after a cut a client comes back
// with the same.
func (n *Node) verify(ctx context.Context, raw string) (claims proto.Claims, print token.Fingerprint, err error) {
	v, ok := n.cfg.Verifier.(interface {
		VerifyUnless(context.Context, string, func(proto.Claims, token.Fingerprint) bool) (proto.Claims, error)
	})
	if !ok {
		claims, err = n.cfg.Verifier.Verify(ctx, raw)
		return claims, print, err
	}
	claims, err = v.VerifyUnless(ctx, raw, func(c proto.Claims, p token.Fingerprint) bool {
		print = p
		s := n.session(c.Session)
		if s == nil {
			return false
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.token == p && s.endCode == 0
	})
	return claims, print, err
}

// refuseToken answers a request whose token does not let it in.
func (n *Node) refuseToken(w http.ResponseWriter, err error) {
	if errors.Is(err, token.ErrUnavailable) {
		n.log.Warn("token keys are not available", "error", err)
		n.refuseHTTP(w, &proto.Problem{
			Status: http.StatusServiceUnavailable, Code: proto.ProblemInternal, RetryAfter: 1 + rand.IntN(5),
			Detail: "This node does not know yet the keys that tokens are signed with.",
		})
		return
	}
	w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	n.refuseHTTP(w, &proto.Problem{
		Status: http.StatusUnauthorized, Code: proto.ProblemInvalidToken,
		Detail: "The token is not valid here; log in again.",
	})
}

// refuse closes a connection that carries no session.
func (n *Node) refuse(c *conn, want want, code proto.CloseCode) {
	n.refused(want, code.String(), nil)
	_, _ = c.net.flush(true) // the 101
	c.close(code, cmp.Or(want.word, code.String()))
}

func (n *Node) refused(want want, why string, err error) {
	n.metrics.refused.WithLabelValues(why).Inc()
	n.log.Info("refused", "session", want.claims.Session, "user", want.claims.User, "reason", why, "error", err)
}

// checkHandshake returns the token of a request that is a handshake of ours.
func (n *Node) checkHandshake(r *http.Request, query url.Values) (token string, problem *proto.Problem) {
	bad := func(status int, code, detail string) (string, *proto.Problem) {
		return "", &proto.Problem{Status: status, Code: code, Detail: detail}
	}
	switch {
	case !r.ProtoAtLeast(1, 1):
		return bad(http.StatusUpgradeRequired, proto.ProblemUpgradeRequired,
			"This is a WebSocket endpoint and the request came as "+r.Proto+
				": something between the client and this node speaks HTTP/1.0. Let it use HTTP/1.1 and pass the Upgrade and Connection headers.")
	case r.Method != http.MethodGet:
		return bad(http.StatusMethodNotAllowed, proto.ProblemMethodNotAllowed, "Attach with GET.")
	case !headerHas(r.Header, "Connection", "upgrade") || !headerHas(r.Header, "Upgrade", "websocket"):
		return bad(http.StatusUpgradeRequired, proto.ProblemUpgradeRequired,
			"This is a WebSocket endpoint: the request needs the headers «Connection: Upgrade» and «Upgrade: websocket». "+
				"If the client sent them, a proxy between it and this node removed them.")
	case r.Header.Get("Sec-WebSocket-Version") != "13" || r.Header.Get("Sec-WebSocket-Key") == "":
		return bad(http.StatusBadRequest, proto.ProblemInvalidRequest, "The handshake needs Sec-WebSocket-Version 13 and a Sec-WebSocket-Key.")
	case query.Has("token") || query.Has("access_token"):
		return bad(http.StatusBadRequest, proto.ProblemInvalidRequest,
			"A token in the URL is refused, because URLs are logged. Send it as «Authorization: Bearer …» or as the subprotocol «usher.token.…».")
	case !n.originAllowed(r.Header.Get("Origin")):
		return bad(http.StatusForbidden, proto.ProblemForbidden, "Pages of this origin may not attach here.")
	case !n.hostAllowed(r.Host):
		return bad(http.StatusForbidden, proto.ProblemForbidden, "This node has another name than that of the Host header.")
	}
	protocols := tokens(r.Header, "Sec-WebSocket-Protocol")
	if !slices.Contains(protocols, proto.Subprotocol) {
		return bad(http.StatusBadRequest, proto.ProblemInvalidRequest, "Offer the subprotocol "+proto.Subprotocol+".")
	}
	token, detail := handshakeToken(r.Header, protocols)
	if detail != "" {
		return bad(http.StatusUnauthorized, proto.ProblemInvalidToken, detail)
	}
	return token, nil
}

func (n *Node) originAllowed(origin string) bool {
	return origin == "" || len(n.cfg.Origins) == 0 || slices.Contains(n.cfg.Origins, origin)
}

func (n *Node) hostAllowed(host string) bool {
	if len(n.cfg.Hosts) == 0 {
		return true
	}
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	return slices.ContainsFunc(n.cfg.Hosts, func(h string) bool { return strings.EqualFold(h, host) || strings.EqualFold(h, name) })
}

// handshakeToken finds the one token of a handshake, or says what is wrong.
func handshakeToken(h http.Header, protocols []string) (token, detail string) {
	var found []string
	for _, v := range h.Values("Authorization") {
		scheme, token, _ := strings.Cut(v, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return "", "The Authorization header must be «Bearer» and the token from login."
		}
		found = append(found, strings.TrimSpace(token))
	}
	for _, p := range protocols {
		if token, ok := strings.CutPrefix(p, proto.TokenSubprotocolPrefix); ok {
			found = append(found, token)
		}
	}
	switch {
	case len(found) == 0:
		return "", "Send the token from login as «Authorization: Bearer …» or as the subprotocol «usher.token.…»."
	case len(found) > 1:
		return "", "Send the token once."
	case len(found[0]) > proto.MaxTokenBytes:
		return "", fmt.Sprintf("The token is longer than %d bytes.", proto.MaxTokenBytes)
	}
	return found[0], ""
}

// handshakeProof returns the number of the handshake's proof of possession, 0 when
// the token is bound to no key.
func handshakeProof(h http.Header, raw string, c proto.Claims) (uint64, error) {
	if c.Confirm.Thumbprint == "" {
		return 0, nil
	}
	found := h.Values(proto.HeaderProof)
	for _, p := range tokens(h, "Sec-WebSocket-Protocol") {
		if proof, ok := strings.CutPrefix(p, proto.ProofSubprotocolPrefix); ok {
			found = append(found, proof)
		}
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("%w: %d of them, not one", token.ErrProof, len(found))
	}
	return token.VerifyProof(found[0], proto.ProofAttach, raw, c.Confirm.Thumbprint)
}

// want is what a client asks for when it attaches.
type want struct {
	claims   proto.Claims
	print    token.Fingerprint // of the token
	proof    uint64            // number of its proof; 0 when its token is bound to no key
	stream   string            // "" for a new one
	received uint64
	client   string  // "" when it does not say
	attempt  *uint64 // nil when it does not say
	fresh    string  // name of the stream that begins if that one does not continue
	reset    string  // why a stream that this node does not have cannot continue
	word     string  // why the client cannot be served, if it is not the code's word
}

func parseWant(q url.Values) (want, error) {
	w := want{stream: q.Get(proto.QueryStream), client: q.Get(proto.QueryClient)}
	var err error
	if v := q.Get(proto.QueryReceived); v != "" || w.stream != "" {
		if w.received, err = parseCount(v); err != nil {
			return w, fmt.Errorf("received: %w", err)
		}
	}
	if v := q.Get(proto.QueryAttempt); v != "" {
		n, err := parseCount(v)
		if err != nil {
			return w, fmt.Errorf("attempt: %w", err)
		}
		w.attempt = &n
	}
	if len(w.stream) > proto.MaxNameBytes || len(w.client) > proto.MaxNameBytes {
		return w, errors.New("stream or client: too long")
	}
	return w, nil
}

func parseCount(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err == nil && n > proto.MaxCount {
		err = strconv.ErrRange
	}
	return n, err
}

func (n *Node) refuseHTTP(w http.ResponseWriter, p *proto.Problem) {
	n.metrics.refused.WithLabelValues(p.Code).Inc()
	w.Header().Set(proto.HeaderNode, n.cfg.ID)
	if p.Status == http.StatusUpgradeRequired {
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade")
	}
	proto.WriteProblem(w, p)
}

func headerHas(h http.Header, name, value string) bool {
	return slices.ContainsFunc(tokens(h, name), func(t string) bool { return strings.EqualFold(t, value) })
}

// tokens returns the comma-separated values of a header.
func tokens(h http.Header, name string) []string {
	var list []string
	for _, v := range h.Values(name) {
		for t := range strings.SplitSeq(v, ",") {
			list = append(list, strings.TrimSpace(t))
		}
	}
	return list
}
