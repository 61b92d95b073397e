package auth

import (
	"fmt"
	"net/http"
	"strings"
	"unicode"

	"github.com/usher-broker/usher/auth/internal/strictjson"
	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/proto"
)

// readBody reads the request's body, one JSON object of at most
// proto.MaxBodyBytes. No body at all counts as {}. Members that nobody asks for
// are passed over: a newer client may send them.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) (strictjson.Object, *proto.Problem) {
	b, problem := httpapi.ReadBody(w, r, s.cfg.BodyTimeout)
	if problem != nil {
		return nil, problem
	}
	if len(b) == 0 {
		return nil, nil
	}
	fields, err := strictjson.Read(b)
	if err != nil {
		return nil, httpapi.Invalid("The body is wrong: " + err.Error() + ".")
	}
	return fields, nil
}

func readPlacement(fields strictjson.Object) (p proto.Placement, err error) {
	hints, err := fields.Object("placement")
	if err != nil {
		return p, err
	}
	for field, dst := range map[string]*string{"region": &p.Region, "pool": &p.Pool, "group": &p.Group} {
		if *dst, err = name(hints, field); err != nil {
			return proto.Placement{}, fmt.Errorf("\"placement\": %w", err)
		}
	}
	if p.Fallback, err = hints.Texts("fallback", proto.MaxFallback); err != nil {
		return proto.Placement{}, fmt.Errorf("\"placement\": %w", err)
	}
	for _, region := range p.Fallback {
		if err := checkName("fallback", region); err != nil {
			return proto.Placement{}, fmt.Errorf("\"placement\": %w", err)
		}
	}
	if p.Strict, err = hints.Flag("strict"); err != nil {
		return proto.Placement{}, fmt.Errorf("\"placement\": %w", err)
	}
	return p, nil
}

// name returns the optional name of a thing of the cluster.
func name(fields strictjson.Object, field string) (string, error) {
	s, err := fields.Text(field)
	if err != nil {
		return "", err
	}
	return s, checkName(field, s)
}

func checkName(field, s string) error {
	switch {
	case len(s) > proto.MaxNameBytes:
		return fmt.Errorf("%q is longer than %d bytes", field, proto.MaxNameBytes)
	case strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("%q contains a control character", field)
	}
	return nil
}
