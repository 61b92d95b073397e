package usher

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/usher-broker/usher/proto"
)

// post sends a request to auth and returns the body of the answer. For every answer
// but 2xx the error is a *proto.Problem.
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
		return nil, fmt.Errorf("the answer is larger than %d bytes", proto.MaxBodyBytes)
	}
	return answer, nil
}

// proofFor maps the paths that require a proof of possession to the act of the proof.
var proofFor = map[string]string{"/v1/reconnect": proto.ProofReconnect, "/v1/logout": proto.ProofLogout}

// addProof adds a proof for the act and the token, if the token is bound to a key.
func (s *Session) addProof(h http.Header, act, token string) error {
	h.Del(proto.HeaderProof)
	if s.prover == nil {
		return nil
	}
	proof, err := s.prover.prove(act, token)
	h.Set(proto.HeaderProof, proof)
	return err
}

// header returns the headers of a request: those of Config.Header, and the token.
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

// problem returns the error for an answer that is not a success. The answer may
// come from a proxy, without a problem body.
func problem(resp *http.Response, body []byte) *proto.Problem {
	p := &proto.Problem{}
	if err := json.Unmarshal(body, p); err != nil || p.Code == "" {
		p = &proto.Problem{Code: "http_error", Detail: "the answer is not a problem document of Usher; it may come from a proxy"}
	}
	p.Status = resp.StatusCode
	if p.Title == "" {
		p.Title = http.StatusText(p.Status)
	}
	p.RetryAfter = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	return p
}

// retryAfter parses the header, which is a number of seconds or a date. It returns
// seconds, at most maxHint.
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

// assignment parses an assignment in an answer of auth, and checks it.
func assignment(body []byte) (proto.Assignment, error) {
	var a proto.Assignment
	if err := json.Unmarshal(body, &a); err != nil {
		return a, fmt.Errorf("usher: parse the answer of auth: %w", err)
	}
	return a, checkAssignment(a)
}
