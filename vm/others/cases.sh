# SPDX-License-Identifier: GPL-2.0
# Sourced by the others: runs what somebody else wrote, as TAP.
# shellcheck shell=bash

count=0
log=$(mktemp)
trap 'echo "1..$count"' EXIT

# run SECONDS NAME COMMAND...
run() {
	local limit=$1 name=$2 rc=0
	shift 2

	count=$((count + 1))
	timeout -k 5 "$limit" "$@" >"$log" 2>&1 </dev/null || rc=$?
	case $rc in
	0)	echo "ok $count $name" ;;
	# liburing's and stress-ng's ways to say that something is not there
	77|4)	echo "ok $count $name # SKIP" ;;
	*)	tail -n 5 "$log" | sed 's/^/# /'
		echo "not ok $count $name" ;;
	esac
}
