package importrules

import (
	"fmt"
	"slices"
	"strings"
)

const prefix = "github.com/usher-broker/usher"

// listedPackage holds the fields of a package that go list prints.
type listedPackage struct {
	ImportPath   string
	Name         string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// check returns the violations of the rules by a package, one line each.
func check(p listedPackage) []string {
	var wrong []string
	self := relativePath(p.ImportPath)
	if slices.Contains(meaninglessNames, p.Name) {
		wrong = append(wrong, fmt.Sprintf("%s: the name %s does not say what the package does", self, p.Name))
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
		if why := checkInternal(self, relativePath(path), test); why != "" {
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
		return wrong("this package may import only the standard library")
	}
	for module, importers := range external {
		if !below(path, module) {
			continue
		}
		if !matches(self, importers) {
			return wrong("only %s may import it", strings.Join(importers, ", "))
		}
		return nil
	}
	return wrong("the module is not in the list of agreed modules")
}

// checkInternal returns why a package of the repository may not import another,
// or "".
func checkInternal(self, other string, test bool) string {
	for _, r := range rules {
		if !match(self, r.pkg) {
			continue
		}
		if other == self || matches(other, r.may) || test && matches(other, r.testsMay) {
			return ""
		}
		if len(r.may) == 0 {
			return "it may import no other package of the repository"
		}
		return "it may import only " + strings.Join(r.may, ", ")
	}
	return "no rule exists for this package: add one to rules"
}

// relativePath returns an import path of the repository without its prefix.
func relativePath(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, prefix), "/")
}

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

// below reports whether path is dir or a path in it.
func below(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }
