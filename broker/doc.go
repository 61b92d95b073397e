// Package broker decides where sessions go. It joins the parts that know: the
// placement of nodes, the session store that is the only shared truth, the
// signer of tokens, and the cluster that carries commands to nodes.
//
// A broker holds nothing that another broker needs. Any number of them decide
// side by side; where two decide about one session, the store lets one win and
// the other follows.
package broker
