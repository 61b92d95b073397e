package main

import (
	"embed"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"

	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/broker/nodes"
	"github.com/usher-broker/usher/node/dev"
	"github.com/usher-broker/usher/proto"
)

//go:embed demo
var demoFiles embed.FS

// demoPolicy lets the page load the files of the demo and attach to the nodes.
const demoPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
	"connect-src 'self' ws://127.0.0.1:* ws://localhost:*; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// demo adds /demo/ to the login API of usher dev: a page, and the API of its buttons.
func demo(c *dev.Cluster, login http.Handler) http.Handler {
	files, err := fs.Sub(demoFiles, "demo")
	if err != nil {
		panic(err) // cannot happen: the directory is embedded
	}
	static := http.StripPrefix("/demo/", http.FileServerFS(files))
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
	d := demoAPI{c}
	mux.HandleFunc("GET /demo/nodes", fromDemoPage(d.list))
	mux.HandleFunc("POST /demo/nodes", fromDemoPage(d.add))
	mux.HandleFunc("POST /demo/nodes/{id}/{action}", fromDemoPage(d.do))
	return mux
}

// demoHeader is a header that a page of another origin may send only after a
// preflight request, which this server does not answer.
const demoHeader = "Usher-Demo"

// fromDemoPage refuses requests that do not come from the page of the demo.
func fromDemoPage(f http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(demoHeader) == "" {
			proto.WriteProblem(w, &proto.Problem{
				Status: http.StatusForbidden, Code: proto.ProblemForbidden,
				Detail: "This path is for the page /demo/. Send the header " + demoHeader + ": 1.",
			})
			return
		}
		f(w, r)
	}
}

// demoAPI is the API of the demo's buttons.
type demoAPI struct{ cluster *dev.Cluster }

// demoNode is a node in the answer of GET /demo/nodes.
type demoNode struct {
	ID    string `json:"id"`
	State string `json:"state"`
	Live  uint32 `json:"live"`
	Why   string `json:"why,omitempty"`
}

func (d demoAPI) list(w http.ResponseWriter, _ *http.Request) {
	list := []demoNode{}
	for _, v := range d.cluster.Nodes() {
		list = append(list, demoNode{v.Peer.ID, stateOf(v), v.Report.Live, v.Why()})
	}
	slices.SortFunc(list, func(a, b demoNode) int { // node-10 after node-9
		if len(a.ID) != len(b.ID) {
			return len(a.ID) - len(b.ID)
		}
		return strings.Compare(a.ID, b.ID)
	})
	httpapi.WriteJSON(w, map[string]any{"nodes": list})
}

func stateOf(v nodes.View) string {
	if v.Eligible() || v.Peer.State == proto.StateDraining {
		return v.Peer.State.String()
	}
	return "silent"
}

func (d demoAPI) add(w http.ResponseWriter, _ *http.Request) {
	id, err := d.cluster.AddNode()
	if err != nil {
		proto.WriteProblem(w, &proto.Problem{Status: http.StatusConflict, Code: proto.ProblemInvalidRequest, Detail: err.Error()})
		return
	}
	httpapi.WriteJSONStatus(w, http.StatusCreated, map[string]string{"id": id})
}

func (d demoAPI) do(w http.ResponseWriter, r *http.Request) {
	id, err := r.PathValue("id"), error(nil)
	switch r.PathValue("action") {
	case "kill":
		if !d.cluster.KillNode(id) {
			proto.WriteProblem(w, &proto.Problem{Status: http.StatusNotFound, Code: proto.ProblemNotFound, Detail: fmt.Sprintf("No node %.64q.", id)})
			return
		}
	case "drain":
		err = d.cluster.DrainNode(r.Context(), id)
	case "undrain":
		err = d.cluster.UndrainNode(r.Context(), id)
	default:
		proto.WriteProblem(w, &proto.Problem{Status: http.StatusNotFound, Code: proto.ProblemNotFound, Detail: "The actions on a node are kill, drain and undrain."})
		return
	}
	if err != nil {
		proto.WriteProblem(w, &proto.Problem{Status: http.StatusServiceUnavailable, Code: proto.ProblemNodeUnavailable, RetryAfter: 1, Detail: "The node does not answer."})
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
