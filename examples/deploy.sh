#!/bin/sh
# Installs the collector and points the cluster's exporters at it, or takes both
# away, and prints each command that it runs. "make ovnk-deploy", "make
# cno-deploy" and "make undeploy" call it.
#
# Usage: deploy.sh ovnk | cno | undeploy
#
#   ovnk      OVN-Kubernetes as its own project installs it
#   cno       OpenShift, whose Cluster Network Operator sets up the exporters
#   undeploy  stop the exporters, then delete the collector
#
# Targets of others stay. What else ovnk changes is noted in an annotation of
# OVN-Kubernetes' DaemonSet, and undeploy sets it back.
#
# From the environment:
#
#   EXPORT              ipfix (default), or netflow for NetFlow v5
#   NAMESPACE           of the collector (default)
#   IMAGE_REF           image in place of the manifest's
#   KUBECTL             kubectl, and for cno oc
#   OVNK_NAMESPACE, OVNK_DAEMONSET, OVNK_CONTAINER
#                       what runs OVN-Kubernetes: ovn-kubernetes, ovnkube-node,
#                       ovnkube-* (it is called ovnkube-node or
#                       ovnkube-controller, as OVN-Kubernetes is set up)
#   OVN_IPFIX_SAMPLING, OVN_IPFIX_CACHE_MAX_FLOWS, OVN_IPFIX_CACHE_ACTIVE_TIMEOUT
#                       passed on to OVN-Kubernetes where they are set
set -eu

examples=$(dirname "$0")
namespace=${NAMESPACE:-default}
ovnk_namespace=${OVNK_NAMESPACE:-ovn-kubernetes}
ovnk_daemonset=daemonset/${OVNK_DAEMONSET:-ovnkube-node}
ovnk_container=${OVNK_CONTAINER:-ovnkube-*}

exec 3>&1 # where messages go, also out of $(...)
say() { printf '%s\n' "$*" >&3; }
complain() { printf '%s\n' "$*" >&2; }

# run prints a command as it could be typed in, and runs it.
run() {
	line=
	for word; do
		case $word in
		*[!A-Za-z0-9_./:=,@%+-]* | '') word="'$word'" ;;
		esac
		line="$line $word"
	done
	say "+$line"
	"$@"
}

ovnk_settings="OVN_IPFIX_SAMPLING OVN_IPFIX_CACHE_MAX_FLOWS OVN_IPFIX_CACHE_ACTIVE_TIMEOUT"
noted=kube-enricher-before # the annotation: variables with the values that they had
networks="networks.operator.openshift.io cluster"

# of_ovnk prints a field of OVN-Kubernetes' DaemonSet, and current a variable of it.
of_ovnk() { run $KUBECTL get "$ovnk_daemonset" -n "$ovnk_namespace" -o "jsonpath={$1}"; }
current() { of_ovnk ".spec.template.spec.containers[*].env[?(@.name==\"$1\")].value" | cut -d ' ' -f 1; }

# of_openshift prints a field of OpenShift's setting.
of_openshift() { run $KUBECTL get $networks --ignore-not-found -o "jsonpath={.spec.exportNetworkFlows$1}"; }

# without prints the items of a list, separated by commas, that are not among those
# of another one.
without() {
	printf '%s\n' "$1" | tr ', ' '\n\n' | while read -r item; do
		case ",$2," in
		*",$item,"*) ;;
		*) printf '%s\n' "$item" ;;
		esac
	done | paste -s -d , -
}

# targets prints what a Service of the collector may be called by exporters: each of
# its addresses, with the port.
targets() {
	for ip in $(run $KUBECTL get service "$1" -n "$namespace" --ignore-not-found -o 'jsonpath={.spec.clusterIPs[*]}'); do
		case $ip in
		*:*) printf '[%s]:%s\n' "$ip" "$2" ;;
		*) printf '%s:%s\n' "$ip" "$2" ;;
		esac
	done | paste -s -d , -
}

# collectors prints a patch of OpenShift's setting: the collectors of a protocol, or
# null if there are none.
collectors() {
	list=null
	[ -z "$2" ] || list="{\"collectors\":[\"$(printf %s "$2" | sed 's/,/","/g')\"]}"
	printf '{"spec":{"exportNetworkFlows":{"%s":%s}}}' "$1" "$list"
}

case ${EXPORT:-ipfix} in
ipfix) name=goflow manifest=goflow-kube.yaml port=2055 variable=OVN_IPFIX_TARGETS protocol=ipfix ;;
netflow) name=goflow-legacy manifest=goflow-kube-legacy.yaml port=2056 variable=OVN_NETFLOW_TARGETS protocol=netFlow ;;
*)
	complain "EXPORT=$EXPORT: it can be ipfix or netflow"
	exit 2
	;;
esac

# apply installs the collector and sets target to its address.
apply() {
	set -- -e "s|^    namespace: default\$|    namespace: $namespace|"
	if [ -n "${IMAGE_REF:-}" ]; then
		set -- "$@" -e "s|^\( *image:\) .*|\1 $IMAGE_REF|"
	fi
	say "+ sed $(printf " '%s'" "$@" | sed "s/'-e'/-e/g; s/^ //") $examples/$manifest | $KUBECTL apply -n $namespace -f -"
	sed "$@" "$examples/$manifest" | $KUBECTL apply -n "$namespace" -f -
	# Exporters are told only when somebody listens: Open vSwitch loses messages,
	# with the templates in them, while a port is closed.
	run $KUBECTL rollout status -n "$namespace" "deployment/$name" --timeout=5m
	ip=$(run $KUBECTL get service "$name" -n "$namespace" -o "jsonpath={.spec.clusterIP}")
	case $ip in
	'' | None)
		complain "the service $name in the namespace $namespace has no address"
		exit 1
		;;
	*:*) target="[$ip]:$port" ;;
	*) target="$ip:$port" ;;
	esac
}

