package importrules

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	maxFunctionLines = 60
	maxFileLines     = 400
	maxNodeFiles     = 26
)

// longFunctions and longFiles are exempt from the limits. A function is here because
// it is a table; a line that is not needed is an error.
var (
	longFunctions = []string{
		"node/metrics.go newMetrics",
		"test/peers/cases.go cases",
	}
	longFiles = []string{}
)

// TestSizes checks the length of files and functions that are not tests, and the number
// of files of package node.
func TestSizes(t *testing.T) {
	s := measureSizes(t, root)
	s.check(t, "function", s.functions, maxFunctionLines, longFunctions)
	s.check(t, "file", s.files, maxFileLines, longFiles)
	if n := s.filesIn("node"); n == 0 || n > maxNodeFiles {
		t.Errorf("package node has %d files that are not tests, want 1 to %d", n, maxNodeFiles)
	}
	t.Logf("package node: %d files, %d boolean fields", s.filesIn("node"), s.booleans["node"])
	t.Logf("longest functions: %s", longest(s.functions, 5))
	t.Logf("longest files: %s", longest(s.files, 5))
}

// TestSizesFixture measures a file whose sizes are known.
func TestSizesFixture(t *testing.T) {
	s := measureSizes(t, filepath.Join("testdata", "sizes"))
	for name, want := range map[string]int{"shape.go area": 3, "shape.go (shape) String": 1} {
		if s.functions[name] != want {
			t.Errorf("%s has %d lines, want %d: %v", name, s.functions[name], want, s.functions)
		}
	}
	if len(s.functions) != 2 || s.files["shape.go"] != 14 || len(s.files) != 1 || s.booleans["."] != 3 {
		t.Errorf("functions %v, files %v, boolean fields %v; want 2 functions, one file of 14 lines, and 3 boolean fields", s.functions, s.files, s.booleans)
	}
}

// sizes holds numbers of lines by name, of the files that are not tests.
type sizes struct {
	functions map[string]int // by file and name
	files     map[string]int
	booleans  map[string]int // fields of structs, by directory
}

// measureSizes measures the Go files below dir, except for testdata.
func measureSizes(t *testing.T, dir string) sizes {
	t.Helper()
	s := sizes{functions: map[string]int{}, files: map[string]int{}, booleans: map[string]int{}}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch name := d.Name(); {
		case d.IsDir() && path != dir && (name == "testdata" || name == "node_modules" || strings.HasPrefix(name, ".")):
			return filepath.SkipDir
		case d.IsDir(), !strings.HasSuffix(name, ".go"), strings.HasSuffix(name, "_test.go"):
			return nil
		}
		relative, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		return s.measure(path, filepath.ToSlash(relative))
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// measure measures one file.
func (s *sizes) measure(path, name string) error {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	line := func(p token.Pos) int { return set.Position(p).Line }
	s.files[name] = line(file.FileEnd-1) - line(file.FileStart) + 1
	dir := filepath.ToSlash(filepath.Dir(name))
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			s.functions[name+" "+functionName(n)] = line(n.End()) - line(n.Pos()) + 1
		case *ast.StructType:
			s.booleans[dir] += booleanFields(n)
		}
		return true
	})
	return nil
}

// functionName returns the name of a function, with the type of its receiver.
func functionName(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return f.Name.Name
	}
	receiver := f.Recv.List[0].Type
	if star, ok := receiver.(*ast.StarExpr); ok {
		receiver = star.X
	}
	if generic, ok := receiver.(*ast.IndexExpr); ok {
		receiver = generic.X
	}
	if id, ok := receiver.(*ast.Ident); ok {
		return "(" + id.Name + ") " + f.Name.Name
	}
	return f.Name.Name
}

// booleanFields returns the number of the fields of type bool or atomic.Bool.
func booleanFields(s *ast.StructType) int {
	n := 0
	for _, f := range s.Fields.List {
		id, plain := f.Type.(*ast.Ident)
		atomic, imported := f.Type.(*ast.SelectorExpr)
		if plain && id.Name == "bool" || imported && atomic.Sel.Name == "Bool" {
			n += len(f.Names)
		}
	}
	return n
}

// check reports what is longer than most, and names in exempt that are not.
func (s *sizes) check(t *testing.T, what string, lines map[string]int, most int, exempt []string) {
	t.Helper()
	for name, n := range lines {
		if n > most && !slices.Contains(exempt, name) {
			t.Errorf("%s: %s of %d lines, at most %d are allowed", name, what, n, most)
		}
	}
	for _, name := range exempt {
		if lines[name] <= most {
			t.Errorf("%s: %s of %d lines: remove it from the exemptions", name, what, lines[name])
		}
	}
}

// filesIn returns the number of files in a directory, without those in directories
// below it.
func (s *sizes) filesIn(dir string) int {
	n := 0
	for name := range s.files {
		if filepath.ToSlash(filepath.Dir(name)) == dir {
			n++
		}
	}
	return n
}

// longest returns the n longest names with their lines, as text.
func longest(lines map[string]int, n int) string {
	names := slices.SortedFunc(maps.Keys(lines), func(a, b string) int { return cmp.Or(lines[b]-lines[a], strings.Compare(a, b)) })
	var list []string
	for _, name := range names[:min(n, len(names))] {
		list = append(list, fmt.Sprintf("%s %d", name, lines[name]))
	}
	return strings.Join(list, ", ")
}
