package auth

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/rs/cors"

	"github.com/usher-broker/usher/proto"
)

// newCORS returns the rules for web pages of the origins, which are compared exactly;
// "*" stands for any origin. Cookies are never allowed.
func newCORS(origins []string) (*cors.Cors, error) {
	o := cors.Options{
		AllowedHeaders: []string{"Authorization", "Content-Type", proto.HeaderProof},
		ExposedHeaders: []string{"Retry-After", "WWW-Authenticate"},
		MaxAge:         7200,
	}
	for _, origin := range origins {
		if origin == "*" {
			return cors.New(o), nil
		}
		u, err := url.Parse(origin)
		if err != nil || u.Scheme == "" || u.Host == "" || origin != u.Scheme+"://"+u.Host {
			return nil, fmt.Errorf("auth: origin %q is not of the form https://game.example.com or *", origin)
		}
	}
	if len(origins) > 0 { // AllowedOrigins would read a * inside an origin as a pattern
		o.AllowOriginFunc = func(origin string) bool { return slices.Contains(origins, origin) }
	}
	return cors.New(o), nil
}

// allowOrigin lets web pages of the allowed origins call and answers their preflights.
// It refuses requests from pages of other origins: CORS alone would carry them out and
// only hide the answer from the page. Clients that are not web pages send no Origin and
// are not affected. The public keys are available to all.
func (s *Server) allowOrigin(next http.Handler) http.Handler {
	allowed := s.cors.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Origin") != "" && r.URL.Path != "/.well-known/jwks.json" && !s.cors.OriginAllowed(r) {
			w.Header().Add("Vary", "Origin")
			s.refuse(w, &proto.Problem{
				Status: http.StatusForbidden, Code: proto.ProblemForbidden,
				Detail: "Web pages of this origin may not call here.",
			})
			return
		}
		allowed.ServeHTTP(w, r)
	})
}
