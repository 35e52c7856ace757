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

case ${EXPORT:-ipfix} in
ipfix) name=goflow manifest=goflow-kube.yaml port=2055 variable=OVN_IPFIX_TARGETS ;;
netflow) name=goflow-legacy manifest=goflow-kube-legacy.yaml port=2056 variable=OVN_NETFLOW_TARGETS ;;
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
	set -- "$variable=$target"
	for v in OVN_IPFIX_SAMPLING OVN_IPFIX_CACHE_MAX_FLOWS OVN_IPFIX_CACHE_ACTIVE_TIMEOUT; do
		eval "value=\${$v:-}"
		[ -z "$value" ] || set -- "$@" "$v=$value"
	done
	run $KUBECTL set env "$ovnk_daemonset" -n "$ovnk_namespace" -c "$ovnk_container" "$@"
	done_says
	if [ "$variable" = OVN_IPFIX_TARGETS ] && [ -z "${OVN_IPFIX_CACHE_MAX_FLOWS:-}" ]; then
		say "Each sampled packet is a record of its own. OVN_IPFIX_CACHE_MAX_FLOWS=10000 lets Open vSwitch add them up."
	fi
	;;
cno)
	KUBECTL=${KUBECTL:-oc}
	apply
	patch=$(sed -e "s/GF_IP:2055/$target/" "$examples/net-cluster-patch.json")
	[ "$variable" = OVN_IPFIX_TARGETS ] || patch=$(printf '%s\n' "$patch" | sed -e 's/"ipfix"/"netFlow"/')
	if ! run $KUBECTL patch networks.operator.openshift.io cluster --type=json -p "$patch"; then
		case $target in
		\[*)
			complain "OpenShift's API may take IPv4 addresses only. docs/openshift.md has another way:"
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
	if [ -n "$(run $KUBECTL get "$ovnk_daemonset" -n "$ovnk_namespace" --ignore-not-found -o name)" ]; then
		run $KUBECTL set env "$ovnk_daemonset" -n "$ovnk_namespace" -c "$ovnk_container" OVN_IPFIX_TARGETS- OVN_NETFLOW_TARGETS-
	fi
	if [ -n "$(run $KUBECTL get customresourcedefinition networks.operator.openshift.io --ignore-not-found -o name)" ]; then
		run $KUBECTL patch networks.operator.openshift.io cluster --type=merge -p '{"spec":{"exportNetworkFlows":null}}'
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
