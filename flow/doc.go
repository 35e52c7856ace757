// Package flow holds what the other packages hand to each other: the decoded
// [Record], the Kubernetes [Object] that owns one of its addresses, and the one
// table of fields from which encoders, the mapping and the documentation are
// made. It knows nothing of sockets, clusters or outputs.
package flow
