package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/usher-broker/usher/proto"
)

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
