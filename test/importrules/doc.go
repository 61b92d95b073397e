// Package importrules checks the imports of every package against the rules in
// rules_test.go. The compiler does not check them: in a workspace every module
// can import every other. It also checks the length of files and functions against the
// limits in sizes_test.go, the layers of package node against layers_test.go, and that
// the files exist which docs/path.md names.
//
// A new package needs a new line in rules, and a new dependency between packages
// needs a changed line. This is intended: give the reason in the commit message.
package importrules
