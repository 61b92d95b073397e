package redis

import (
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		url  string
		want target
	}{
		{"redis://localhost", target{kind: "redis", addrs: []string{"localhost:6379"}}},
		{"REDIS://localhost:1/", target{kind: "redis", addrs: []string{"localhost:1"}}},
		{"redis://10.0.0.1:7000/15", target{kind: "redis", addrs: []string{"10.0.0.1:7000"}, db: 15}},
		{"redis://[::1]:7000/0", target{kind: "redis", addrs: []string{"[::1]:7000"}}},
		{"redis://[::1]", target{kind: "redis", addrs: []string{"[::1]:6379"}}},
		{"redis://:secret@h", target{kind: "redis", password: "secret", addrs: []string{"h:6379"}}},
		{"rediss://u:p%2F%3F%23%25%40%3A+x@h", target{kind: "redis", tls: true, user: "u", password: "p/?#%@:+x", addrs: []string{"h:6379"}}},
		{"redis://h?conns=100", target{kind: "redis", addrs: []string{"h:6379"}, conns: 100}},
		{
			"redis-sentinel://u:p@h1,h2:26380,[::1]:3/2?master=main&sentinel_user=su&sentinel_password=s%26p&conns=9",
			target{
				kind: "sentinel", user: "u", password: "p", addrs: []string{"h1:26379", "h2:26380", "[::1]:3"}, db: 2,
				master: "main", sentinelUser: "su", sentinelPassword: "s&p", conns: 9,
			},
		},
		{"rediss-sentinel://h?master=m", target{kind: "sentinel", tls: true, addrs: []string{"h:26379"}, master: "m"}},
		{"redis-cluster://h1:7000,h2:7001", target{kind: "cluster", addrs: []string{"h1:7000", "h2:7001"}}},
		{"rediss-cluster://:p@h1/0", target{kind: "cluster", tls: true, password: "p", addrs: []string{"h1:6379"}}},
	} {
		if c.want.conns == 0 {
			c.want.conns = defaultConns
		}
		got, err := parse(c.url)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v\n got %+v\nwant %+v", c.url, err, got, c.want)
		}
	}
}

func TestBadURLs(t *testing.T) {
	for _, c := range []struct {
		url  string
		want error
	}{
		{"", errScheme},
		{"SECRET", errScheme},
		{"SECRET://h", errScheme},
		{"http://h", errScheme},
		{"redis:/h", errScheme},
		{"redis-://h", errScheme},
		{"redis-redis://h", errScheme},
		{"rediss-redis://h", errScheme},
		{"redis-rediss://h", errScheme},
		{"cluster://h", errScheme},
		{"redis-cluster-x://h", errScheme},
		{"unix:///run/redis.sock", errScheme},
		{"redis://", errHosts},
		{"redis://:6379", errHosts},
		{"redis://h:", errHosts},
		{"redis://h:0", errHosts},
		{"redis://h:65536", errHosts},
		{"redis://h:-1", errHosts},
		{"redis://h:http", errHosts},
		{"redis://::1", errHosts},
		{"redis://[::1", errHosts},
		{"redis://[h]:1", nil}, // the brackets do no harm
		{"redis://a b", errHosts},
		{"redis://h1,h2", errHosts},
		{"redis-cluster://h1,,h2", errHosts},
		{"redis-cluster://h1,", errHosts},
		{"redis-cluster://h1, h2", errHosts},
		{"redis://SECRET@h", errUser},
		{"redis://u:@h", errUser},
		{"redis://u:SE@CRET@h", errUser},
		{"redis://u:SE:CRET@h", errUser},
		{"redis://u:SECRET%zz@h", errUser},
		{"redis://u:SE#CRET@h", errUser},
		{"redis://u:SE/CRET@h", errHosts},
		{"redis://u:12/SECRET@h", errDB},
		{"redis://u:12?SECRET@h", errQuery},
		{"redis://h/x", errDB},
		{"redis://h/-1", errDB},
		{"redis://h/1/2", errDB},
		{"redis-cluster://h/1", errDB},
		{"redis://h?db=1", errQuery},
		{"redis://h?SECRET=1", errQuery},
		{"redis://h?conns=0", errQuery},
		{"redis://h?conns=10001", errQuery},
		{"redis://h?conns=1&conns=2", errQuery},
		{"redis://h?conns=SECRET", errQuery},
		{"redis://h?master=m", errQuery},
		{"redis://h?conns=1;master=m", errQuery},
		{"redis-sentinel://h", errMaster},
		{"redis-sentinel://h?master=", errQuery},
		{"redis-sentinel://h?master=m&sentinel_user=u", errQuery},
		{"redis-sentinel://h?master=m&SECRET", errQuery},
	} {
		_, err := parse(c.url)
		if err != c.want {
			t.Errorf("%s: %v, want %v", c.url, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: the error shows a part of it: %v", c.url, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("redis-sentinel://u:p@h1,[::1]:3/2?master=main")
	f.Fuzz(func(t *testing.T, url string) {
		got, err := parse(url)
		if err == nil && (len(got.addrs) == 0 || got.conns == 0 || got.kind == "sentinel" && got.master == "") {
			t.Errorf("%q: %+v", url, got)
		}
	})
}
