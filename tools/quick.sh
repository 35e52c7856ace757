#!/bin/sh
# What "make quick" runs: golangci-lint on the packages that differ from BASE (HEAD), and all
# tests once, without the race detector and without those in network namespaces. Go's test
# cache skips what the changes do not reach. Usage: quick.sh GO LINTER GOTEST
set -eu
go=$1 linter=$2 gotest=$3

changed=$({ git diff --name-only --diff-filter=d "${BASE:-HEAD}" -- '*.go'; git ls-files --others --exclude-standard -- '*.go'; } |
	grep -v -e '^test/e2e/' -e '^test/grafana/' -e '^bench/' -e '^tools/' | xargs -r -n 1 dirname | sort -u | sed 's|^|./|')
if [ -n "$changed" ]; then
	# shellcheck disable=SC2086 # one argument a package
	"$linter" run $changed
else
	echo 'no package differs: nothing to lint'
fi
# shellcheck disable=SC2046
"$gotest" "$go" test $("$go" list ./... | grep -v /test/netns)
