package auth

import (
	"context"
	"errors"
	"net/http"

	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/strictjson"
)

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

// prove checks that the client has the key to which the token is bound, if it is bound to
// one. It does not report a session that has ended or does not exist: the caller's request
// to the broker does.
func (s *Server) prove(w http.ResponseWriter, r *http.Request, c proto.Claims, raw, act string) *proto.Problem {
	if c.Confirm.Thumbprint == "" {
		return nil
	}
	proofs := r.Header.Values(proto.HeaderProof)
	err := error(token.ErrProof)
	var n uint64
	if len(proofs) == 1 {
		n, err = token.VerifyProof(proofs[0], act, raw, c.Confirm.Thumbprint)
	}
	if err != nil {
		s.log.Info("proof refused", "session", c.Session, "user", c.User, "client", clientAddr(r, s.cfg.TrustedProxies), "error", err)
		w.Header().Set("WWW-Authenticate", `Bearer realm="usher", error="invalid_proof"`)
		return &proto.Problem{
			Status: http.StatusUnauthorized, Code: proto.ProblemInvalidProof,
			Detail: "The token is bound to a key: send a proof of possession in one header " + proto.HeaderProof + ", made for this token and for \"" + act + "\".",
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.BrokerTimeout)
	defer cancel()
	switch err := s.cfg.Broker.Prove(ctx, c.Session, n); {
	case err == nil, errors.Is(err, session.ErrNotFound), errors.Is(err, session.ErrEnded):
		return nil
	case errors.Is(err, session.ErrReplayed):
		return &proto.Problem{
			Status: http.StatusConflict, Code: proto.ProblemStaleProof,
			Detail: "This proof, or a later one, was used before. Make a new one.",
		}
	case errors.Is(err, session.ErrUnavailable):
		return httpapi.StoreUnavailable("The proof cannot be checked at this moment. Try again.")
	default:
		return s.brokerProblem(act, err, "user", c.User, "session", c.Session)
	}
}
