package importrules

import (
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// nodeLayers lists the files of package node from the lowest layer to the highest. A
// file may call functions of its own layer and of those before it. node/doc.go
// describes the layers.
var nodeLayers = [][]string{
	{"doc.go", "app.go", "config.go"},
	{"node.go", "phase.go", "session.go", "callbacks.go", "conn.go", "write.go", "acks.go", "liveness.go", "state.go", "checkpoint.go", "departures.go", "end.go"},
	{"acquire.go", "attach.go", "move.go", "persist.go"},
	{"drain.go", "rebalance.go", "command.go"},
	{"connect.go", "metrics.go", "run.go", "apps.go"},
}

// TestNodeLayers checks that no file of package node calls a function of a higher layer.
func TestNodeLayers(t *testing.T) {
	layer := map[string]int{}
	for i, files := range nodeLayers {
		for _, f := range files {
			layer[f] = i
		}
	}
	fset, files := parseDir(t, filepath.Join(root, "node"))
	for _, f := range files {
		if name := fileOf(fset, f.Pos()); layer[name] == 0 && !slices.Contains(nodeLayers[0], name) {
			t.Errorf("node/%s is in no layer", name)
		}
	}
	for f := range layer {
		if _, err := os.Stat(filepath.Join(root, "node", f)); err != nil {
			t.Errorf("a layer names node/%s: %v", f, err)
		}
	}
	up := 0
	for _, c := range callsAcross(fset, files) {
		if layer[c.to] > layer[c.from] {
			up++
			t.Errorf("node/%s calls %s of node/%s, which is in a higher layer", c.from, c.function, c.to)
		}
	}
	t.Logf("%d files in %d layers, %d calls upwards", len(files), len(nodeLayers), up)
}

// TestLayersFixture finds the calls between two files.
func TestLayersFixture(t *testing.T) {
	fset, files := parseDir(t, filepath.Join("testdata", "layers"))
	got := callsAcross(fset, files)
	want := []call{{"high.go", "low.go", "lower"}, {"low.go", "high.go", "method"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// call is a use of a function or a method that another file of the package declares.
type call struct{ from, to, function string }

// parseDir parses the Go files of a directory that are not tests.
func parseDir(t *testing.T, dir string) (*token.FileSet, []*ast.File) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no Go files in %s: %v", dir, err)
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return fset, files
}

// callsAcross returns the calls between the files of a package, each once, in the order
// of their names. It does not load what the package imports: the calls within the
// package can be resolved without it.
func callsAcross(fset *token.FileSet, files []*ast.File) []call {
	config := types.Config{Importer: importer.ForCompiler(fset, "none", nil), Error: func(error) {}}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	pkg, _ := config.Check("p", fset, files, info) // the imports are missing, so it always fails
	var list []call
	for id, o := range info.Uses {
		f, ok := o.(*types.Func)
		if !ok || f.Pkg() != pkg {
			continue
		}
		c := call{fileOf(fset, id.Pos()), fileOf(fset, f.Pos()), f.Name()}
		if c.from != c.to && !slices.Contains(list, c) {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b call) int {
		return strings.Compare(a.from+" "+a.to+" "+a.function, b.from+" "+b.to+" "+b.function)
	})
	return list
}

func fileOf(fset *token.FileSet, p token.Pos) string {
	return filepath.Base(fset.Position(p).Filename)
}
