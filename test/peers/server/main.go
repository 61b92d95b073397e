// Server is what a game would run without Usher: an echo server on another
// WebSocket library, or a login door of the plainest kind. Usher is measured
// beside them.
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
	listen := flag.String("listen", "127.0.0.1:0", "address")
	what := flag.String("kind", "", "coder, gorilla, gws; bare, reference, hash; or journey")
	jwks := flag.String("jwks", "", "file of public keys: handshakes must have a token")
	redis := flag.String("redis", "", "address of the reference's Redis")
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
	switch *what {
	case "coder", "gorilla", "gws":
		mux.HandleFunc("/v1/connect", guard(check, echoes[*what]()))
	case "bare", "reference", "hash", "journey":
		if err := doors(mux, *what, *redis, *listen); err != nil {
			log.Fatal(err)
		}
	default:
		log.Fatalf("-kind %q", *what)
	}
	ln, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listens at", ln.Addr())
	s := &http.Server{Handler: mux, TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}}
	if err := s.Serve(ln); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// verify checks a token as the library's documentation shows: its signature, its
// times and whom it is for.
func verify(keys token.Keys, r *http.Request) bool {
	var c jwt.RegisteredClaims
	_, err := jwt.ParseWithClaims(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), &c, func(t *jwt.Token) (any, error) {
		kid, _ := t.Header["kid"].(string)
		return keys.PublicKey(r.Context(), kid)
	}, jwt.WithValidMethods([]string{"EdDSA"}), jwt.WithAudience("usher"), jwt.WithExpirationRequired())
	return err == nil
}

func guard(check func(*http.Request) bool, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !check(r) {
			http.Error(w, "token", http.StatusUnauthorized)
			return
		}
		next(w, r)
	}
}
