// Package httpapi holds the code that the HTTP APIs of Usher share: the public
// API of auth and the private API of the broker. It reads JSON bodies and builds
// the problems of error answers.
package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"time"

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

// NoNodes is the problem if there is no node that the session may use: none is ready, or
// none is in the pool or the regions of the request.
func NoNodes() *proto.Problem {
	p := NoCapacity()
	p.Detail = "No node of the requested pool and regions is ready at this moment. Try again."
	return p
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

// ReadBody reads a request body of at most proto.MaxBodyBytes. It checks that the
// headers allow JSON, but does not parse the body. timeout is the read timeout of
// the server; ReadBody only names it in the problem.
func ReadBody(w http.ResponseWriter, r *http.Request, timeout time.Duration) ([]byte, *proto.Problem) {
	if problem := checkContentType(r.Header); problem != nil {
		return nil, problem
	}
	if r.ContentLength > proto.MaxBodyBytes {
		return nil, TooLarge()
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, proto.MaxBodyBytes))
	if err != nil {
		return nil, readProblem(err, timeout)
	}
	return b, nil
}

func readProblem(err error, timeout time.Duration) *proto.Problem {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return TooLarge()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &proto.Problem{
			Status: http.StatusRequestTimeout, Code: proto.ProblemInvalidRequest,
			Detail: fmt.Sprintf("The body did not arrive within %s.", timeout),
		}
	}
	return Invalid("The body was cut short.")
}

// checkContentType accepts JSON, a missing Content-Type, and the form type, which
// curl and others send by default. The body is parsed as JSON in any case.
func checkContentType(h http.Header) *proto.Problem {
	if e := h.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return Unsupported("Send the body without Content-Encoding.")
	}
	value := h.Get("Content-Type")
	if value == "" {
		return nil
	}
	media, params, err := mime.ParseMediaType(value)
	if err != nil || media != "application/json" && media != "application/x-www-form-urlencoded" {
		return Unsupported("Send the body as application/json.")
	}
	if c := params["charset"]; c != "" && !strings.EqualFold(c, "utf-8") {
		return Unsupported("Send the body in UTF-8.")
	}
	return nil
}

// WriteJSON answers with status 200 and v as JSON. It forbids caches to store it,
// because it may hold a token.
func WriteJSON(w http.ResponseWriter, v any) { WriteJSONStatus(w, http.StatusOK, v) }

// WriteJSONStatus is WriteJSON with another status.
func WriteJSONStatus(w http.ResponseWriter, status int, v any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // an error means that the caller is gone
}

// Recover returns a handler that calls next. If next panics, it logs the panic
// and answers with Internal through refuse.
func Recover(log *slog.Logger, refuse func(http.ResponseWriter, *proto.Problem), next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if v == http.ErrAbortHandler { // a handler aborts the connection with it
				panic(v)
			}
			log.Error("panic", "path", r.URL.Path, "panic", v, "stack", string(debug.Stack()))
			refuse(w, Internal())
		}()
		next.ServeHTTP(w, r)
	})
}

// ClientNetwork returns the network that counts as one client, which is what a
// provider assigns to one customer: an IPv4 address, or an IPv6 /64. It returns
// the zero prefix if addr is not valid.
func ClientNetwork(addr netip.Addr) netip.Prefix {
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.Prefix(bits) // bits fits the address
	return p
}
