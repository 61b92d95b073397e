package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"

	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/proto"
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
	if !utf8.Valid(b) {
		return httpapi.Invalid("The body is not valid UTF-8.")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return httpapi.Invalid("The body is wrong: " + plain(err) + ".")
	}
	if _, err := d.Token(); err != io.EOF {
		return httpapi.Invalid("The body is wrong: there is something after the JSON object.")
	}
	return nil
}

// plain says what is wrong with a body in words that are not Go's, and not
// many of the body's own.
func plain(err error) string {
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Sprintf("not JSON, from byte %d on", e.Offset)
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if e.Field == "" {
			return "not a JSON object"
		}
		return fmt.Sprintf("%q cannot be a JSON %s", e.Field, e.Value)
	}
	const most = 100
	if text, unknown := strings.CutPrefix(err.Error(), "json: "); unknown && len(text) <= most {
		return text // a field that there is not
	} else if unknown {
		return "there is a field with a very long name"
	}
	return "not JSON; is it cut short?"
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
