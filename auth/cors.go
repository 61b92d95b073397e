package auth

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/usher-broker/usher/proto"
)

// origins are the origins of web pages that may call; nil for all.
type origins []string

func parseOrigins(list []string) (origins, error) {
	var allowed origins
	for _, o := range list {
		if o == "*" {
			return nil, nil
		}
		u, err := url.Parse(o)
		if err != nil || u.Scheme == "" || u.Host == "" || o != u.Scheme+"://"+u.Host {
			return nil, fmt.Errorf("auth: origin %q is not of the form https://game.example.com or *", o)
		}
		allowed = append(allowed, o)
	}
	return allowed, nil
}

// allowOrigin lets web pages of the allowed origins call, and refuses those of
// others rather than do what they ask and hide the answer. Callers that are no
// web pages send no Origin and are not concerned. The public keys are for all.
func (s *Server) allowOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		origin := r.Header.Get("Origin")
		switch {
		case s.cors == nil:
			h.Set("Access-Control-Allow-Origin", "*")
		default:
			h.Add("Vary", "Origin")
			if slices.Contains(s.cors, origin) {
				h.Set("Access-Control-Allow-Origin", origin)
			} else if origin != "" && r.URL.Path != "/.well-known/jwks.json" {
				s.refuse(w, &proto.Problem{
					Status: http.StatusForbidden, Code: proto.ProblemForbidden,
					Detail: "Web pages of this origin may not call here.",
				})
				return
			}
		}
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			h.Set("Access-Control-Allow-Methods", "GET, POST")
			h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, "+proto.HeaderProof)
			h.Set("Access-Control-Max-Age", "7200")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		h.Set("Access-Control-Expose-Headers", "Retry-After, WWW-Authenticate")
		next.ServeHTTP(w, r)
	})
}
