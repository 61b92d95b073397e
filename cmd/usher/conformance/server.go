package conformance

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/rs/cors"

	"github.com/usher-broker/usher/proto"
)

// Verdict is the result of a scenario.
type Verdict struct {
	Scenario   string   `json:"scenario"`
	About      string   `json:"about"`
	Passed     bool     `json:"passed"`
	Faults     []string `json:"faults,omitempty"`
	Transcript []string `json:"transcript"`
}

// Server is an auth and two nodes.
type Server struct {
	// OnVerdict is called when a scenario has ended. It must not block. Optional.
	OnVerdict func(Verdict)
	// Patience is the time limit of a scenario. 0 means 30 s.
	Patience time.Duration

	auth    string // base URL
	nodes   map[string]string
	servers []*http.Server
	wg      sync.WaitGroup

	mu     sync.Mutex
	runs   map[string]*run // by token
	closed bool
}

// webPages allows web pages of all origins to send requests, as auth does.
var webPages = cors.New(cors.Options{
	AllowedHeaders: []string{"Authorization", "Content-Type", proto.HeaderProof},
	ExposedHeaders: []string{"Retry-After", "WWW-Authenticate"},
})

type connKey struct{}

// Start listens on the address for auth, and on free ports of the same host for the
// nodes.
func (s *Server) Start(addr string) error {
	s.runs, s.nodes = map[string]*run{}, map[string]string{}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	s.auth = "http://" + ln.Addr().String()
	host, _, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		return err
	}
	s.serve(ln, webPages.Handler(http.HandlerFunc(s.authAPI)))
	for _, id := range []string{nodeA, nodeB, nowhere} {
		ln, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			s.Close()
			return err
		}
		s.nodes[id] = "ws://" + ln.Addr().String() + proto.ConnectPath
		if id == nowhere {
			ln.Close() // the port probably stays free during the scenario
			continue
		}
		s.serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.attach(id, w, r) }))
	}
	return nil
}

// Auth returns the base URL of auth.
func (s *Server) Auth() string { return s.auth }

func (s *Server) serve(ln net.Listener, h http.Handler) {
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
	}
	s.servers = append(s.servers, server)
	s.wg.Go(func() { _ = server.Serve(ln) })
}

// Close stops the server and fails the scenarios that run.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	var list []*run
	for _, r := range s.runs {
		list = append(list, r)
	}
	s.mu.Unlock()
	for _, r := range list {
		r.finish("the server was stopped")
	}
	for _, server := range s.servers {
		_ = server.Close()
	}
	s.wg.Wait()
}

func (s *Server) authAPI(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodPost && r.URL.Path == "/v1/login":
		s.login(w, r)
	case r.Method == http.MethodPost && r.URL.Path == "/v1/reconnect":
		s.reconnect(w, r)
	case r.Method == http.MethodPost && r.URL.Path == "/v1/logout":
		w.WriteHeader(http.StatusNoContent)
	default:
		proto.WriteProblem(w, &proto.Problem{Status: http.StatusNotFound, Code: proto.ProblemNotFound, Detail: "This server has /v1/login, /v1/reconnect and /v1/logout."})
	}
}

func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Method      string
		Credentials proto.GuestCredentials
	}
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, proto.MaxBodyBytes)).Decode(&req)
	sc, known := find(req.Credentials.Name)
	if err != nil || req.Method != "guest" || !known {
		proto.WriteProblem(w, &proto.Problem{
			Status: http.StatusBadRequest, Code: proto.ProblemInvalidRequest,
			Detail: "Log in with method guest and the name of a scenario: " + strings.Join(Names(), ", ") + ".",
		})
		return
	}
	n := newRun(s, sc)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	s.assign(n, sc.login, w)
}

// assign answers with a node and a token. s.mu is held.
func (s *Server) assign(n *run, node string, w http.ResponseWriter) {
	token := rand.Text()
	n.assigned(node, token)
	s.runs[token] = n
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(proto.Assignment{ // fails if the client has closed the connection
		Token: token, TokenExpiresAt: time.Now().Add(time.Hour).UTC(), Session: n.sid, User: n.sc.name,
		Node: proto.NodeAddress{ID: node, URL: s.nodes[node]},
	})
}

func (s *Server) reconnect(w http.ResponseWriter, r *http.Request) {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	var req proto.ReconnectRequest
	bad := json.NewDecoder(http.MaxBytesReader(w, r.Body, proto.MaxBodyBytes)).Decode(&req) != nil
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.runs[token]
	switch {
	case n == nil:
		proto.WriteProblem(w, &proto.Problem{Status: http.StatusUnauthorized, Code: proto.ProblemInvalidToken, Detail: "The token is not from this server."})
	case bad:
		n.fault("the body of /v1/reconnect is not JSON")
		proto.WriteProblem(w, &proto.Problem{Status: http.StatusBadRequest, Code: proto.ProblemInvalidRequest, Detail: "The body is not JSON."})
	default:
		s.assign(n, n.reconnect(token, req.Unreachable), w)
	}
}

// attach handles the connect path of a node.
func (s *Server) attach(node string, w http.ResponseWriter, r *http.Request) {
	token, problem := tokenOf(r)
	s.mu.Lock()
	n := s.runs[token]
	s.mu.Unlock()
	if n == nil || problem != "" {
		if n != nil {
			n.fault("%s", problem)
		}
		proto.WriteProblem(w, &proto.Problem{Status: http.StatusUnauthorized, Code: proto.ProblemInvalidToken, Detail: strings.TrimSpace("The token is not from this server. " + problem)})
		return
	}
	conn, _ := r.Context().Value(connKey{}).(net.Conn)
	n.attach(node, token, conn, w, r)
}

// tokenOf returns the token of a handshake, and a problem if it was not sent as it must
// be.
func tokenOf(r *http.Request) (token, problem string) {
	var offered []string
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(line, ",") {
			offered = append(offered, strings.TrimSpace(p))
		}
	}
	usher, places := false, 0
	for _, p := range offered {
		if t, ok := strings.CutPrefix(p, proto.Subprotocol[:strings.IndexByte(proto.Subprotocol, '.')]+".token."); ok {
			token = t
			places++
		}
		usher = usher || p == proto.Subprotocol
	}
	if t, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		token = t
		places++
	}
	switch {
	case !usher:
		problem = "the subprotocol " + proto.Subprotocol + " is not offered"
	case places != 1:
		problem = fmt.Sprintf("the token is in %d places, not in one", places)
	case r.URL.Query().Has("token") || r.URL.Query().Has("access_token"):
		problem = "the URL has a token"
	}
	return token, problem
}
