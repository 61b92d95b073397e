package redis

import (
	"context"
	_ "embed"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/usher-broker/usher/broker/session"
	"github.com/usher-broker/usher/broker/session/redistest"
	"github.com/usher-broker/usher/broker/session/sessiontest"
)

// Each script uses only keys that are in KEYS, or have the tag of KEYS[1] and are of a
// kind that the comment at its top lists. All keys in KEYS have that tag. The tests
// below run the whole suite of stores with scripts that check this themselves.

func TestScriptsUseOnlyKnownKeys(t *testing.T) {
	t.Run("one server", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t)
		suiteWithKeyRule(t, server.URL(), server.Addr())
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		c := redistest.StartCluster(t)
		suiteWithKeyRule(t, c.URL(), c.Servers[0].Addr(), c.Servers[1].Addr(), c.Servers[2].Addr())
	})
}

// suiteWithKeyRule runs the suite against the Redis at url, whose servers have the
// addresses. It fails the test if a script breaks the rule, or was not run.
func suiteWithKeyRule(t *testing.T, url string, servers ...string) {
	rule := newKeyRule(scripts())
	sessiontest.Run(t, func(t *testing.T) (session.Store, func(time.Duration)) {
		s := rule.open(t, url)
		return s, func(d time.Duration) {
			for _, addr := range servers {
				shorten(t, addr, d)
			}
		}
	})
	s := rule.open(t, url)
	if err := s.Fail(t.Context(), "ada", time.Minute); err != nil { // no part of the suite
		t.Error(err)
	}
	for _, breach := range rule.breaches {
		t.Error(breach)
	}
	for name := range scripts() {
		if !rule.run[name] {
			t.Errorf("the suite does not run %s.lua", name)
		}
	}
}

// scripts returns all scripts by the names of their files.
func scripts() map[string]script {
	return map[string]script{
		"create": createScript, "reassign": reassignScript, "attach": attachScript, "prove": proveScript,
		"renew": renewScript, "move": moveScript, "save": saveScript, "restore": restoreScript,
		"end": endScript, "enduser": endUserScript, "sessions": sessionsScript, "group": groupScript,
		"ungroup": ungroupScript, "wait": waitScript, "admit": admitScript, "fail": failScript, "layout": layoutScript,
	}
}

// shorten reduces the ttl of every key of the server by d.
func shorten(t *testing.T, addr string, d time.Duration) {
	t.Helper()
	c := goredis.NewClient(&goredis.Options{Addr: addr})
	defer c.Close()
	const source = `for _, key in ipairs(redis.call('KEYS', 'usher:{*')) do
		redis.call('PEXPIRE', key, redis.call('PTTL', key) - ARGV[1])
	end`
	if err := c.Eval(t.Context(), source, nil, d.Milliseconds()).Err(); err != nil && err != goredis.Nil {
		t.Fatal(err)
	}
}

// Scripts that break the rule are refused, and one that keeps it is not.
func TestKeyRule(t *testing.T) {
	const finds = "-- Finds: usher:{tag}:session:<id>\n"
	for name, c := range map[string]struct {
		source string
		keys   []string
		says   string
	}{
		"in KEYS":          {"redis.call('SET', KEYS[2], 'x', 'PX', 1)", []string{"usher:{ab}:user:a", "usher:{ab}:state:b"}, ""},
		"listed":           {finds + "redis.call('DEL', 'usher:{ab}:session:x')", []string{"usher:{ab}:user:a"}, ""},
		"without a key":    {"return redis.call('TIME')", []string{"usher:{ab}:user:a"}, ""},
		"not listed":       {"redis.call('GET', 'usher:{ab}:session:x')", []string{"usher:{ab}:user:a"}, "usher:{ab}:session:x"},
		"another kind":     {finds + "redis.call('GET', 'usher:{ab}:state:x')", []string{"usher:{ab}:user:a"}, "usher:{ab}:state:x"},
		"nearly the kind":  {finds + "redis.call('GET', 'usher:{ab}:sessions:x')", []string{"usher:{ab}:user:a"}, "usher:{ab}:sessions:x"},
		"another tag":      {finds + "redis.call('GET', 'usher:{ac}:session:x')", []string{"usher:{ab}:user:a"}, "usher:{ac}:session:x"},
		"no tag":           {finds + "redis.call('GET', 'session:x')", []string{"usher:{ab}:user:a"}, "session:x"},
		"by pcall":         {"redis.pcall('GET', 'usher:{ab}:session:x')", []string{"usher:{ab}:user:a"}, "usher:{ab}:session:x"},
		"the second key":   {"redis.call('EXISTS', KEYS[1], 'usher:{ab}:user:b')", []string{"usher:{ab}:user:a"}, "usher:{ab}:user:b"},
		"two tags in KEYS": {"return 1", []string{"usher:{ab}:user:a", "usher:{ac}:user:a"}, "usher:{ac}:user:a"},
		"unknown command":  {"redis.call('OBJECT', 'ENCODING', KEYS[1])", []string{"usher:{ab}:user:a"}, "OBJECT"},
	} {
		t.Run(name, func(t *testing.T) {
			sc := newScript(c.source)
			rule := newKeyRule(map[string]script{"test": sc, "layout": layoutScript})
			s := rule.open(t, redistest.Start(t).URL())
			err := s.do(t.Context(), "test", func(ctx context.Context) error { return s.run(ctx, sc, c.keys, nil).Err() })
			refused := err != nil && strings.Contains(err.Error(), keyRuleError)
			if want := c.says != ""; refused != want || want && !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want one that names %q", err, c.says)
			}
			if len(rule.breaches) > 0 != refused {
				t.Errorf("breaches %q", rule.breaches)
			}
		})
	}
}

