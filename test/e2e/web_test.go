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

// web makes the requests of the tests themselves. It keeps no connections:
// what it leaves open would count among the goroutines of both sides.
var web = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
	DisableKeepAlives: true, ExpectContinueTimeout: 10 * time.Second,
}}

func drain(resp *http.Response) {
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
}

// answer is what an HTTP door said.
type answer struct {
	status  int
	header  http.Header
	body    []byte
	took    time.Duration
	problem proto.Problem    // when it is one
	at      proto.Assignment // after a login or a reconnect
}

func (a answer) String() string { return fmt.Sprintf("%d in %v: %.300s", a.status, a.took, a.body) }

// retryAfter returns the Retry-After header in seconds, 0 if there is none.
func (a answer) retryAfter() int {
	n, _ := strconv.Atoi(a.header.Get("Retry-After"))
	return n
}

// do sends the request and reads the whole answer.
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

// post posts the JSON to a door of auth.
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

// text reads what the ops door says at the path.
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

// metrics reads the numbers of the process, by name and labels as they stand
// in the text.
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

// get reads the JSON at the URL, if there is any, and returns the status.
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

// request makes a request without a body that must succeed.
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
