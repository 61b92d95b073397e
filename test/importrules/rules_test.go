package importrules

// Paths are relative to the module prefix. "dir/..." is a directory and everything
// below it.

// rules lists which packages of the repository a package may import. The first
// line that matches a package applies to it.
var rules = []struct {
	pkg      string
	may      []string
	testsMay []string // what tests may import in addition
}{
	{"proto/...", []string{"proto/..."}, nil},

	{"broker/nodes", []string{"proto"}, nil},
	{"broker/placement", []string{"proto", "broker/nodes"}, nil},
	{"broker/placement/simulate", []string{"proto", "broker/nodes", "broker/placement"}, nil},
	{"broker/cluster", []string{"proto"}, nil},
	{"broker/token/tokentest", []string{"proto"}, nil},
	{"broker/token", []string{"proto", "proto/strictjson"}, []string{"proto/vectors", "broker/token/tokentest"}},
	{"broker/httpapi", []string{"proto"}, nil},
	{"broker/session", []string{"proto"}, nil},
	{"broker/session/redistest", nil, nil},
	{"broker/session/...", []string{"proto", "broker/session"}, []string{"broker/session/..."}},
	{"broker/console", []string{"proto", "proto/strictjson", "broker", "broker/httpapi", "broker/nodes", "broker/placement", "broker/session"}, []string{"broker/..."}},
	{"broker", []string{"proto", "broker/nodes", "broker/placement", "broker/session"}, []string{"broker/..."}},

	{"broker/process/acme", nil, nil},
	{"broker/process", []string{"proto", "broker/cluster", "broker/httpapi", "broker/process/acme", "broker/session", "broker/session/redis"}, nil},
	{"broker/serve", []string{"proto", "broker", "broker/cluster", "broker/console", "broker/nodes", "broker/placement", "broker/process", "broker/session"}, nil},

	{"auth/credential", []string{"proto", "proto/strictjson"}, nil},
	{"auth/serve", []string{"auth", "auth/credential", "broker", "broker/process", "broker/token"}, nil},
	{"auth", []string{"proto", "proto/strictjson", "auth/credential", "broker", "broker/httpapi", "broker/placement", "broker/session", "broker/token"}, []string{"broker/..."}},

	// A game server imports node and node/serve. Neither may need auth or broker/console,
	// and TestDependencies checks that they do not need them indirectly.
	{"node", []string{"proto", "proto/stream", "broker/session", "broker/token", "node/internal/..."}, []string{"proto/vectors", "broker/session/...", "broker/token/tokentest"}},
	{"node/internal/wire/wiretest", nil, nil},
	{"node/internal/wire", nil, []string{"node/internal/wire/wiretest"}},
	{"node/internal/wheel", []string{"node/internal/lock"}, nil},
	{"node/internal/lock", nil, nil},
	{"node/internal/lease", []string{"broker/session", "node/internal/lock", "node/internal/wheel"}, []string{"proto", "broker/session/memory"}},
	{"node/field", []string{"proto", "node"}, nil},
	{"node/serve", []string{"proto", "node", "broker/cluster", "broker/httpapi", "broker/process", "broker/session", "broker/token"}, []string{"broker/session/memory"}},
	{"node/dev", []string{
		"proto", "auth/credential", "auth/serve", "broker/cluster", "broker/nodes", "broker/process", "broker/serve",
		"broker/session", "broker/session/memory", "broker/token", "node", "node/serve",
	}, []string{"client-sdk/go"}},
	{"node/examples/...", []string{"proto", "node", "node/serve"}, nil}, // what a game server needs
	{"client-sdk/go/...", []string{"proto/...", "client-sdk/go/..."}, nil},

	{"cmd/usher/conformance", []string{"proto", "proto/stream"}, nil},
	{"cmd/usher", []string{
		"proto", "auth/credential", "auth/serve", "broker", "broker/cluster", "broker/console", "broker/httpapi", "broker/nodes", "broker/process",
		"broker/serve", "broker/session", "broker/session/redis", "broker/token", "client-sdk/go", "cmd/usher/conformance", "node", "node/dev", "node/field", "node/serve",
	}, nil},
	{"cmd/usher-bench/load", []string{"proto", "proto/stream"}, nil},
	{"cmd/usher-bench", []string{
		"proto", "broker/cluster", "broker/placement/simulate", "broker/process", "broker/session", "broker/session/memory", "broker/token",
		"client-sdk/go", "cmd/usher-bench/load", "node", "node/serve",
	}, nil},
	{"test/...", []string{"..."}, nil},
}

