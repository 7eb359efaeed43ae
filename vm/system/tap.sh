# SPDX-License-Identifier: GPL-2.0
# Sourced by the tests in the reference system: results as TAP, and what the tests
# share.
# shellcheck shell=bash

# shellcheck disable=SC2034 # used by those who source this
cg=/sys/fs/cgroup
count=0 failures=0

# check DESCRIPTION COMMAND...: good if it succeeds; what it says is shown if not.
# A function runs as with set -e.
check() {
	local what=$1 rc
	shift

	count=$((count + 1))
	(set -e; "$@") 2>&1 </dev/null
	rc=$?
	if [ $rc -eq 0 ]; then
		echo "ok $count $what"
	else
		echo "not ok $count $what ($rc)"
		failures=$((failures + 1))
	fi
}

finish() {
	echo "1..$count"
	exit $((failures > 0))
}

# is EXPECTED COMMAND...: the command prints just that
is() {
	local expected=$1 found
	shift

	found=$("$@" 2>&1) || :
	[ "$found" = "$expected" ] && return
	printf '%s: %q instead of %q\n' "$*" "$found" "$expected"
	return 1
}

# shows LINE COMMAND...: that is one of the lines that the command prints
shows() {
	local line=$1 found
	shift

	found=$("$@" 2>&1) || :
	grep -qxF -- "$line" <<<"$found" && return
	printf '%s\n' "$found"
	return 1
}

# soon COMMAND...: succeeds within 30 s
soon() {
	local i

	for ((i = 0; i < 150; i++)); do
		! "$@" >/dev/null 2>&1 || return 0
		sleep 0.2
	done
	"$@"
}

# fails COMMAND...: it does, which "! COMMAND" does not check under set -e
fails() {
	if "$@"; then
		echo "succeeded: $*"
		return 1
	fi
}

has_line() { grep -qxF -- "$1" "$2"; }

# as_user COMMAND...: with a session of user's, as by logging in
as_user() {
	runuser -u user -- env -C /home/user HOME=/home/user USER=user \
		XDG_RUNTIME_DIR=/run/user/1000 \
		DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus "$@"
}
