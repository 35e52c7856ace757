#!/bin/sh
# Makes images that Containerfile can build on where no registry can be
# reached: NAME, with this machine's Go, CA certificates and a static busybox,
# in place of GO_IMAGE and of SHELL_IMAGE. Needs buildah and busybox-static.
# Usage: base.sh NAME
set -eu

goroot=$(go env GOROOT)
busybox=$(command -v busybox)
work=$(mktemp -d)
container=
cleanup() {
	[ -z "$container" ] || buildah rm "$container" >/dev/null
	rm -rf "$work"
}
trap cleanup EXIT

mkdir -p "$work/bin" "$work/etc/ssl/certs" "$work/root" "$work/tmp" "$work/usr/bin" "$work/usr/local/go/pkg"
cp "$busybox" "$work/bin/busybox"
for applet in $("$busybox" --list); do
	[ "$applet" = busybox ] || ln -s busybox "$work/bin/$applet"
done
cp -L /etc/ssl/certs/ca-certificates.crt "$work/etc/ssl/certs/"
# What go build needs of a Go tree, not its tests and documents.
for part in VERSION go.env bin lib src; do
	cp -R "$goroot/$part" "$work/usr/local/go/"
done
cp -R "$goroot/pkg/include" "$goroot/pkg/tool" "$work/usr/local/go/pkg/"

container=$(buildah from scratch)
buildah copy --quiet "$container" "$work" / >/dev/null
buildah config --env PATH=/usr/local/go/bin:/bin --env GOPATH=/go --env HOME=/root "$container"
buildah commit --quiet "$container" "$1"
