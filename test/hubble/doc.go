// Package hubble holds the program to Cilium's own code: the hubble command, built from its
// module, asks the running program, and what Hubble's filters let through is compared with what
// the program sends. It is a module of its own, since Cilium needs other versions of Kubernetes'
// modules than the program. "make e2e-hubble" runs it.
package hubble
