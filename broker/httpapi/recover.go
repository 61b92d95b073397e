package httpapi

import (
	"log/slog"
	"net/http"
	"runtime/debug"

	"github.com/usher-broker/usher/proto"
)

// Recover returns a handler that calls next. If next panics, it logs the panic
// and answers with Internal through refuse.
func Recover(log *slog.Logger, refuse func(http.ResponseWriter, *proto.Problem), next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if v == http.ErrAbortHandler { // a handler aborts the connection with it
				panic(v)
			}
			log.Error("panic", "path", r.URL.Path, "panic", v, "stack", string(debug.Stack()))
			refuse(w, Internal())
		}()
		next.ServeHTTP(w, r)
	})
}
