// Package walls holds the imports of every package to the plan of the house:
// who may enter which room. The compiler does not: in a workspace any module
// builds with any other.
//
// A new package needs a line in rooms, and a moved wall a changed one. That is
// meant: say in the commit why.
package importrules
