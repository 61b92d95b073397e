// Package load makes the load of a load test: sessions that log in, attach,
// send, are cut and resume, on a schedule that does not wait for answers.
//
// The clients are as lean as can be, since they share the machine with what they
// measure; they keep to the session protocol all the same, count with the code
// that nodes count with, and notice what is lost or comes twice.
package load
