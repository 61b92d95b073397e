// Package usher is the client of an Usher cluster: it logs in, attaches to the
// node it is given, and keeps one session alive over as many connections as it
// takes.
//
//	s, err := usher.Connect(ctx, usher.Config{
//		Auth:        "https://auth.example.com",
//		Credentials: usher.Guest("ada"),
//	})
//
// What is sent and received with [Session.Send] and [Session.Receive] is
// delivered exactly once and in order while the node lives, however often the
// connection is cut in between; nothing needs to be done about a cut. When the
// messages in flight could not be kept, because the node died for example, the
// session goes on with a new stream and [Config.OnReset] is told which of the
// client's own messages were never confirmed.
//
// The protocol is in proto/PROTOCOL.md of the project. The states of a session
// are in client-sdk/README.md.
package usher
