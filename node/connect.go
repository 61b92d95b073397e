package node

import (
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
	"github.com/usher-broker/usher/node/internal/wire"
	"github.com/usher-broker/usher/proto"
)

// connect handles the handshake of a client. It answers an invalid request, or one
// without an authentic token, with an HTTP status. A client with an authentic token
// that cannot be served now is upgraded and closed with a code that says what to do.
func (n *Node) connect(w http.ResponseWriter, r *http.Request) {
	if !n.enter() {
		n.refuseHTTP(w, &proto.Problem{
			Status: http.StatusServiceUnavailable, Code: proto.ProblemNoCapacity, RetryAfter: 1,
			Detail: "This node is shutting down. Ask auth for another node.",
		})
		return
	}
	defer n.wg.Done()
	query := r.URL.Query()
	raw, problem := n.checkHandshake(r, query)
	if problem != nil {
		if r.ContentLength != 0 { // or net/http waits for the body before it answers
			w.Header().Set("Connection", "close")
		}
		n.refuseHTTP(w, problem)
		return
	}
	who, ok := n.authenticate(w, r, raw)
	if !ok {
		return
	}

	// The token is authentic from here on. A browser can read a close code only, so
	// every further error is reported after the upgrade.
	req, err := parseAttachRequest(query, who)
	var got acquired
	switch {
	case err != nil:
	case who.expired:
		err = closeWith(proto.CloseTokenExpired)
	default:
		got, err = n.acquire(r.Context(), req)
	}
	ws, upgradeErr := n.wire.Upgrade(w, r, proto.Subprotocol)
	if upgradeErr != nil {
		n.refused(req, "upgrade", upgradeErr)
		return
	}
	c := &conn{ws: ws}
	if err == nil {
		err = c.attach(got, req)
	}
	if err != nil {
		n.wg.Go(func() { n.refuse(c, req, err) })
		return
	}
	c.serve()
}

// identity is what the token and the proof of a handshake say.
type identity struct {
	claims      proto.Claims
	fingerprint token.Fingerprint // of the token
	expired     bool              // the token is authentic, and too old
	proof       uint64            // number of its proof; 0 if its token is not bound to a key
}

// authenticate verifies the token and the proof of a handshake. If one of them is not
// accepted, it answers the request and returns false.
func (n *Node) authenticate(w http.ResponseWriter, r *http.Request, raw string) (who identity, ok bool) {
	claims, fingerprint, err := n.verify(r.Context(), raw)
	expired := errors.Is(err, token.ErrExpired)
	if err != nil && !expired {
		n.refuseToken(w, err)
		return identity{}, false
	}
	proof, err := handshakeProof(r.Header, raw, claims)
	if err != nil {
		n.log.Info("proof refused", "session", claims.Session, "user", claims.User, "error", err)
		n.refuseHTTP(w, &proto.Problem{
			Status: http.StatusUnauthorized, Code: proto.ProblemInvalidProof,
			Detail: "The token is bound to a key. Send a proof of possession of that key, made for this token and for attaching.",
		})
		return identity{}, false
	}
	return identity{claims, fingerprint, expired, proof}, true
}

