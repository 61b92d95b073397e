// Package upgrade runs clusters of two versions of the usher binary side by side. A
// real cluster is upgraded one process at a time, and then downgraded in the same way,
// while clients exchange messages. The clients use the Go SDK of the working tree.
//
// The version of the working tree is "new". What "old" is, in this order:
//
//   - USHER_OLD=REV: the git revision. The test prints what it finds, and fails only if
//     the file from is not empty.
//   - The git revision in the file from, which a release sets: see docs/RELEASING.md.
//   - The working tree. Then both binaries differ only in the commit that they report.
//     This shows that the test itself works, and that a restart of each process in
//     both directions disturbs nobody.
//
// USHER_LONG=1 runs more clients, and several rounds.
package upgrade
