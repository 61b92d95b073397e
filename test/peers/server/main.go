// Server is what a game would run without Usher: an echo server on another WebSocket
// library, or a minimal login API. The benchmarks compare Usher with it.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strings"

	"github.com/golang-jwt/jwt/v5"

	"github.com/usher-broker/usher/broker/token"
)

func main() {
	log.SetFlags(0)
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on")
	kind := flag.String("kind", "", "echo server: coder, gorilla, gws; login API: bare, reference, hash; both: journey")
	jwks := flag.String("jwks", "", "file of public keys; if set, handshakes must have a valid token")
	redis := flag.String("redis", "", "address of Redis, for -kind reference")
	flag.Parse()
	check := func(*http.Request) bool { return true }
	if *jwks != "" {
		keys, err := token.OpenJWKS(context.Background(), *jwks, slog.Default())
		if err != nil {
			log.Fatal(err)
		}
		check = func(r *http.Request) bool { return verify(keys, r) }
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /free", func(http.ResponseWriter, *http.Request) { debug.FreeOSMemory() })
	switch *kind {
	case "coder", "gorilla", "gws":
		mux.HandleFunc("/v1/connect", requireToken(check, echoServers[*kind]()))
	case "bare", "reference", "hash", "journey":
		if err := handleLogin(mux, *kind, *redis, *listen); err != nil {
			log.Fatal(err)
		}
	default:
		log.Fatalf("-kind: %q is not a kind of server", *kind)
	}
	ln, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", ln.Addr())
	s := &http.Server{Handler: mux, TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}}
	if err := s.Serve(ln); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// verify reports whether the request has a valid token. It checks the signature, times
// and audience, as the JWT library's documentation shows.
func verify(keys token.Keys, r *http.Request) bool {
	var c jwt.RegisteredClaims
	_, err := jwt.ParseWithClaims(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), &c, func(t *jwt.Token) (any, error) {
		kid, _ := t.Header["kid"].(string)
		return keys.PublicKey(r.Context(), kid)
	}, jwt.WithValidMethods([]string{"EdDSA"}), jwt.WithAudience("usher"), jwt.WithExpirationRequired())
	return err == nil
}

// requireToken calls next if check accepts the request, and answers 401 otherwise.
func requireToken(check func(*http.Request) bool, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !check(r) {
			http.Error(w, "invalid token", http.StatusUnauthorized)
			return
		}
		next(w, r)
	}
}
