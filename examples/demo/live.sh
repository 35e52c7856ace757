#!/bin/sh
# What "make demo-live" does: a collector on loopback, and an exporter that sends it a capture
# again and again, until Ctrl-C. Usage: live.sh BINARY REPLAY CAPTURE SNAPSHOT
set -eu

flows=127.0.0.1:${DEMO_PORT:-12055}
http=127.0.0.1:${DEMO_HTTP_PORT:-12080}
debug=127.0.0.1:${DEMO_DEBUG_PORT:-12081}
page=127.0.0.1:${DEMO_UI_PORT:-12082}

look() { printf '  %-48s %s\n' "$1" "$2"; }

echo "The collector listens at $flows for what a replay of"
echo "$3 sends it. Look at"
look "http://$page/" 'who talks to whom'
look "http://$http/metrics" 'its metrics'
look "http://$debug/exporters" 'who exports'
look "http://$debug/explain?addr=10.244.1.2" 'why an address has its name'
printf 'Ctrl-C ends both.\n\n'

"$2" -ready "http://$http/readyz" "$3" "$flows" &
replay=$!
trap 'kill "$replay" 2>/dev/null || true' EXIT
trap : INT TERM

"$1" -listen "netflow://$flows?count=1" -addr "$http" -debug.addr "$debug" -ui.addr "$page" -kube.snapshot "$4" -format text -loglevel error
