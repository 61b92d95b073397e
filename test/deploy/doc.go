// Package deploy checks the files in deploy/ with the tools that read them: the
// Kubernetes manifests against the schemas of the Kubernetes API, the alert rules and
// the dashboard with Prometheus, and the units with systemd. It also checks that flags,
// variables and metrics named in these files and in docs/ exist in the binary.
//
// A check whose tool is not installed is skipped, unless USHER_SLOW is set.
package deploy
