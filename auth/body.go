package auth

import (
	"fmt"
	"net/http"
	"strings"
	"unicode"

	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/proto"
	"github.com/usher-broker/usher/proto/strictjson"
)

// bodyRules are those of the bodies that clients send. A member whose value is null
// counts as absent.
var bodyRules = &strictjson.Rules{MaxBytes: proto.MaxBodyBytes, MaxDepth: 16, NullIsAbsent: true}

// readBody reads the request's body, one JSON object of at most
// proto.MaxBodyBytes. An empty body counts as {}. Unknown members are ignored,
// because a newer client may send them.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) (strictjson.Object, *proto.Problem) {
	b, problem := httpapi.ReadBody(w, r, s.cfg.BodyTimeout)
	if problem != nil {
		return strictjson.Object{}, problem
	}
	if len(b) == 0 {
		b = []byte("{}")
	}
	body, err := bodyRules.Parse(b)
	if err != nil {
		return strictjson.Object{}, invalidBody(err)
	}
	return body, nil
}

func invalidBody(err error) *proto.Problem {
	return httpapi.Invalid("The body is wrong: " + err.Error() + ".")
}

// readPlacement reads the optional member placement.
func readPlacement(body strictjson.Object) proto.Placement {
	o := body.OptionalObject("placement")
	p := proto.Placement{
		Region:   name(o, "region"),
		Pool:     name(o, "pool"),
		Group:    name(o, "group"),
		Fallback: o.OptionalStrings("fallback", proto.MaxFallback),
		Strict:   o.OptionalBool("strict"),
	}
	for i, region := range p.Fallback {
		checkName(o, fmt.Sprintf("fallback[%d]", i), region)
	}
	return p
}

// name returns the optional member that names a part of the cluster.
func name(o strictjson.Object, member string) string {
	s := o.OptionalString(member)
	checkName(o, member, s)
	return s
}

func checkName(o strictjson.Object, member, s string) {
	switch {
	case len(s) > proto.MaxNameBytes:
		o.Fail(member, fmt.Sprintf("%d bytes, expected at most %d", len(s), proto.MaxNameBytes))
	case strings.ContainsFunc(s, unicode.IsControl):
		o.Fail(member, "contains a control character")
	}
}
