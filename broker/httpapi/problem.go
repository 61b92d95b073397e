// Package httpapi holds the code that the HTTP APIs of Usher share: the public
// API of auth and the private API of the broker. It reads JSON bodies and builds
// the problems of error answers.
package httpapi

import (
	"fmt"
	"math/rand/v2"
	"net/http"

	"github.com/usher-broker/usher/proto"
)

// Invalid is the problem of an invalid request.
func Invalid(detail string) *proto.Problem {
	return &proto.Problem{Status: http.StatusBadRequest, Code: proto.ProblemInvalidRequest, Detail: detail}
}

// Unsupported is the problem of a body that is declared as something other than
// JSON.
func Unsupported(detail string) *proto.Problem {
	return &proto.Problem{Status: http.StatusUnsupportedMediaType, Code: proto.ProblemInvalidRequest, Detail: detail}
}

// TooLarge is the problem of a body of more than proto.MaxBodyBytes.
func TooLarge() *proto.Problem {
	return &proto.Problem{
		Status: http.StatusRequestEntityTooLarge, Code: proto.ProblemBodyTooLarge,
		Detail: fmt.Sprintf("The body may have at most %d bytes.", proto.MaxBodyBytes),
	}
}

// Unauthorized is the problem of a request without a valid credential.
func Unauthorized(detail string) *proto.Problem {
	return &proto.Problem{Status: http.StatusUnauthorized, Code: proto.ProblemInvalidToken, Detail: detail}
}

// NoCapacity is the problem if no node can take a session.
func NoCapacity() *proto.Problem {
	return &proto.Problem{
		Status: http.StatusServiceUnavailable, Code: proto.ProblemNoCapacity, RetryAfter: RetryAfter(),
		Detail: "No node can take the session at this moment. Try again.",
	}
}

// StoreUnavailable is the problem if a service that the answer depends on,
// usually the session store, does not answer.
func StoreUnavailable(detail string) *proto.Problem {
	return &proto.Problem{
		Status: http.StatusServiceUnavailable, Code: proto.ProblemStoreUnavailable, RetryAfter: RetryAfter(),
		Detail: detail,
	}
}

// Internal is the problem of an error that the request did not cause.
func Internal() *proto.Problem {
	return &proto.Problem{
		Status: http.StatusInternalServerError, Code: proto.ProblemInternal,
		Detail: "Internal error; the request is not the cause. The log of this server has the details.",
	}
}

// RetryAfter returns a random number of seconds, 1 to 5, so that clients do not
// all retry at once.
func RetryAfter() int { return 1 + rand.IntN(5) }
