package main

import (
	"embed"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/broker/placement"
	"github.com/usher-broker/usher/proto"
)

//go:embed demo
var demoFiles embed.FS

// demoPolicy lets the page load what is here and attach to the nodes.
const demoPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
	"connect-src 'self' ws://127.0.0.1:* ws://localhost:*; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// demo serves /demo/ of «usher dev» beside the login door: a page to play with,
// and what its buttons do to the nodes.
func demo(show *atomic.Pointer[stage]) func(http.Handler) http.Handler {
	files, err := fs.Sub(demoFiles, "demo")
	if err != nil {
		panic(err) // the directory above is there
	}
	static := http.StripPrefix("/demo/", http.FileServerFS(files))
	return func(login http.Handler) http.Handler {
		mux := http.NewServeMux()
		mux.Handle("/", login)
		mux.Handle("GET /demo", http.RedirectHandler("/demo/", http.StatusFound))
		mux.HandleFunc("GET /demo/", func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Set("Content-Security-Policy", demoPolicy)
			h.Set("X-Content-Type-Options", "nosniff")
			h.Set("Cache-Control", "no-cache")
			static.ServeHTTP(w, r)
		})
		d := &demoDoor{show}
		mux.HandleFunc("GET /demo/nodes", d.guard(d.list))
		mux.HandleFunc("POST /demo/nodes", d.guard(d.add))
		mux.HandleFunc("POST /demo/nodes/{id}/{deed}", d.guard(d.do))
		return mux
	}
}

type demoDoor struct{ show *atomic.Pointer[stage] }

// demoHeader is one that a page of another origin cannot send without asking, and
// nobody answers.
const demoHeader = "Usher-Demo"

func (d *demoDoor) guard(f func(s *stage, w http.ResponseWriter, r *http.Request)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s := d.show.Load()
		switch {
		case r.Header.Get(demoHeader) == "":
			proto.WriteProblem(w, &proto.Problem{Status: http.StatusForbidden, Code: proto.ProblemForbidden, Detail: "This is for the page at /demo/. Send the header " + demoHeader + ": 1."})
		case s == nil:
			proto.WriteProblem(w, &proto.Problem{Status: http.StatusServiceUnavailable, Code: proto.ProblemNoCapacity, RetryAfter: 1, Detail: "The nodes are not there yet."})
		default:
			f(s, w, r)
		}
	}
}

// demoNode is a node as the page shows it.
type demoNode struct {
	ID    string `json:"id"`
	State string `json:"state"`
	Live  uint32 `json:"live"`
	Why   string `json:"why,omitempty"`
}

func (d *demoDoor) list(s *stage, w http.ResponseWriter, _ *http.Request) {
	list := []demoNode{}
	for _, v := range s.broker.Nodes() {
		list = append(list, demoNode{v.Peer.ID, stateOf(v), v.Report.Live, v.Why})
	}
	slices.SortFunc(list, func(a, b demoNode) int {
		if len(a.ID) != len(b.ID) {
			return len(a.ID) - len(b.ID)
		}
		return strings.Compare(a.ID, b.ID)
	})
	httpapi.WriteJSON(w, map[string]any{"nodes": list})
}

func stateOf(v placement.NodeView) string {
	if v.Eligible || v.Peer.State == proto.StateDraining {
		return v.Peer.State.String()
	}
	return "silent"
}

func (d *demoDoor) add(s *stage, w http.ResponseWriter, _ *http.Request) {
	id, err := s.add()
	if err != nil {
		proto.WriteProblem(w, &proto.Problem{Status: http.StatusConflict, Code: proto.ProblemInvalidRequest, Detail: err.Error()})
		return
	}
	httpapi.WriteJSONStatus(w, http.StatusCreated, map[string]string{"id": id})
}

func (d *demoDoor) do(s *stage, w http.ResponseWriter, r *http.Request) {
	id, err := r.PathValue("id"), error(nil)
	switch r.PathValue("deed") {
	case "kill":
		if !s.kill(id) {
			proto.WriteProblem(w, &proto.Problem{Status: http.StatusNotFound, Code: proto.ProblemNotFound, Detail: "There is no such node."})
			return
		}
	case "drain":
		err = s.drain(r.Context(), id)
	case "undrain":
		err = s.undrain(r.Context(), id)
	default:
		proto.WriteProblem(w, &proto.Problem{Status: http.StatusNotFound, Code: proto.ProblemNotFound, Detail: "A node can be told to kill, drain or undrain."})
		return
	}
	if err != nil {
		proto.WriteProblem(w, &proto.Problem{Status: http.StatusServiceUnavailable, Code: proto.ProblemNodeUnavailable, RetryAfter: 1, Detail: "The node does not answer."})
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