// external lists the agreed external modules, and which packages may import each,
// so that a module can be replaced in one place. It applies to tests as well. A
// module that is not listed here may not be imported.
var external = map[string][]string{
	"github.com/hashicorp/memberlist":   {"broker/cluster"},
	"github.com/redis/go-redis":         {"broker/session/redis"},
	"github.com/golang-jwt/jwt":         {"broker/token", "auth/credential", "test/peers/server"},
	"github.com/MicahParks":             {"broker/token", "auth/credential"},
	"github.com/alexedwards/argon2id":   {"auth/credential", "test/peers/server"},
	"github.com/alecthomas/kong":        {"broker/process", "node/serve", "node/dev"},
	"github.com/schollz/progressbar/v3": {"cmd/usher"}, // the progress of a drain
	"github.com/HdrHistogram":           {"cmd/usher-bench/load"},
	"github.com/gobwas/ws":              {"cmd/usher-bench/load"},
	"github.com/gorilla/websocket":      {"test/peers/server"},
	"github.com/lxzan/gws":              {"test/peers/server"},
	"github.com/redis/rueidis":          {"test/peers/server"},
	"github.com/caddyserver/certmagic":  {"broker/process/acme"},
	"github.com/go-chi":                 {"auth", "broker/console"},
	"github.com/coder/websocket":        {"node", "node/internal/wire", "client-sdk/go", "cmd/usher/conformance", "cmd/usher-bench", "test/..."},
	"github.com/prometheus":             {"auth", "auth/serve", "broker/process", "broker/serve", "node", "node/serve", "node/dev", "cmd/usher"},
	"github.com/getkin/kin-openapi":     {"auth", "broker/console"}, // in tests
	"github.com/rogpeppe/go-internal":   {"test/script"},
	"pgregory.net/rapid":                {"..."},
	"go.uber.org/goleak":                {"..."},
	"golang.org/x/mod":                  {"test/release"},
	"golang.org/x/sync":                 {"broker", "auth/credential", "node", "cmd/usher-bench", "test/peers"},
	"golang.org/x/term":                 {"cmd/usher"}, // is the output a terminal?
	"golang.org/x/time":                 {"broker/console", "auth/credential"},
	"github.com/sony/gobreaker":         {"auth/credential", "broker/session/redis"},
	"github.com/rs/cors":                {"auth", "cmd/usher/conformance"}, // both answer web pages of other origins
	"github.com/cenkalti/backoff":       {"auth/credential"},
}

// banned lists modules that no package may import directly.
var banned = []string{
	"github.com/stretchr/testify",
	"github.com/spf13/cobra",
	"github.com/spf13/viper",
	"go.uber.org/zap",
	"github.com/testcontainers",
	"github.com/alicebob/miniredis",
	"go.opentelemetry.io",
	"google.golang.org/protobuf",
	"github.com/golang/protobuf",
}

// meaninglessNames lists package names that say nothing about the package.
var meaninglessNames = []string{"common", "util", "utils", "types", "helpers", "misc", "shared"}

// standardOnly lists packages that may import only the standard library and the
// packages that rules allows. Their tests may import more.
var standardOnly = []string{"proto/...", "node/internal/wire", "broker/nodes", "broker/placement", "broker/placement/simulate", "broker/session", "broker/httpapi"}
