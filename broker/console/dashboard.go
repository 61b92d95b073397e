package console

import (
	"embed"
	"io/fs"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/usher-broker/usher/broker/httpapi"
	"github.com/usher-broker/usher/proto"
)

// dashboardFiles are the files of the dashboard, a page that calls the private API as any
// other program does. The files are the same for every caller, and show nothing without
// a key.
//
//go:embed dashboard
var dashboardFiles embed.FS

var dashboard = func() fs.FS {
	files, err := fs.Sub(dashboardFiles, "dashboard")
	if err != nil {
		panic(err) // cannot happen: the directory is embedded
	}
	return files
}()

// dashboardPolicy allows the page to load files of its own origin only. Styles that the
// script sets need no permission.
const dashboardPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// dashboardETag changes with each start of the process, because the files are part of
// the binary.
var dashboardETag = `"` + strconv.FormatInt(time.Now().UnixNano(), 36) + `"`

func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	if name == "" {
		name = "index.html"
	}
	h := w.Header()
	h.Set("Content-Security-Policy", dashboardPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", dashboardETag)
	http.ServeFileFS(w, r, dashboard, name)
}

// pages are the paths of the dashboard's files.
var pages = func() []string {
	paths := []string{"/"}
	err := fs.WalkDir(dashboard, ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && path != "index.html" {
			paths = append(paths, "/"+path)
		}
		return err
	})
	if err != nil {
		panic(err) // cannot happen: the files are embedded
	}
	return paths
}()

// isPage reports whether the request is for a file of the dashboard, which needs no key.
func isPage(r *http.Request) bool {
	return r.Method == http.MethodGet && slices.Contains(pages, r.URL.Path)
}

// meJSON identifies the caller.
type meJSON struct {
	Role Role   `json:"role"`
	Name string `json:"name"`
}

// me answers with the role and the name of the caller.
func (s *Server) me(w http.ResponseWriter, r *http.Request) *proto.Problem {
	c := callerOf(r)
	httpapi.WriteJSON(w, meJSON{c.role, c.name})
	return nil
}
