// Package door is what the HTTP doors of Usher do alike: the public one of
// auth and the private one of the broker. They read JSON bodies with the same
// care and answer what is wrong in the same words.
package httpapi

import (
	"fmt"
	"math/rand/v2"
	"net/http"

	"github.com/usher-broker/usher/proto"
)

// Invalid is the problem of a request that cannot be.
func Invalid(detail string) *proto.Problem {
	return &proto.Problem{Status: http.StatusBadRequest, Code: proto.ProblemInvalidRequest, Detail: detail}
}

// Unsupported is the problem of a body that is declared to be something else
// than JSON.
func Unsupported(detail string) *proto.Problem {
	return &proto.Problem{Status: http.StatusUnsupportedMediaType, Code: proto.ProblemInvalidRequest, Detail: detail}
}

// TooLarge is the problem of a body over proto.MaxBodyBytes.
func TooLarge() *proto.Problem {
	return &proto.Problem{
		Status: http.StatusRequestEntityTooLarge, Code: proto.ProblemBodyTooLarge,
		Detail: fmt.Sprintf("The body may have %d bytes.", proto.MaxBodyBytes),
	}
}

// Unauthorized is the problem of a request without a credential that is good
// here.
func Unauthorized(detail string) *proto.Problem {
	return &proto.Problem{Status: http.StatusUnauthorized, Code: proto.ProblemInvalidToken, Detail: detail}
}

// NoCapacity is the problem when no node can take a session.
func NoCapacity() *proto.Problem {
	return &proto.Problem{
		Status: http.StatusServiceUnavailable, Code: proto.ProblemNoCapacity, RetryAfter: RetryAfter(),
		Detail: "No node can take the session at this moment. Try again.",
	}
}

// StoreUnavailable is the problem when something that is needed to answer,
// mostly the session store, does not answer itself.
func StoreUnavailable(detail string) *proto.Problem {
	return &proto.Problem{
		Status: http.StatusServiceUnavailable, Code: proto.ProblemStoreUnavailable, RetryAfter: RetryAfter(),
		Detail: detail,
	}
}

// Internal is the problem when it is not the request's fault.
func Internal() *proto.Problem {
	return &proto.Problem{
		Status: http.StatusInternalServerError, Code: proto.ProblemInternal,
		Detail: "Something went wrong here, not with the request. Its log says what.",
	}
}

// RetryAfter returns a number of seconds that spreads those who come back, so
// that they do not all do so at once.
func RetryAfter() int { return 1 + rand.IntN(5) }
