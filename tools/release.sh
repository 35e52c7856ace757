#!/bin/sh
# What "make release" does: binaries for all systems, their lists of components,
# the chart, and the checksums of all of them, in dist/. The same source, version
# and Go give the same bytes.
#
# From the environment: VERSION; EPOCH (seconds since 1970), the time of the
# chart's files; GO; SBOM, the program that lists components; HELM.
set -eu

name=kube-enricher
chart=charts/goflow2-kube-enricher
dist=dist

rm -rf "$dist"
mkdir "$dist"

for system in linux/amd64 linux/arm64 darwin/amd64 darwin/arm64; do
	os=${system%/*} arch=${system#*/}
	binary=$dist/$name-$VERSION-$os-$arch
	echo "$binary"
	GOOS=$os GOARCH=$arch $GO build -buildvcs=false -ldflags "-s -w -X main.version=$VERSION" -o "$binary" ./cmd/kube-enricher
	# Without a serial number and the time of day.
	"$SBOM" bin -json -std -noserial -notimestamp -version "$VERSION" -output "$binary.cdx.json" "$binary"
done

helm=${HELM:-}
for candidate in test/e2e/bin/helm helm; do
	[ -n "$helm" ] || helm=$(command -v "$candidate" || true)
done
if [ ! -f "$chart/Chart.yaml" ]; then
	echo "no chart package: $chart is not there"
elif [ -z "$helm" ]; then
	echo "no chart package: there is no helm; \"make -C test/e2e build\" makes one"
else
	# Versions of charts have three numbers; where ours has not, the chart keeps
	# its own.
	number=$(printf %s "${VERSION#v}" | grep -E '^[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.+-]+)?$' || true)
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	cp -R "$chart" "$work/"
	find "$work" -exec touch -t "$(date -u -d "@$EPOCH" +%Y%m%d%H%M.%S 2>/dev/null || date -u -r "$EPOCH" +%Y%m%d%H%M.%S)" {} +
	"$helm" package "$work/$(basename "$chart")" --destination "$dist" --app-version "$VERSION" ${number:+--version "$number"} >/dev/null
	ls "$dist"/*.tgz
fi

cd "$dist"
if command -v sha256sum >/dev/null; then
	sha256sum -- * >SHA256SUMS
else
	shasum -a 256 -- * >SHA256SUMS
fi
cat SHA256SUMS
