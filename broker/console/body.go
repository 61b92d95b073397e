package console

import (
	"net/http"
	"net/url"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/strictjson"
)

// readBody decodes the request's body, one JSON value of at most
// proto.MaxBodyBytes, into v. A member that v does not have is an error: it is
// more likely misspelt than from the future.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request, v any) *proto.Problem {
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(s.cfg.BodyTimeout)) // where the connection has one
	b, problem := httpapi.ReadBody(w, r, s.cfg.BodyTimeout)
	if problem != nil {
		// The deadline stays, or the server would wait for the rest of the body
		// before it answers.
		return problem
	}
	_ = rc.SetReadDeadline(time.Time{}) // or it would end the request while it is worked on
	if err := strictjson.Unmarshal(b, v); err != nil {
		return httpapi.Invalid("The body is wrong: " + err.Error() + ".")
	}
	return nil
}

// routed is the path as the router looks at it.
func routed(r *http.Request) string {
	if r.URL.RawPath != "" {
		return r.URL.RawPath
	}
	return r.URL.Path
}

// param returns the decoded part of the path of that name.
func param(r *http.Request, name string) string {
	v := chi.URLParam(r, name)
	if r.URL.RawPath == "" {
		return v
	}
	if decoded, err := url.PathUnescape(v); err == nil {
		return decoded
	}
	return v // cannot be: the server has parsed the whole path
}
