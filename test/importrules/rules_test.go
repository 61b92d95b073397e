package importrules

// Paths are below the module prefix; «dir/...» is a directory and all below it.

// rooms says which packages of the repository a package may import. The first
// line that a package matches counts. Tests may import more: what their module
// requires, which is what «own» says.
var rooms = []struct {
	room string
	may  []string
	own  []string // of tests, in addition
}{
	{"proto/...", []string{"proto/..."}, nil},

	{"broker/placement", []string{"proto"}, nil},
	{"broker/placement/simulate", []string{"proto", "broker/placement"}, nil},
	{"broker/cluster", []string{"proto"}, nil},
	{"broker/token/tokentest", []string{"proto"}, nil},
	{"broker/token", []string{"proto", "proto/jsonwalk"}, []string{"proto/vectors", "broker/token/tokentest"}},
	{"broker/httpapi", []string{"proto"}, nil},
	{"broker/session", []string{"proto"}, nil},
	{"broker/session/redistest", nil, nil},
	{"broker/session/...", []string{"proto", "broker/session"}, []string{"broker/session/..."}},
	{"broker/console", []string{"proto", "broker", "broker/httpapi", "broker/placement", "broker/session"}, []string{"broker/..."}},
	{"broker", []string{"proto", "broker/placement", "broker/session"}, []string{"broker/..."}},

	{"auth/...", []string{"proto", "proto/jsonwalk", "auth/...", "broker", "broker/httpapi", "broker/placement", "broker/session", "broker/token"}, []string{"broker/..."}},
	{"node/examples/...", []string{"proto/...", "node", "broker/cluster", "broker/session/...", "broker/token"}, nil}, // whole programs
	{"node/...", []string{"proto/...", "node/...", "broker/session", "broker/token"}, []string{"broker/..."}},
	{"client-sdk/go/...", []string{"proto/...", "client-sdk/go/..."}, nil},

	{"cmd/usher/...", []string{"proto/...", "broker/...", "auth/...", "node/...", "client-sdk/go/...", "cmd/usher/..."}, nil},
	{"test/...", []string{"..."}, nil},
}

// only says which packages may name a module of somebody else, so that it can
// be exchanged in one place. It holds for tests as well. A module that is not
// here is one that nobody has agreed to yet.
var only = map[string][]string{
	"github.com/hashicorp/memberlist":  {"broker/cluster"},
	"github.com/redis/go-redis":        {"broker/session/redis"},
	"github.com/golang-jwt/jwt":        {"broker/token", "auth/credential", "test/peers/server"},
	"github.com/MicahParks":            {"broker/token", "auth/credential"},
	"github.com/alexedwards/argon2id":  {"auth/credential", "test/peers/server"},
	"github.com/alecthomas/kong":       {"cmd/usher"},
	"github.com/HdrHistogram":          {"cmd/usher/load"},
	"github.com/gobwas/ws":             {"cmd/usher/load"},
	"github.com/gorilla/websocket":     {"test/peers/server"},
	"github.com/lxzan/gws":             {"test/peers/server"},
	"github.com/redis/rueidis":         {"test/peers/server"},
	"github.com/caddyserver/certmagic": {"cmd/usher/acme"},
	"github.com/go-chi":                {"auth", "broker/console"},
	"github.com/coder/websocket":       {"node/...", "client-sdk/go/...", "cmd/usher/...", "test/..."},
	"github.com/prometheus":            {"auth/...", "node/...", "cmd/usher", "test/..."},
	"github.com/getkin/kin-openapi":    {"auth", "broker/console", "test/..."},
	"github.com/rogpeppe/go-internal":  {"test/..."},
	"pgregory.net/rapid":               {"..."},
	"go.uber.org/goleak":               {"..."},
	"golang.org/x":                     {"broker/...", "auth/...", "node/...", "client-sdk/go/...", "cmd/usher", "test/..."},
	"github.com/google/uuid":           {"broker/...", "auth/...", "node/..."},
	"github.com/sony/gobreaker":        {"auth/credential"},
	"github.com/cenkalti/backoff":      {"broker/...", "auth/...", "node/..."},
}

// banned are modules that no package may import directly.
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

// noNames are names of packages that say nothing.
var noNames = []string{"common", "util", "utils", "types", "helpers", "misc", "shared"}

// standardOnly may import nothing but the standard library and what rooms
// says. Their tests may.
var standardOnly = []string{"proto/...", "broker/placement", "broker/placement/simulate", "broker/session", "broker/httpapi"}
