package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/usher-broker/usher/proto"
)

// web is the HTTP client of the tests. It does not keep connections open, because
// the tests count goroutines of both sides.
var web = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
	DisableKeepAlives: true, ExpectContinueTimeout: 10 * time.Second,
}}

// drain reads the rest of the body and closes it.
func drain(resp *http.Response) {
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
}

// answer is the answer of an HTTP API.
type answer struct {
	status  int
	header  http.Header
	body    []byte
	took    time.Duration
	problem proto.Problem    // of an error answer
	at      proto.Assignment // of a login or a reconnect
}

func (a answer) String() string { return fmt.Sprintf("%d in %v: %.300s", a.status, a.took, a.body) }

// retryAfter returns the Retry-After header in seconds, 0 if there is none.
func (a answer) retryAfter() int {
	n, _ := strconv.Atoi(a.header.Get("Retry-After"))
	return n
}

// do sends the request and reads the answer, up to 1 MiB of its body.
func do(req *http.Request) (answer, error) {
	began := time.Now()
	resp, err := web.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, header: resp.Header}
	if a.body, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20)); err != nil {
		return a, err
	}
	a.took = time.Since(began)
	switch resp.Header.Get("Content-Type") {
	case proto.ProblemContentType:
		err = json.Unmarshal(a.body, &a.problem)
	case "application/json":
		err = json.Unmarshal(a.body, &a.at)
	}
	return a, err
}

// post posts the JSON body to the URL, with the bearer token if it is not empty.
func post(t testing.TB, url, token, body string) answer {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	a, err := do(req)
	if err != nil {
		t.Fatalf("POST %s: %v", url, err)
	}
	return a
}

// text returns the body at the path of the ops port.
func (p *process) text(path string) string {
	p.t.Helper()
	resp, err := web.Get(p.ops + path)
	if err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
	return string(b)
}

// metrics returns the metrics of the process, keyed by name and labels as they are
// written in /metrics.
func (p *process) metrics() map[string]float64 {
	p.t.Helper()
	resp, err := web.Get(p.ops + "/metrics")
	if err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
	defer drain(resp)
	list := make(map[string]float64)
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		line := lines.Bytes()
		i := bytes.LastIndexByte(line, ' ')
		if i < 0 || line[0] == '#' {
			continue
		}
		if v, err := strconv.ParseFloat(string(line[i+1:]), 64); err == nil {
			list[string(line[:i])] = v
		}
	}
	return list
}

// get decodes the JSON at the URL into v if the status is 200, and returns the
// status code.
func get(t testing.TB, url string, v any) int {
	t.Helper()
	resp, err := web.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer drain(resp)
	if resp.StatusCode == http.StatusOK {
		if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
			t.Fatalf("GET %s: %v", url, err)
		}
	}
	return resp.StatusCode
}

// request sends a request without a body, and fails the test if the status is 300
// or above.
func request(t testing.TB, method, url string) {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := web.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer drain(resp)
	if resp.StatusCode >= 300 {
		t.Fatalf("%s %s: %s", method, url, resp.Status)
	}
}
