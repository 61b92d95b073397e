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

// The dashboard is a page that speaks to this door as any other program does: it
// is the same for everybody, and shows nothing without a key.
//
//go:embed dashboard
var dashboardFiles embed.FS

var dashboard = func() fs.FS {
	files, err := fs.Sub(dashboardFiles, "dashboard")
	if err != nil {
		panic(err) // the directory above is there
	}
	return files
}()

// dashboardPolicy lets the page load what is here, and nothing else from
// anywhere. What it draws it styles by script, which needs no permission.
const dashboardPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// dashboardETag is that of this start: the files are those of the binary.
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
		panic(err) // they are in the binary
	}
	return paths
}()

// isPage reports whether the request is for the dashboard's files, which need no
// key.
func isPage(r *http.Request) bool {
	return r.Method == http.MethodGet && slices.Contains(pages, r.URL.Path)
}

// meJSON is who the caller is.
type meJSON struct {
	Role Role   `json:"role"`
	Name string `json:"name"`
}

// me tells the holder of a key what it may do.
func (s *Server) me(w http.ResponseWriter, r *http.Request) *proto.Problem {
	c := callerOf(r)
	httpapi.WriteJSON(w, meJSON{c.role, c.name})
	return nil
}
