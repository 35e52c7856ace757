#!/bin/sh
# What "make demo" shows: records from a capture in which pods, services and
# nodes are named. Usage: demo.sh BINARY CAPTURE SNAPSHOT
set -eu

enrich() {
	"$1" -loglevel warning -summary=false -kube.snapshot "$3" -mapping SrcAddr=Src,DstAddr=Dst,SamplerAddress=Exporter -fields "$4" "$2"
}

few=$(enrich "$@" SrcAddr,SrcPod,SrcNamespace,SrcWorkload,SrcWorkloadKind,DstAddr,DstPod,DstPort,DstNamespace,DstWorkload,DstWorkloadKind,ProtoName,Bytes,CountsOnce,ExporterWorkload,ExporterWorkloadKind)
full=$(enrich "$@" default)

echo "Flows that Open vSwitch exported by IPFIX on two nodes of a cluster, each with the names of its ends"
echo "(-format text):"
echo
"$1" -loglevel warning -summary=false -kube.snapshot "$3" -format text "$2" | sed -n '1,8p;60,66p'

echo
echo "Who sent most, each packet counted once:"
echo
printf '%s\n' "$few" | awk '
	function value(name,   v) {
		if (!match($0, "\"" name "\":(\"[^\"]*\"|[0-9]+)")) return ""
		v = substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 3)
		gsub(/"/, "", v)
		return v
	}
	function end(p,   name) {
		name = value(p "Workload")
		if (name == "") return value(p "Addr")
		return value(p "Namespace") (value(p "Namespace") == "" ? "" : "/") name
	}
	/"CountsOnce":true/ { bytes[end("Src") " -> " end("Dst")] += value("Bytes") }
	END { for (pair in bytes) printf "  %9d bytes  %s\n", bytes[pair], pair }
' | sort -rn | awk 'NR <= 8'

# One record of each kind; awk stops the demo if one is missing.
printf '%s\n' "$few" | awk '
	/"DstWorkloadKind":"Service".*"ProtoName":"TCP"/                          { taken[1] = 1 }
	/"DstWorkload":"apiserver".*"SrcWorkloadKind":"Deployment"/ && /10\.244/   { taken[2] = 1 }
	/"DstWorkload":"coredns".*"ExporterWorkload":"worker-2".*"SrcWorkloadKind":"CronJob"/ && /10\.244/ { taken[3] = 1 }
	/"DstAddr":"fd00:.*"DstPod".*"ProtoName":"TCP".*"SrcPod"/                 { taken[4] = 1 }
	END { for (i = 1; i <= 4; i++) if (!taken[i]) { print "demo: record " i " is missing" > "/dev/stderr"; exit 1 } }
'
echo
echo "One record as JSON, with all default fields:"
echo
printf '%s\n' "$full" | awk '/"DstWorkload":"kube-dns"/ && !seen++' # reads to the end: no broken pipe

cat <<END

The $(printf '%s\n' "$few" | wc -l | tr -d ' ') flows are in $2,
the cluster's objects in $3: change a name there and run this again.
Next: $1 -kubeconfig FILE (then point exporters at UDP port 2055), or $1 -h.
To see who talks to whom in a browser, from a collector at work: make demo-live
END
