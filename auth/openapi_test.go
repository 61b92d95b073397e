package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
)

// description is ../proto/openapi.yaml.
var description = sync.OnceValues(func() (routers.Router, error) {
	doc, err := openapi3.NewLoader().LoadFromFile("../proto/openapi.yaml")
	if err != nil {
		return nil, err
	}
	doc.Servers = nil // accept any host
	for _, path := range doc.Paths.Map() {
		path.Servers = nil
	}
	return legacy.NewRouter(doc)
})

// conform fails the test if the description does not allow the answer for the request.
func conform(t testing.TB, r *http.Request, a answer) {
	t.Helper()
	if err := conforms(r, a); err != nil {
		t.Errorf("%s %s: %d is not as described: %v", r.Method, r.URL.Path, a.status, err)
	}
}

func conforms(r *http.Request, a answer) error {
	router, err := description()
	if err != nil {
		return err
	}
	plain := &http.Request{Method: r.Method, URL: &url.URL{Path: r.URL.Path}, Header: r.Header}
	route, params, err := router.FindRoute(plain)
	if err != nil || route.Path != r.URL.Path || !slices.Contains(route.Operation.Tags, "auth") {
		if slices.Contains([]int{http.StatusNotFound, http.StatusMethodNotAllowed}, a.status) ||
			r.Method == http.MethodOptions || r.Method == http.MethodHead {
			return nil // paths that do not exist are not described
		}
		return errors.New("no such operation")
	}
	return openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: plain, PathParams: params, Route: route},
		Status:                 a.status,
		Header:                 a.header,
		Body:                   io.NopCloser(strings.NewReader(a.body)),
		Options:                &openapi3filter.Options{IncludeResponseStatus: true},
	})
}

// TestConformFindsDeviations checks that conform can fail.
func TestConformFindsDeviations(t *testing.T) {
	const good = `{"token":"x","token_expires_at":"2026-01-02T03:04:05Z","session":"s","user":"u","node":{"id":"n","url":"ws://h/"}}`
	const gone = `{"type":"urn:usher:problem:session_ended","title":"Gone","status":410,"code":"session_ended"}`
	for name, c := range map[string]struct {
		path, mediaType, cache, body string
		status                       int
		ok                           bool
	}{
		"assignment":       {"/v1/login", "application/json", "no-store", good, 200, true},
		"cacheable":        {"/v1/login", "application/json", "public", good, 200, false},
		"media type":       {"/v1/login", "text/plain", "no-store", good, 200, false},
		"status":           {"/v1/login", "application/json", "no-store", good, 201, false},
		"member too many":  {"/v1/login", "application/json", "no-store", strings.Replace(good, "{", `{"x":1,`, 1), 200, false},
		"member missing":   {"/v1/login", "application/json", "no-store", strings.Replace(good, `"user":"u",`, "", 1), 200, false},
		"url":              {"/v1/login", "application/json", "no-store", strings.Replace(good, "ws://", "http://", 1), 200, false},
		"problem":          {"/v1/reconnect", "application/problem+json", "no-store", gone, 410, true},
		"another code":     {"/v1/reconnect", "application/problem+json", "no-store", strings.ReplaceAll(gone, "session_ended", "session_over"), 410, false},
		"problem as JSON":  {"/v1/reconnect", "application/json", "no-store", gone, 410, false},
		"problem of login": {"/v1/login", "application/problem+json", "no-store", gone, 410, false},
	} {
		a := answer{c.status, http.Header{"Content-Type": {c.mediaType}, "Cache-Control": {c.cache}}, c.body}
		if err := conforms(httptest.NewRequest("POST", c.path, nil), a); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, fmt.Sprintf("%.200v", err))
		}
	}
}
