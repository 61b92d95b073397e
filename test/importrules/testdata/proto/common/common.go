// Package common has a name that says nothing.
package common
