package redis

import (
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// target is what a URL says.
type target struct {
	kind           string // "redis", "sentinel" or "cluster"
	tls            bool
	user, password string
	addrs          []string // host:port
	db             int
	conns          int // connections to a server at most

	// Of Sentinel only.
	master                         string
	sentinelUser, sentinelPassword string
}

// Errors of a URL quote nothing of it: a password with a character that is
// not escaped may turn up in any part.
var (
	errScheme = errors.New("redis: the URL must begin with redis://, redis-sentinel:// or redis-cluster://, " +
		"or with rediss in place of redis for TLS")
	errUser = errors.New("redis: the user part of the URL must be user:password@ or :password@, " +
		"with characters such as / ? # % written as %2F %3F %23 %25")
	errHosts = errors.New("redis: the hosts of the URL must be host:port, several with commas between, no spaces; " +
		"redis:// takes one")
	errDB = errors.New("redis: the path of the URL must be empty or /n, n the number of the database; " +
		"Redis Cluster has only 0")
	errQuery = errors.New("redis: the query of the URL may hold conns, a number from 1 to 10000, and for " +
		"redis-sentinel:// master, sentinel_user and sentinel_password, each once")
	errMaster = errors.New("redis: a redis-sentinel:// URL must name the master: ?master=<name>")
)

const defaultConns = 32

// parse parses the URL; see Open for the forms. The parsers of go-redis do not fit:
// they take one host before the query, quote the URL in their errors, accept a host
// that is missing, a port 0 and a password without its colon, read the user of a
// Sentinel URL as that of Sentinel, and verify every server of a cluster under the
// name of the first.
func parse(raw string) (target, error) {
	t := target{conns: defaultConns}
	scheme, rest, found := strings.Cut(raw, "://")
	if !found || !t.setScheme(scheme) {
		return target{}, errScheme
	}
	if strings.Contains(rest, "#") {
		return target{}, errUser
	}
	rest, query, _ := strings.Cut(rest, "?")
	rest, db, _ := strings.Cut(rest, "/")
	user, hosts := "", rest
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		user, hosts = rest[:i], rest[i+1:]
		if !t.setUser(user) {
			return target{}, errUser
		}
	}
	switch {
	case !t.setHosts(hosts):
		return target{}, errHosts
	case !t.setDB(db):
		return target{}, errDB
	case !t.setQuery(query):
		return target{}, errQuery
	case t.kind == "sentinel" && t.master == "":
		return target{}, errMaster
	}
	return t, nil
}

func (t *target) setScheme(s string) bool {
	name, kind, found := strings.Cut(strings.ToLower(s), "-")
	t.kind = name
	if found {
		t.kind = kind
	}
	t.tls = name == "rediss"
	if t.tls && !found {
		t.kind = "redis"
	}
	return (name == "redis" || t.tls) && (!found && t.kind == "redis" || found && (kind == "sentinel" || kind == "cluster"))
}

func (t *target) setUser(s string) bool {
	user, password, found := strings.Cut(s, ":")
	if !found || password == "" || strings.ContainsAny(password, "@:") {
		return false
	}
	var err1, err2 error
	t.user, err1 = url.PathUnescape(user)
	t.password, err2 = url.PathUnescape(password)
	return err1 == nil && err2 == nil
}

func (t *target) setHosts(s string) bool {
	port := "6379"
	if t.kind == "sentinel" {
		port = "26379"
	}
	for h := range strings.SplitSeq(s, ",") {
		addr, ok := hostPort(h, port)
		if !ok {
			return false
		}
		t.addrs = append(t.addrs, addr)
	}
	return t.kind != "redis" || len(t.addrs) == 1
}

// hostPort returns host:port with the default port if there is none.
func hostPort(s, port string) (string, bool) {
	host := s
	if strings.Contains(s, ":") && !strings.HasSuffix(s, "]") { // [::1] has no port
		h, p, err := net.SplitHostPort(s)
		n, perr := strconv.ParseUint(p, 10, 16)
		if err != nil || perr != nil || n == 0 {
			return "", false
		}
		host, port = h, p
	} else if inner, ok := strings.CutPrefix(s, "["); ok {
		host = strings.TrimSuffix(inner, "]")
	}
	if strings.Contains(host, ":") && net.ParseIP(host) == nil {
		return "", false
	}
	if host == "" || strings.ContainsAny(host, " \t\r\n[]%@\\\"<>") {
		return "", false
	}
	return net.JoinHostPort(host, port), true
}

func (t *target) setDB(s string) bool {
	if s == "" {
		return true
	}
	n, err := strconv.ParseUint(s, 10, 16)
	t.db = int(n)
	return err == nil && (n == 0 || t.kind != "cluster")
}

func (t *target) setQuery(s string) bool {
	q, err := url.ParseQuery(s)
	if err != nil {
		return false
	}
	for name, values := range q {
		v := values[0]
		switch {
		case len(values) > 1 || v == "":
			return false
		case name == "conns":
			n, err := strconv.ParseUint(v, 10, 16)
			if err != nil || n < 1 || n > 10000 {
				return false
			}
			t.conns = int(n)
		case t.kind != "sentinel":
			return false
		case name == "master":
			t.master = v
		case name == "sentinel_user":
			t.sentinelUser = v
		case name == "sentinel_password":
			t.sentinelPassword = v
		default:
			return false
		}
	}
	return t.sentinelUser == "" || t.sentinelPassword != ""
}
