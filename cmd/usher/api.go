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
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/usher-broker/usher/broker/process"
	"github.com/usher-broker/usher/proto"
)

// apiFlags are the address of the private API and the credentials for it.
type apiFlags struct {
	API        string `name:"api" help:"Base URL of the private API of the cluster." default:"http://127.0.0.1:8081" placeholder:"URL"`
	APIKey     string `name:"api-key" help:"Key of the private API (\"usher keys api\" makes one). Set it in the environment: other users of this machine can read the command line." placeholder:"KEY"`
	APICA      string `name:"api-ca" help:"PEM file of the authorities that the certificate of the private API is verified with. Default: those of the system." type:"path" placeholder:"FILE"`
	APICert    string `name:"api-cert" help:"PEM file of the client certificate, for a broker with --tls-client-ca." type:"path" placeholder:"FILE"`
	APICertKey string `name:"api-cert-key" help:"PEM file of the private key of the client certificate." type:"path" placeholder:"FILE"`
	APIKeyFile string `name:"api-key-file" help:"File of the key, in place of --api-key." type:"path" placeholder:"FILE"`
}

// setIn reports whether the address of the private API was set, by a flag in args or by
// the environment.
func (f apiFlags) setIn(args []string) bool {
	return os.Getenv("USHER_API") != "" || slices.ContainsFunc(args, func(arg string) bool {
		return arg == "--api" || strings.HasPrefix(arg, "--api=")
	})
}

// maxKeyBytes bounds the file of --api-key-file.
const maxKeyBytes = 4 << 10

// api is a client of the private API.
type api struct {
	base string
	key  string
	http *http.Client
}

func (f apiFlags) open() (*api, error) {
	u, err := url.Parse(f.API)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, process.FlagError{Flag: "--api", Err: fmt.Errorf("%q is not a URL such as http://127.0.0.1:8081", process.RedactURL(f.API))}
	}
	key := f.APIKey
	if f.APIKeyFile != "" {
		if key != "" {
			return nil, process.FlagError{Flag: "--api-key-file", Err: errors.New("is set, and so is --api-key or USHER_API_KEY: set one of them")}
		}
		b, err := process.ReadFile(f.APIKeyFile, maxKeyBytes)
		if err != nil {
			return nil, process.FlagError{Flag: "--api-key-file", Err: err}
		}
		key = strings.TrimSpace(string(b))
	}
	transport, err := f.transport()
	if err != nil {
		return nil, err
	}
	return &api{base: strings.TrimSuffix(f.API, "/"), key: key, http: &http.Client{Timeout: 10 * time.Second, Transport: transport}}, nil
}

// transport returns the transport for the TLS flags, or nil for the default one.
func (f apiFlags) transport() (http.RoundTripper, error) {
	if f.APICA+f.APICert+f.APICertKey == "" {
		return nil, nil
	}
	roots, err := process.ReadRoots(f.APICA)
	if err != nil {
		return nil, process.FlagError{Flag: "--api-ca", Err: err}
	}
	config := &tls.Config{RootCAs: roots}
	if f.APICert+f.APICertKey != "" {
		c, err := readKeyPair(f.APICert, f.APICertKey)
		if err != nil {
			return nil, process.FlagError{Flag: "--api-cert", Err: fmt.Errorf("with --api-cert-key: %w", err)}
		}
		config.Certificates = []tls.Certificate{c}
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = config
	return t, nil
}

func readKeyPair(certFile, keyFile string) (tls.Certificate, error) {
	cert, err := process.ReadFile(certFile, process.MaxPEMBytes)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := process.ReadFile(keyFile, process.MaxPEMBytes)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(cert, key)
}

// maxAnswer bounds the size of an answer of the API. 200 nodes are about 60 KiB.
const maxAnswer = 4 << 20

// call sends a request to the API and decodes the answer into out, unless out is nil.
// A problem is returned as an apiError.
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
		return fmt.Errorf("the answer of %s is not one of the private API: %w; check --api", process.RedactURL(a.base), err)
	}
	return nil
}

// copyJSON writes the answer of the API to a GET request, unchanged, as one line.
func (a *api) copyJSON(ctx context.Context, path string, out io.Writer) error {
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
		return fmt.Errorf("%s answered %s, without a problem of the private API; check --api", resp.Request.URL.Redacted(), resp.Status)
	}
	return apiError{p}
}

// apiError is a problem of the API. Its text is the detail of the problem.
type apiError struct{ *proto.Problem }

func (e apiError) Error() string {
	if e.Detail == "" {
		return "the private API answered " + e.Code
	}
	// The detail is a sentence; an error text has no capital and no full stop.
	r, size := utf8.DecodeRuneInString(e.Detail)
	return string(unicode.ToLower(r)) + strings.TrimSuffix(e.Detail[size:], ".")
}
func (e apiError) Unwrap() error { return e.Problem }

// isProblem reports whether the error is a problem with the code.
func isProblem(err error, code string) bool {
	p, ok := errors.AsType[apiError](err)
	return ok && p.Code == code
}

// apiNode has the fields of a node that the commands print.
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

// sessionOrUser are the arguments of a command for one session, or for all sessions
// of a user.
type sessionOrUser struct {
	Session string `arg:"" optional:"" help:"Id of the session. Or use --user."`
	// Not from the environment: USHER_USER is the user of usher try, and must not select
	// the sessions to kick.
	User string `env:"-" help:"All sessions of this user, in place of one session." placeholder:"NAME"`
}

func (s sessionOrUser) check() error {
	switch {
	case s.Session == "" && s.User == "":
		return process.FlagError{Flag: "SESSION", Err: errors.New("give a session id or --user NAME")}
	case s.Session != "" && s.User != "":
		return process.FlagError{Flag: "--user", Err: fmt.Errorf("%q is set, and so is the session %q: give one of them", s.User, s.Session)}
	}
	return nil
}

func nodePath(id string) string    { return "/v1/nodes/" + url.PathEscape(id) }
func userPath(name string) string  { return "/v1/users/" + url.PathEscape(name) }
func sessionPath(id string) string { return "/v1/sessions/" + url.PathEscape(id) }
