#!/bin/sh
# /goflow2 in the image of the pipe. goflow2 v2.2.6 ends at once when it is given
# one of the log levels of its first versions, which manifests of that time do:
# here each is its nearest.
level() {
	case $1 in
	trace) echo debug ;;
	warning) echo warn ;;
	fatal | panic) echo error ;;
	*) echo "$1" ;;
	esac
}

n=$#
value=
while [ "$n" -gt 0 ]; do
	arg=$1
	shift
	n=$((n - 1))
	if [ -n "$value" ]; then
		arg=$(level "$arg")
		value=
	else
		case $arg in
		-loglevel | --loglevel) value=next ;;
		-loglevel=* | --loglevel=*) arg=${arg%%=*}=$(level "${arg#*=}") ;;
		esac
	fi
	set -- "$@" "$arg"
done
exec /usr/bin/goflow2 "$@"
