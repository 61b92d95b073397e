package auth

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/usher-broker/usher/broker"
	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/proto"
)

// brokerProblem returns the problem that answers a request after an error of the
// broker, and logs the error. what names the operation; attrs are added to the log line.
func (s *Server) brokerProblem(what string, err error, attrs ...any) *proto.Problem {
	log := s.log.With(attrs...)
	switch {
	case errors.Is(err, broker.ErrInvalid):
		return httpapi.Invalid("The request is wrong: " + strings.TrimPrefix(err.Error(), broker.ErrInvalid.Error()+": ") + ".")
	case errors.Is(err, placement.ErrNoCapacity):
		log.Warn(what+" refused", "error", err)
		return httpapi.NoCapacity()
	case errors.Is(err, placement.ErrNoNodes):
		log.Warn(what+" refused", "error", err)
		return httpapi.NoNodes()
	case errors.Is(err, session.ErrConnected):
		log.Info(what+" refused", "error", err)
		return &proto.Problem{
			Status: http.StatusConflict, Code: proto.ProblemAlreadyConnected,
			Detail: "This user is connected already. Log out there first.",
		}
	case errors.Is(err, session.ErrEnded), errors.Is(err, session.ErrNotFound):
		log.Info(what+" refused", "error", err)
		return &proto.Problem{
			Status: http.StatusGone, Code: proto.ProblemSessionEnded,
			Detail: "This session is over. Log in again for a new one.",
		}
	case errors.Is(err, session.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		log.Warn(what+" refused", "error", err)
		return httpapi.StoreUnavailable("The session store cannot be used at this moment. Try again.")
	}
	log.Error(what+" failed", "error", err)
	return httpapi.Internal()
}

// ceilSeconds rounds up, so that a client that waits for so long does not come back too
// early.
func ceilSeconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }
