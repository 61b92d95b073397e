// Package load generates the load of a load test: sessions that log in, attach, send,
// are cut and resume, on a schedule that does not depend on the answers.
//
// The clients use little memory and processor time, because they run on the machine
// that they measure. Nevertheless they keep to the session protocol, count messages
// with the code of the nodes, and detect lost and duplicated messages.
package load