done_says() {
	say ""
	say "Flows go to $target. See them: $KUBECTL logs -n $namespace -f deployment/$name"
}

case ${1:-} in
ovnk)
	KUBECTL=${KUBECTL:-kubectl}
	apply
	others=$(without "$(current "$variable")" "$target")
	set -- "$variable=${others:+$others,}$target"
	before=""
	for v in $ovnk_settings; do
		eval "value=\${$v:-}"
		[ -n "$value" ] || continue
		[ -n "$before" ] || before=" $(of_ovnk ".metadata.annotations.$noted")"
		case "$before " in
		*" $v="*) ;; # from an earlier call
		*) before="$before $v=$(current "$v")" ;;
		esac
		set -- "$@" "$v=$value"
	done
	[ -z "$before" ] || run $KUBECTL annotate "$ovnk_daemonset" -n "$ovnk_namespace" --overwrite "$noted=$(echo $before)"
	run $KUBECTL set env "$ovnk_daemonset" -n "$ovnk_namespace" -c "$ovnk_container" "$@"
	done_says
	if [ "$variable" = OVN_IPFIX_TARGETS ] && [ -z "${OVN_IPFIX_CACHE_MAX_FLOWS:-}" ]; then
		say "Each sampled packet is a record of its own. OVN_IPFIX_CACHE_MAX_FLOWS=10000 lets Open vSwitch add them up."
	fi
	;;
cno)
	KUBECTL=${KUBECTL:-oc}
	apply
	if [ -n "$(of_openshift "")" ]; then
		others=$(without "$(of_openshift ".$protocol.collectors[*]")" "$target")
		set -- --type=merge -p "$(collectors $protocol "${others:+$others,}$target")"
	else
		set -- --type=json -p "$(sed -e "s/GF_IP:2055/$target/; s/\"ipfix\"/\"$protocol\"/" "$examples/net-cluster-patch.json")"
	fi
	if ! run $KUBECTL patch $networks "$@"; then
		case $target in
		\[*)
			complain "OpenShift's API may take IPv4 addresses only. Another way is on https://github.com/netobserv/goflow2-kube-enricher/blob/main/docs/openshift.md:"
			complain "$KUBECTL create configmap ovs-flows-config -n openshift-network-operator --from-literal=sharedTarget=$target"
			;;
		esac
		exit 1
	fi
	done_says
	;;
undeploy)
	KUBECTL=${KUBECTL:-kubectl}
	# Exporters first: they would go on sending to an address that others may get.
	ipfix=$(targets goflow 2055)
	netflow=$(targets goflow-legacy 2056)
	if [ -n "$(run $KUBECTL get "$ovnk_daemonset" -n "$ovnk_namespace" --ignore-not-found -o name)" ]; then
		set --
		for v in OVN_IPFIX_TARGETS OVN_NETFLOW_TARGETS; do
			ours=$ipfix
			[ $v = OVN_IPFIX_TARGETS ] || ours=$netflow
			before=$(current $v)
			others=$(without "$before" "$ours")
			[ "$others" = "$before" ] || set -- "$@" "$v${others:+=$others}"
		done
		before=$(of_ovnk ".metadata.annotations.$noted")
		for v in $before; do set -- "$@" "${v%=}"; done
		for v; do # what has no value is taken away
			shift
			case $v in
			*=*) set -- "$@" "$v" ;;
			*) set -- "$@" "$v-" ;;
			esac
		done
		[ $# = 0 ] || run $KUBECTL set env "$ovnk_daemonset" -n "$ovnk_namespace" -c "$ovnk_container" "$@"
		[ -z "$before" ] || run $KUBECTL annotate "$ovnk_daemonset" -n "$ovnk_namespace" "$noted-"
	fi
	if [ -n "$(run $KUBECTL get customresourcedefinition networks.operator.openshift.io --ignore-not-found -o name)" ]; then
		for protocol in ipfix netFlow; do
			ours=$ipfix
			[ $protocol = ipfix ] || ours=$netflow
			before=$(of_openshift ".$protocol.collectors[*]" | tr ' ' ,)
			others=$(without "$before" "$ours")
			[ "$others" = "$before" ] || run $KUBECTL patch $networks --type=merge -p "$(collectors $protocol "$others")"
		done
		if [ "$(of_openshift "")" = "{}" ]; then
			run $KUBECTL patch $networks --type=merge -p '{"spec":{"exportNetworkFlows":null}}'
		fi
	fi
	for manifest in goflow-kube.yaml goflow-kube-legacy.yaml; do
		say "+ sed -e 's|^    namespace: default\$|    namespace: $namespace|' $examples/$manifest | $KUBECTL delete -n $namespace --ignore-not-found -f -"
		sed -e "s|^    namespace: default\$|    namespace: $namespace|" "$examples/$manifest" | $KUBECTL delete -n "$namespace" --ignore-not-found -f -
	done
	;;
*)
	complain "usage: deploy.sh ovnk | cno | undeploy"
	exit 2
	;;
esac
