// Command kube-enricher turns the NetFlow, IPFIX and sFlow export of a
// Kubernetes cluster into records that name pods, workloads and services.
package main

import "os"

func main() {
	os.Exit(run(os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}