// keyRule is a hook of the client that has the server run each script with the check.
type keyRule struct {
	names   map[string]string // of scripts, by hash
	sources map[string]string // with the check, by name

	mu       sync.Mutex
	run      map[string]bool
	breaches []string
}

//go:embed testdata/keyrule.lua
var keyRuleLua string

// keyRuleError begins what a script says that breaks the rule.
const keyRuleError = "key rule: "

// finds matches a kind of keys in the list at the top of a script.
var finds = regexp.MustCompile(`usher:\{tag\}:([a-z]+):<[a-z]+>`)

func newKeyRule(scripts map[string]script) *keyRule {
	k := &keyRule{names: map[string]string{}, sources: map[string]string{}, run: map[string]bool{}}
	for name, sc := range scripts {
		kinds := map[string]bool{}
		for line := range strings.Lines(sc.source) {
			if strings.HasPrefix(line, "-- Finds: ") {
				for _, m := range finds.FindAllStringSubmatch(line, -1) {
					kinds[m[1]] = true
				}
			}
		}
		list := ""
		for _, kind := range slices.Sorted(maps.Keys(kinds)) {
			list += fmt.Sprintf("%s = true, ", kind)
		}
		k.names[sc.sha] = name
		k.sources[name] = strings.Replace(keyRuleLua, "--[[kinds]]", list, 1) + sc.source
	}
	return k
}

// open returns a store that keeps the rule. The test closes it.
func (k *keyRule) open(t *testing.T, url string) *Store {
	t.Helper()
	s, err := Open(url, Options{Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	s.client.AddHook(k)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func (k *keyRule) DialHook(next goredis.DialHook) goredis.DialHook { return next }

func (k *keyRule) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, cmd goredis.Cmder) error {
		k.wrap(cmd)
		err := next(ctx, cmd)
		k.note(cmd)
		return err
	}
}

func (k *keyRule) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, list []goredis.Cmder) error {
		for _, cmd := range list {
			k.wrap(cmd)
		}
		err := next(ctx, list)
		for _, cmd := range list {
			k.note(cmd)
		}
		return err
	}
}

// wrap makes the command send the script with the check.
func (k *keyRule) wrap(cmd goredis.Cmder) {
	args := cmd.Args()
	if name, _ := args[0].(string); name != "evalsha" {
		return
	}
	sha, _ := args[1].(string)
	k.mu.Lock()
	defer k.mu.Unlock()
	name, ok := k.names[sha]
	if !ok {
		k.breaches = append(k.breaches, "a script that the list of the test lacks: "+sha)
		return
	}
	k.run[name] = true
	args[0], args[1] = "eval", k.sources[name]
}

func (k *keyRule) note(cmd goredis.Cmder) {
	if err := cmd.Err(); err != nil && strings.Contains(err.Error(), keyRuleError) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.breaches = append(k.breaches, err.Error())
	}
}
