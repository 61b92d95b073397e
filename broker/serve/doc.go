// Package serve runs a broker as part of a process: it joins the cluster, watches
// the nodes, decides where sessions go, and serves the private API. usher auth,
// usher broker and the development cluster (package node/dev) are made of it.
package serve
