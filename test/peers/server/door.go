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

// doors serves /v1/login with the least that a login can do: «bare» reads and
// writes JSON; «reference» keeps a record of the session with one Lua script in
// Redis and signs a token as well; «hash» checks a password; «journey» is the
// reference with the record in its memory, and an echo server beside it.
func doors(mux *http.ServeMux, kind, redis, listen string) error {
	d := &door{url: "ws://" + listen + "/v1/connect"}
	var err error
	if _, d.key, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return err
	}
	d.claims = func(context.Context, jwt.MapClaims) error { return nil }
	switch kind {
	case "bare":
		d.key = nil
	case "reference":
		client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{redis}, DisableCache: true})
		if err != nil {
			return err
		}
		d.claims = func(ctx context.Context, c jwt.MapClaims) error {
			return script.Exec(ctx, client, []string{"session:" + c["sid"].(string)}, []string{c["sub"].(string), "n1", "60000"}).Error()
		}
	case "hash":
		p := &argon2id.Params{Memory: 19 << 10, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32}
		hash, err := argon2id.CreateHash("correct horse", p)
		if err != nil {
			return err
		}
		d.password = func(s string) bool { ok, err := argon2id.ComparePasswordAndHash(s, hash); return ok && err == nil }
	case "journey":
		d.key2 = d.key.Public().(ed25519.PublicKey)
		mux.HandleFunc("/v1/connect", guard(d.verify, coderEcho()))
	}
	mux.HandleFunc("POST /v1/login", d.login)
	return nil
}

var script = rueidis.NewLuaScript(`
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'user', ARGV[1], 'node', ARGV[2], 'epoch', '1', 'state', 'assigned')
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1`)

type door struct {
	url      string
	key      ed25519.PrivateKey // nil: no token
	key2     ed25519.PublicKey
	claims   func(context.Context, jwt.MapClaims) error
	password func(string) bool
}

func (d *door) login(w http.ResponseWriter, r *http.Request) {
	var in proto.LoginRequest
	var user proto.PasswordCredentials
	if json.NewDecoder(http.MaxBytesReader(w, r.Body, 16<<10)).Decode(&in) != nil || json.Unmarshal(in.Credentials, &user) != nil {
		http.Error(w, "body", http.StatusBadRequest)
		return
	}
	if d.password != nil && !d.password(user.Password) {
		http.Error(w, "password", http.StatusUnauthorized)
		return
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	now := time.Now()
	a := proto.Assignment{Session: hex.EncodeToString(id), User: user.Username, TokenExpiresAt: now.Add(time.Hour), Node: proto.NodeAddress{ID: "n1", URL: d.url}}
	if d.key != nil {
		c := jwt.MapClaims{
			"iss": "reference", "aud": "usher", "sub": "guest:ada", "sid": a.Session, "nid": "n1", "ep": 1,
			"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(), "jti": a.Session,
		}
		err := d.claims(r.Context(), c)
		if err == nil {
			a.Token, err = jwt.NewWithClaims(jwt.SigningMethodEdDSA, c).SignedString(d.key)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a)
}

func (d *door) verify(r *http.Request) bool {
	_, err := jwt.Parse(r.Header.Get("Authorization")[len("Bearer "):], func(*jwt.Token) (any, error) { return d.key2, nil }, jwt.WithValidMethods([]string{"EdDSA"}))
	return err == nil
}
