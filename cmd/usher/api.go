package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/usher-broker/usher/proto"
)

// apiFlags say where the private API is, and with what key.
type apiFlags struct {
	API        string `name:"api" help:"Private API of the cluster." default:"http://127.0.0.1:8081" placeholder:"URL"`
	APIKey     string `name:"api-key" help:"Key for it («usher keys api»). Give it by the environment, not on the command line." placeholder:"KEY"`
	APICA      string `name:"api-ca" help:"File of the certificates that vouch for the private API, if the system does not know them." type:"path" placeholder:"FILE"`
	APICert    string `name:"api-cert" help:"File of the certificate to show it (usher broker --tls-client-ca)." type:"path" placeholder:"FILE"`
	APICertKey string `name:"api-cert-key" help:"File of its private key." type:"path" placeholder:"FILE"`
	APIKeyFile string `name:"api-key-file" help:"File with the key, in place of --api-key." type:"path" placeholder:"FILE"`
}

// api is a client of the private API.
type api struct {
	base string
	key  string
	http *http.Client
}

func (f apiFlags) open() (*api, error) {
	u, err := url.Parse(f.API)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, usageError{"--api", fmt.Errorf("%q is not a URL such as http://127.0.0.1:8081", f.API)}
	}
	key := f.APIKey
	if f.APIKeyFile != "" {
		if key != "" {
			return nil, usageError{"--api-key-file", errors.New("and --api-key (or USHER_API_KEY) are both set; one is enough")}
		}
		b, err := os.ReadFile(f.APIKeyFile)
		if err != nil {
			return nil, usageError{"--api-key-file", err}
		}
		key = strings.TrimSpace(string(b))
	}
	transport, err := f.transport()
	if err != nil {
		return nil, err
	}
	return &api{base: strings.TrimSuffix(f.API, "/"), key: key, http: &http.Client{Timeout: 10 * time.Second, Transport: transport}}, nil
}

// transport returns how the API is reached.
func (f apiFlags) transport() (http.RoundTripper, error) {
	if f.APICA+f.APICert+f.APICertKey == "" {
		return nil, nil // the default one
	}
	roots, err := readRoots(f.APICA)
	if err != nil {
		return nil, usageError{"--api-ca", err}
	}
	config := &tls.Config{RootCAs: roots}
	if f.APICert+f.APICertKey != "" {
		c, err := tls.LoadX509KeyPair(f.APICert, f.APICertKey)
		if err != nil {
			return nil, usageError{"--api-cert", fmt.Errorf("and --api-cert-key: %w", err)}
		}
		config.Certificates = []tls.Certificate{c}
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = config
	return t, nil
}

// maxAnswer bounds an answer of the API: 200 nodes are about 60 KiB.
const maxAnswer = 4 << 20

// call asks the API and decodes its answer into out, if that is not nil. A
// problem is returned as a *proto.Problem.
func (a *api) call(ctx context.Context, method, path string, header http.Header, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, body)
	if err != nil {
		return err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if a.key != "" {
		req.Header.Set("Authorization", "Bearer "+a.key)
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return fmt.Errorf("the private API does not answer: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case err != nil:
		return fmt.Errorf("the private API does not answer: %w", err)
	case resp.StatusCode >= 300:
		return problemOf(resp, b)
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("%s does not speak as the private API does: %w", a.base, err)
	}
	return nil
}

// print writes what the API says to the GET, as it came.
func (a *api) print(ctx context.Context, path string, out io.Writer) error {
	var raw json.RawMessage
	if err := a.call(ctx, http.MethodGet, path, nil, nil, &raw); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "%s\n", raw)
	return err
}

func problemOf(resp *http.Response, body []byte) error {
	p := &proto.Problem{Status: resp.StatusCode}
	if json.Unmarshal(body, p) != nil || p.Code == "" {
		return fmt.Errorf("the private API answered %s; is the address right?", resp.Status)
	}
	return apiError{p}
}

// apiError is a problem in the words of its detail.
type apiError struct{ *proto.Problem }

func (e apiError) Error() string { return e.Detail }
func (e apiError) Unwrap() error { return e.Problem }

// isProblem reports whether the error is a problem with the code.
func isProblem(err error, code string) bool {
	p, ok := errors.AsType[apiError](err)
	return ok && p.Code == code
}

// apiNode is what the commands show of a node.
type apiNode struct {
	ID          string       `json:"id"`
	URL         string       `json:"url"`
	Region      string       `json:"region"`
	Pool        string       `json:"pool"`
	State       string       `json:"state"`
	Capacity    int          `json:"capacity"`
	Live        int          `json:"live"`
	Attached    int          `json:"attached"`
	Arrived     uint64       `json:"arrived"`
	Pending     int          `json:"pending"`
	ReportAgeMS int64        `json:"report_age_ms"`
	LoadPenalty int          `json:"load_penalty"`
	Reach       string       `json:"reach"`
	Eligible    bool         `json:"eligible"`
	Why         string       `json:"why"`
	Version     string       `json:"version"`
	Drain       *proto.Drain `json:"drain"`
}

func nodePath(id string) string    { return "/v1/nodes/" + url.PathEscape(id) }
func userPath(name string) string  { return "/v1/users/" + url.PathEscape(name) }
func sessionPath(id string) string { return "/v1/sessions/" + url.PathEscape(id) }
