#!/bin/sh
# A cluster on this machine, by kind, with OVN-Kubernetes as its network and the
# collector built from this source in it, whose log it then shows.
#
# Needs docker, kind, kubectl, git, make, Go, and what OVN-Kubernetes' own script
# asks for (its docs/installation/launching-ovn-kubernetes-on-kind.md): jq, openssl,
# Python 3, 20 GB of disk. It builds OVN-Kubernetes' image, which takes a while.
# The project's tests don't run this script.
#
# Usage: run.sh [up | down]
#
# From the environment:
#   OVNK_DIR   where OVN-Kubernetes' source is or is to be cloned to
#   OVNK_REF   what is checked out of it (master)
#   IPV6=1     a cluster with IPv6 only
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
source=${OVNK_DIR:-$HOME/.cache/goflow2-kube-enricher/ovn-kubernetes}
cluster=ovn # as OVN-Kubernetes' script names it
export KUBECONFIG="$HOME/$cluster.conf"
image=localhost/goflow2-kube version=kind

run() {
	echo "+ $*"
	"$@"
}

case ${1:-up} in
up)
	[ -d "$source" ] || run git clone --depth 1 --branch "${OVNK_REF:-master}" https://github.com/ovn-kubernetes/ovn-kubernetes.git "$source"
	# Records of a second at most, of all packets: to see something.
	set -- -ifs 1 -ifm 1000 -ifa 1
	[ -z "${IPV6:-}" ] || set -- "$@" -n4 -i6
	(cd "$source/contrib" && run ./kind.sh "$@")

	run make -C "$root" image ENGINE=docker IMAGE="$image" VERSION="$version"
	run kind load docker-image "$image:$version" --name "$cluster"
	run make -C "$root" ovnk-deploy IMAGE="$image" VERSION="$version" KUBECTL=kubectl
	run kubectl rollout status daemonset/ovnkube-node -n ovn-kubernetes --timeout=10m
	run kubectl logs -f deployment/goflow
	;;
down)
	run kind delete cluster --name "$cluster"
	;;
*)
	echo "usage: run.sh [up | down]" >&2
	exit 2
	;;
esac
