package proto

// Version is the version of everything that is released from this repository:
// the Go module, the usher binaries, the container image and the SDK packages.
// Between two releases it ends in "-dev". docs/RELEASING.md says how it changes.
const Version = "0.1.0-dev"
