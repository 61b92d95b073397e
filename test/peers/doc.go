// Peers measures Usher beside what people would use in its place, on one machine
// and in one run: the subjects take turns, several times over, so that what else the
// machine does hits all of them; the report has medians, their spread, and ratios.
//
//	go run ./test/peers -only echo -runs 3
//
// It starts every server itself, on loopback addresses, and stops it.
package main
