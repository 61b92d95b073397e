// Package deploy holds what is in deploy/ to the tools that will read it: the
// Kubernetes manifests to the API's schemas, the rules and the dashboard to
// Prometheus, the units to systemd; and all of them, with the docs, to the names
// that the binary has.
//
// Tools that are not there are skipped, unless USHER_SLOW is set.
package deploy
