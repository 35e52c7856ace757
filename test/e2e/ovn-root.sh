#!/usr/bin/env bash
# Gets OVN and Open vSwitch of Debian's unstable suite into a directory, beside those of the
# system, for tests that need a newer OVN:
#
#	test/e2e/ovn-root.sh DIR
#	cd test/e2e && OVN_ROOT=DIR/root PATH=DIR/bin:$PATH go test -v -run 'TestOVNSamples$' .
#
# It needs Debian's apt, and changes nothing of the system. DIR is an absolute path.
set -euo pipefail
dir=${1:?usage: ovn-root.sh DIR}
case $dir in /*) ;; *) echo "give an absolute path" >&2; exit 2 ;; esac

mkdir -p "$dir"/{lists/partial,cache/archives/partial,debs,root,bin}
# The mirror is the system's.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | sort -u | head -n 1)
echo "deb [trusted=yes] $mirror unstable main" >"$dir/sources.list"
options=(-o "Dir::Etc::sourcelist=$dir/sources.list" -o Dir::Etc::sourceparts=/nonexistent
	-o "Dir::State::lists=$dir/lists" -o "Dir::Cache=$dir/cache" -o APT::Sandbox::User=root)
apt-get "${options[@]}" update -q
cd "$dir/debs"
apt-get "${options[@]}" download -q ovn-central ovn-host ovn-common openvswitch-switch openvswitch-common \
	libc6 libssl3t64 libunbound8 libcap-ng0 libunwind8 libbpf1 libxdp1 libnuma1 libsystemd0 zlib1g \
	libzstd1 libelf1t64 libevent-2.1-7t64 libnghttp2-14 libexpat1
for package in *.deb; do dpkg-deb -x "$package" "$dir/root"; done

# Each program runs with the libraries that it was built for.
libraries=$dir/root/usr/lib/x86_64-linux-gnu
for program in ovn-northd ovn-nbctl ovn-sbctl ovn-controller ovs-vsctl ovs-vswitchd ovs-ofctl ovs-appctl ovsdb-server ovsdb-tool ovsdb-client; do
	file=$(find "$dir/root" -type f -name "$program" | head -n 1)
	printf '#!/bin/sh\nexec %s --library-path %s --argv0 %s %s "$@"\n' \
		"$libraries/ld-linux-x86-64.so.2" "$libraries" "$program" "$file" >"$dir/bin/$program"
	chmod +x "$dir/bin/$program"
done
"$dir/bin/ovn-nbctl" --version
"$dir/bin/ovs-vswitchd" --version
