// Peers compares Usher with the software that people would use in its place, on one
// machine and in one run. The subjects of a case run alternately, several times, so that
// other load on the machine affects all of them. The report has medians, their range,
// and ratios.
//
//	go run ./test/peers -only echo -runs 3
//
// With -before it compares two builds of Usher instead:
//
//	go run ./test/peers -before /tmp/earlier/bin
//
// It starts every server itself, on loopback addresses, and stops it.
package main
