package usher

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/usher-broker/usher/proto"
)

// post sends a request to auth and returns the body of its answer. The error
// is a *proto.Problem for every answer but 2xx.
func (s *Session) post(ctx context.Context, path, token string, body any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.RequestTimeout)
	defer cancel()
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.cfg.Auth+path, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	req.Header = s.header(token)
	req.Header.Set("Content-Type", "application/json")
	if act := proofFor[path]; act != "" {
		if err := s.addProof(req.Header, act, token); err != nil {
			return nil, err
		}
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, proto.MaxBodyBytes+1))
	switch {
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return nil, problem(resp, answer)
	case err != nil:
		return nil, err
	case len(answer) > proto.MaxBodyBytes:
		return nil, errors.New("the answer is too large")
	}
	return answer, nil
}

// proofFor names the requests that take a proof of possession.
var proofFor = map[string]string{"/v1/reconnect": proto.ProofReconnect, "/v1/logout": proto.ProofLogout}

// addProof adds what goes with the token, if that is bound to a key.
func (s *Session) addProof(h http.Header, act, token string) error {
	h.Del(proto.HeaderProof)
	if s.prover == nil {
		return nil
	}
	proof, err := s.prover.prove(act, token)
	h.Set(proto.HeaderProof, proof)
	return err
}

// header returns the headers of a request: those of the configuration, and the
// token.
func (s *Session) header(token string) http.Header {
	h := http.Header{}
	for name, values := range s.cfg.Header {
		h[http.CanonicalHeaderKey(name)] = slices.Clone(values)
	}
	h.Del("Authorization")
	if token != "" {
		h.Set("Authorization", "Bearer "+token)
	}
	return h
}

// problem makes an error of an answer that is not a success, whether it has
// the body that the interface promises or comes from something in between.
func problem(resp *http.Response, body []byte) *proto.Problem {
	p := &proto.Problem{}
	if err := json.Unmarshal(body, p); err != nil || p.Code == "" {
		p = &proto.Problem{Code: "http_error", Detail: "the answer was not one of Usher's"}
	}
	p.Status = resp.StatusCode
	if p.Title == "" {
		p.Title = http.StatusText(p.Status)
	}
	p.RetryAfter = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	return p
}

// retryAfter reads the header, which is a number of seconds or a date.
func retryAfter(v string, now time.Time) int {
	if n, err := strconv.ParseUint(v, 10, 32); err == nil {
		return int(min(n, uint64(maxHint/time.Second)))
	}
	t, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	wait := min(max(t.Sub(now), 0), maxHint)
	return int((wait + time.Second - 1) / time.Second)
}

// assignment reads an answer of auth that says where to go.
func assignment(body []byte) (proto.Assignment, error) {
	var a proto.Assignment
	if err := json.Unmarshal(body, &a); err != nil {
		return a, fmt.Errorf("usher: the answer of auth: %w", err)
	}
	return a, checkAssignment(a)
}
