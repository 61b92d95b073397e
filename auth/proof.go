package auth

import (
	"context"
	"errors"
	"net/http"

	"github.com/usher-broker/usher/auth/internal/strictjson"
	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/token"
	"github.com/usher-broker/usher/proto"
)

// readKey returns the key that a login wants its tokens bound to, none if it does
// not name one.
func readKey(fields strictjson.Object) (proto.Confirmation, error) {
	cnf, err := fields.Object("cnf")
	if err != nil || cnf == nil {
		return proto.Confirmation{}, err
	}
	thumbprint, err := token.Thumbprint(cnf["jwk"])
	if err != nil {
		return proto.Confirmation{}, errors.New("\"cnf\" has no \"jwk\" that proofs can be made with: " + err.Error())
	}
	return proto.Confirmation{Thumbprint: thumbprint}, nil
}

// prove makes sure that whoever shows the token of the claims has the key that it
// is bound to, if it is. What the session itself has against the request is found
// out by whoever carries it out.
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
			Detail: "The token is bound to a key: send a proof that you have it in one header «" + proto.HeaderProof + "», made for this token and for «" + act + "».",
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
