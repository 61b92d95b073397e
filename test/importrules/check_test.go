package importrules

import (
	"fmt"
	"slices"
	"strings"
)

const prefix = "github.com/usher-broker/usher"

// pkg is what «go list» says of a package.
type pkg struct {
	ImportPath   string
	Name         string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// check returns what is wrong with the imports of a package, a line each.
func check(p pkg) []string {
	var wrong []string
	self := room(p.ImportPath)
	if slices.Contains(noNames, p.Name) {
		wrong = append(wrong, fmt.Sprintf("%s: package %s says nothing by its name", self, p.Name))
	}
	for _, path := range p.Imports {
		wrong = append(wrong, checkImport(self, path, false)...)
	}
	for _, path := range slices.Concat(p.TestImports, p.XTestImports) {
		wrong = append(wrong, checkImport(self, path, true)...)
	}
	slices.Sort(wrong)
	return slices.Compact(wrong)
}

func checkImport(self, path string, test bool) []string {
	wrong := func(format string, args ...any) []string {
		return []string{self + " imports " + path + ": " + fmt.Sprintf(format, args...)}
	}
	if path == prefix || strings.HasPrefix(path, prefix+"/") {
		if why := checkRoom(self, room(path), test); why != "" {
			return wrong("%s", why)
		}
		return nil
	}
	if first, _, _ := strings.Cut(path, "/"); !strings.Contains(first, ".") {
		return nil // the standard library
	}
	for _, b := range banned {
		if below(path, b) {
			return wrong("banned everywhere")
		}
	}
	if !test && matches(self, standardOnly) {
		return wrong("only the standard library may be imported here")
	}
	for module, may := range only {
		if !below(path, module) {
			continue
		}
		if !matches(self, may) {
			return wrong("only %s may", strings.Join(may, ", "))
		}
		return nil
	}
	return wrong("nobody has agreed to this module")
}

// checkRoom returns why a package may not enter another, or "".
func checkRoom(self, other string, test bool) string {
	for _, r := range rooms {
		if !match(self, r.room) {
			continue
		}
		if other == self || matches(other, r.may) || test && matches(other, r.own) {
			return ""
		}
		return "it may enter " + strings.Join(r.may, ", ") + " alone"
	}
	return "it is in no room yet"
}

// room is the path of a package without the prefix of the repository.
func room(path string) string { return strings.TrimPrefix(strings.TrimPrefix(path, prefix), "/") }

func matches(path string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return match(path, p) })
}

func match(path, pattern string) bool {
	if pattern == "..." {
		return true
	}
	if dir, ok := strings.CutSuffix(pattern, "/..."); ok {
		return below(path, dir)
	}
	return path == pattern
}

// below reports whether the path is the directory or in it.
func below(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }
