#!/bin/sh
# What "make demo" shows: records from a capture in which pods, services and
# nodes are named. Usage: demo.sh BINARY CAPTURE SNAPSHOT
set -eu

enrich() {
	"$1" -loglevel warning -kube.snapshot "$3" -mapping SrcAddr=Src,DstAddr=Dst,SamplerAddress=Exporter -fields "$4" "$2"
}

few=$(enrich "$@" SrcAddr,SrcPod,SrcWorkload,SrcWorkloadKind,DstAddr,DstPod,DstPort,DstWorkload,DstWorkloadKind,ProtoName,Bytes,ExporterWorkload,ExporterWorkloadKind)
full=$(enrich "$@" default)

# One record of each kind; awk stops the demo if one is missing.
printf '%s\n' "$few" | awk '
	function take(i) { if (!taken[i]) { taken[i] = 1; print $0 "\n" } }
	/"DstWorkloadKind":"Service".*"ProtoName":"TCP"/                          { take(1) }
	/"DstWorkload":"apiserver".*"SrcWorkloadKind":"Deployment"/ && /10\.244/   { take(2) }
	/"DstWorkload":"coredns".*"ExporterWorkload":"worker-2".*"SrcWorkloadKind":"CronJob"/ && /10\.244/ { take(3) }
	/"DstAddr":"fd00:.*"DstPod".*"ProtoName":"TCP".*"SrcPod"/                 { take(4) }
	END { for (i = 1; i <= 4; i++) if (!taken[i]) { print "demo: record " i " is missing" > "/dev/stderr"; exit 1 } }
'
printf '%s\n\n' "$(printf '%s\n' "$full" | grep '"DstWorkload":"kube-dns"' | head -n 1)"

cat <<END
These are 5 of $(printf '%s\n' "$few" | wc -l | tr -d ' ') flows. Open vSwitch exported them by IPFIX on two nodes. The first four show a few fields, the last one all.
Each names pods and their workloads, or services, at both ends. It also names the node that exported it.
The flows are in $2, the cluster's objects in $3: change a name there and run this again.
Next: $1 -kubeconfig FILE (then point exporters at UDP port 2055), or $1 -h.
END