// verify verifies a token. It does not check the signature of the token with which
// the session last attached: after a break a client comes back with the same token.
// The fingerprint is zero if the Verifier has no VerifyUnless.
func (n *Node) verify(ctx context.Context, raw string) (claims proto.Claims, fingerprint token.Fingerprint, err error) {
	v, ok := n.cfg.Verifier.(interface {
		VerifyUnless(context.Context, string, func(proto.Claims, token.Fingerprint) bool) (proto.Claims, error)
	})
	if !ok {
		claims, err = n.cfg.Verifier.Verify(ctx, raw)
		return claims, fingerprint, err
	}
	claims, err = v.VerifyUnless(ctx, raw, func(c proto.Claims, p token.Fingerprint) bool {
		fingerprint = p
		s := n.session(c.Session)
		if s == nil {
			return false
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.token == p && s.phase != ended
	})
	return claims, fingerprint, err
}

// refuseToken answers a request whose token is not accepted.
func (n *Node) refuseToken(w http.ResponseWriter, err error) {
	if errors.Is(err, token.ErrUnavailable) {
		n.log.Warn("token keys are not available", "error", err)
		n.refuseHTTP(w, &proto.Problem{
			Status: http.StatusServiceUnavailable, Code: proto.ProblemInternal, RetryAfter: 1 + rand.IntN(5),
			Detail: "This node does not have the keys yet that verify tokens. Try again later.",
		})
		return
	}
	w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	n.refuseHTTP(w, &proto.Problem{
		Status: http.StatusUnauthorized, Code: proto.ProblemInvalidToken,
		Detail: "The token is not valid. Log in again.",
	})
}

// refuse closes a connection that carries no session, as err says.
func (n *Node) refuse(c *conn, req attachRequest, err error) {
	how := closeOf(err)
	n.refused(req, how.code.String(), nil)
	c.close(how.code, how.text())
}

func (n *Node) refused(req attachRequest, why string, err error) {
	n.metrics.refused.WithLabelValues(why).Inc()
	n.log.Info("refused", "session", req.claims.Session, "user", req.claims.User, "reason", why, "error", err)
}

// checkHandshake returns the token of a valid handshake, or the problem to answer
// with.
func (n *Node) checkHandshake(r *http.Request, query url.Values) (token string, problem *proto.Problem) {
	bad := func(status int, code, detail string) (string, *proto.Problem) {
		return "", &proto.Problem{Status: status, Code: code, Detail: detail}
	}
	wrong := wire.CheckRequest(r)
	switch {
	case !r.ProtoAtLeast(1, 1):
		return bad(http.StatusUpgradeRequired, proto.ProblemUpgradeRequired,
			"This is a WebSocket endpoint, and the request arrived as "+r.Proto+
				". A proxy between the client and this node speaks HTTP/1.0. Make it use HTTP/1.1 and pass the Upgrade and Connection headers.")
	case r.Method != http.MethodGet:
		return bad(http.StatusMethodNotAllowed, proto.ProblemMethodNotAllowed, "Use the method GET to attach.")
	case !headerHas(r.Header, "Connection", "upgrade") || !headerHas(r.Header, "Upgrade", "websocket"):
		return bad(http.StatusUpgradeRequired, proto.ProblemUpgradeRequired,
			"This is a WebSocket endpoint. The request needs the headers Connection: Upgrade and Upgrade: websocket. "+
				"If the client sent them, a proxy between the client and this node removed them.")
	case wrong != nil:
		return bad(http.StatusBadRequest, proto.ProblemInvalidRequest,
			"The handshake needs one Sec-WebSocket-Version: 13, one valid Sec-WebSocket-Key and no body: "+wrong.Error()+".")
	case query.Has("token") || query.Has("access_token"):
		return bad(http.StatusBadRequest, proto.ProblemInvalidRequest,
			"A token in the URL is refused, because URLs are logged. "+sendToken)
	case !n.originsAllowed(r.Header.Values("Origin")):
		return bad(http.StatusForbidden, proto.ProblemForbidden, "Web pages of this origin may not attach to this node.")
	case !n.hostAllowed(r.Host):
		return bad(http.StatusForbidden, proto.ProblemForbidden, "The Host header does not name this node.")
	}
	protocols := tokens(r.Header, "Sec-WebSocket-Protocol")
	if !slices.Contains(protocols, proto.Subprotocol) {
		return bad(http.StatusBadRequest, proto.ProblemInvalidRequest, "Offer the subprotocol "+proto.Subprotocol+" in Sec-WebSocket-Protocol.")
	}
	token, detail := handshakeToken(r.Header, protocols)
	if detail != "" {
		return bad(http.StatusUnauthorized, proto.ProblemInvalidToken, detail)
	}
	return token, nil
}

// originsAllowed reports whether a handshake with the Origin headers may attach. Without
// a page there is none; a browser sends one.
func (n *Node) originsAllowed(origins []string) bool {
	switch {
	case len(origins) == 0, len(n.cfg.Origins) == 0:
		return true
	case len(origins) > 1:
		return false
	}
	return origins[0] == "" || slices.Contains(n.cfg.Origins, origins[0])
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

// sendToken says how to send a token.
const sendToken = "Send the token from login as the header Authorization: Bearer TOKEN or as the subprotocol usher.token.TOKEN."

// handshakeToken returns the only token of a handshake, or says in detail what is
// wrong.
func handshakeToken(h http.Header, protocols []string) (token, detail string) {
	var found []string
	for _, v := range h.Values("Authorization") {
		scheme, token, _ := strings.Cut(v, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return "", "The Authorization header must be Bearer and the token from login."
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
		return "", sendToken
	case len(found) > 1:
		return "", fmt.Sprintf("The handshake has %d tokens. Send one.", len(found))
	case len(found[0]) > proto.MaxTokenBytes:
		return "", fmt.Sprintf("The token is longer than %d bytes.", proto.MaxTokenBytes)
	}
	return found[0], ""
}

// handshakeProof returns the number of the proof of possession in the handshake. It
// returns 0 if the token is not bound to a key.
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
		return 0, fmt.Errorf("%w: the handshake has %d proofs, not one", token.ErrProof, len(found))
	}
	return token.VerifyProof(found[0], proto.ProofAttach, raw, c.Confirm.Thumbprint)
}

// attachRequest is what a client asks for when it attaches.
type attachRequest struct {
	identity
	stream   string // the stream to resume; "" for a new one
	received uint64
	client   string  // "" if the client does not name itself
	attempt  *uint64 // nil if the client does not count attempts
}

// parseAttachRequest reads the query of a handshake. Its error closes the client with
// proto.CloseProtocolError.
func parseAttachRequest(q url.Values, who identity) (attachRequest, error) {
	w := attachRequest{identity: who, stream: q.Get(proto.QueryStream), client: q.Get(proto.QueryClient)}
	var err error
	if v := q.Get(proto.QueryReceived); v != "" || w.stream != "" {
		if w.received, err = parseCount(v); err != nil {
			return w, closeWith(proto.CloseProtocolError)
		}
	}
	if v := q.Get(proto.QueryAttempt); v != "" {
		n, err := parseCount(v)
		if err != nil {
			return w, closeWith(proto.CloseProtocolError)
		}
		w.attempt = &n
	}
	if len(w.stream) > proto.MaxNameBytes || len(w.client) > proto.MaxNameBytes {
		return w, closeWith(proto.CloseProtocolError)
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
