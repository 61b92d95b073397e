// Package broker decides which node each session is assigned to. It joins the
// placement of nodes, the session store, the signer of tokens, and the cluster
// that carries commands to nodes.
//
// A broker holds no state that another broker needs; the session store is the
// only shared state. Any number of brokers decide concurrently. If two decide
// about one session, the store accepts one decision and the other broker follows
// it.
package broker
