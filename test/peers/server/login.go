package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"time"

	"github.com/alexedwards/argon2id"
	"github.com/golang-jwt/jwt/v5"
	"github.com/redis/rueidis"

	"github.com/usher-broker/usher/proto"
)

// handleLogin registers a handler of /v1/login that does the minimum of a login. "bare"
// reads and writes JSON. "reference" also writes a record of the session with one Lua
// script in Redis, and signs a token. "hash" checks a password, and signs a token.
// "journey" signs a token, and registers an echo server for it as well.
func handleLogin(mux *http.ServeMux, kind, redis, listen string) error {
	l := &loginAPI{url: "ws://" + listen + "/v1/connect"}
	var err error
	if _, l.key, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return err
	}
	l.store = func(context.Context, jwt.MapClaims) error { return nil }
	switch kind {
	case "bare":
		l.key = nil
	case "reference":
		client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{redis}, DisableCache: true})
		if err != nil {
			return err
		}
		l.store = func(ctx context.Context, c jwt.MapClaims) error {
			return script.Exec(ctx, client, []string{"session:" + c["sid"].(string)}, []string{c["sub"].(string), "n1", "60000"}).Error()
		}
	case "hash":
		p := &argon2id.Params{Memory: 19 << 10, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32}
		hash, err := argon2id.CreateHash("correct horse", p)
		if err != nil {
			return err
		}
		l.password = func(s string) bool { ok, err := argon2id.ComparePasswordAndHash(s, hash); return ok && err == nil }
	case "journey":
		l.publicKey = l.key.Public().(ed25519.PublicKey)
		mux.HandleFunc("/v1/connect", requireToken(l.verify, coderEcho()))
	}
	mux.HandleFunc("POST /v1/login", l.login)
	return nil
}

var script = rueidis.NewLuaScript(`
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'user', ARGV[1], 'node', ARGV[2], 'epoch', '1', 'state', 'assigned')
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1`)

// loginAPI serves /v1/login.
type loginAPI struct {
	url       string             // of the node, for all sessions
	key       ed25519.PrivateKey // nil for no token
	publicKey ed25519.PublicKey
	store     func(context.Context, jwt.MapClaims) error // writes the session's record
	password  func(string) bool                          // nil for any password
}

func (l *loginAPI) login(w http.ResponseWriter, r *http.Request) {
	var in proto.LoginRequest
	var user proto.PasswordCredentials
	if json.NewDecoder(http.MaxBytesReader(w, r.Body, 16<<10)).Decode(&in) != nil || json.Unmarshal(in.Credentials, &user) != nil {
		http.Error(w, "invalid body", http.StatusBadRequest)
		return
	}
	if l.password != nil && !l.password(user.Password) {
		http.Error(w, "wrong password", http.StatusUnauthorized)
		return
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	now := time.Now()
	a := proto.Assignment{Session: hex.EncodeToString(id), User: user.Username, TokenExpiresAt: now.Add(time.Hour), Node: proto.NodeAddress{ID: "n1", URL: l.url}}
	if l.key != nil {
		c := jwt.MapClaims{
			"iss": "reference", "aud": "usher", "sub": "guest:ada", "sid": a.Session, "nid": "n1", "ep": 1,
			"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(), "jti": a.Session,
		}
		err := l.store(r.Context(), c)
		if err == nil {
			a.Token, err = jwt.NewWithClaims(jwt.SigningMethodEdDSA, c).SignedString(l.key)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a)
}

func (l *loginAPI) verify(r *http.Request) bool {
	_, err := jwt.Parse(r.Header.Get("Authorization")[len("Bearer "):], func(*jwt.Token) (any, error) { return l.publicKey, nil }, jwt.WithValidMethods([]string{"EdDSA"}))
	return err == nil
}
