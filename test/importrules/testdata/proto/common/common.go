// Package common has a name that does not say what the package does.
package common
