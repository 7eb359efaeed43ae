# SPDX-License-Identifier: GPL-2.0
# Sourced by the other scripts: where things are, and a few ways to say things.
# shellcheck shell=bash
# shellcheck disable=SC2034 # used by those who source this

set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# The kernel: 6.12, or another one that there are patches for
linux=${LINUX:-6.12}
build=$top/build
[ "$linux" = 6.12 ] || build=$top/build/$linux
tree=$build/linux		# the patched source
pristine=$build/pristine	# the source as it came
pins_version=$(<"$top/VERSION")	# what our packages say, see CHANGELOG.md
# What outlives a clone: the downloaded source, the lock of the builds
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pins-controller

# What a script that goes on with sudo still needs
kept_env=XDG_CACHE_HOME,HOME,http_proxy,https_proxy,no_proxy

mkdir -p "$build/log" "$cache"
unset MAKEFLAGS MFLAGS MAKELEVEL	# our own make may have set them

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }
clock() { printf '%d:%02d' $(($1 / 60)) $(($1 % 60)); }

# take_lock FILE WHAT: lock an open file, by its number, and say if it has to wait for WHAT
take_lock() {
	! flock -n "$1" || return 0
	say "waiting for $2"
	flock "$1"
}

# The version of the kernel source under build/, without what comes behind 6.12
kernel_version() {
	awk '$1 == "VERSION" { v = $3 } $1 == "PATCHLEVEL" { print v "." $3; exit }' \
		"$pristine/Makefile"
}

# One kernel build at a time on this machine: two only slow each other down,
# and the tree must not change under a build. Held until the script ends;
# a script that is started by a holder does not take it again.
lock_builds() {
	[ -z "${PINS_BUILD_LOCKED:-}" ] || return 0
	exec 9>"$cache/build.lock"
	take_lock 9 "another build to finish"
	export PINS_BUILD_LOCKED=1
}

# All that a process has started, and what that has
descendants() {	# PID
	local pid

	# shellcheck disable=SC2013 # they stand in one line
	for pid in $(cat "/proc/$1/task"/*/children 2>/dev/null); do
		echo "$pid"
		descendants "$pid"
	done
}

# End PID and its descendants, then this shell, as SIGNAL would have
interrupted() {	# SIGNAL PID
	local pids

	mapfile -t pids < <(echo "$2"; descendants "$2")
	kill "${pids[@]}" 2>/dev/null || :
	sleep 1
	# such as unshare, which waits for its child, and that is an init
	kill -KILL "${pids[@]}" 2>/dev/null || :
	wait "$2" || :
	trap - "$1"
	kill "-$1" "$BASHPID"
}

# progress WHAT COMMAND...: run a command that is long and talkative, its
# output to build/log/WHAT.log; say every 15 seconds how far it is, and show
# at once what it says on stderr. The first time it is a share of what scripts/steps
# expects; later nobody knows how much there is still to do.
progress() {
	local what=$1 log=$build/log/$1.log start=$SECONDS last=$SECONDS pid rc=0
	local total='' steps
	shift

	mkdir -p "$build/log"
	[ -e "$log" ] || total=$(awk -v what="$what" '$1 == what { print $2 }' "$top/scripts/steps")
	: >"$log"
	# shellcheck disable=SC2094
	"$@" >>"$log" 2> >(tee -a "$log" >&2) &
	pid=$!
	# Ctrl-C does not reach what runs in the background
	trap 'interrupted INT $pid' INT
	trap 'interrupted TERM $pid' TERM
	while kill -0 $pid 2>/dev/null; do
		sleep 0.5
		[ $((SECONDS - last)) -ge 15 ] || continue
		last=$SECONDS
		steps=$(wc -l <"$log")
		if [ -n "$total" ]; then
			steps=$((steps < total ? steps * 100 / total : 99))%
		else
			steps="$steps steps"
		fi
		printf '  [%s] %s: %s, now %s\n' "$(clock $((SECONDS - start)))" "$what" \
			"$steps" "$(tail -n 1 "$log" | tr -s ' ' | cut -c 1-80)"
	done
	wait $pid || rc=$?
	trap - INT TERM
	[ $rc -eq 0 ] || say "$what failed ($rc), all it said is in ${log#"$top"/}" >&2
	return $rc
}

# without_files COMMAND...: run it with no files open but stdin, stdout and stderr.
# mmdebstrap has apt write to a pipe of its own by way of sh, which knows no file
# above 9: that fails where whoever started us has left many open
without_files() (
	for fd in "/proc/$BASHPID/fd"/*; do
		fd=${fd##*/}
		[ "$fd" -le 2 ] || exec {fd}>&-
	done
	exec "$@"
)

# The release of Debian that this machine has
debian_release() { (. /etc/os-release && echo "$VERSION_CODENAME"); }

# Where RELEASE is to be had, as lines of a sources.list: wherever this machine has
# its own from
debian_sources() {	# RELEASE
	local uri suite

	[ -n "$(apt-get indextargets 'Created-By: Packages')" ] ||
		die "apt has no lists of packages: apt-get update first"
	# shellcheck disable=SC2016 # apt-get expands it
	apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' \
		'Origin: Debian' | sort -u |
		sed -nE "s/^(.*) $(debian_release)(-updates|-security)?\$/\1 $1\2/p" |
		while read -r uri suite; do
			# a list of mirrors, as cloud images have it
			[[ $uri != mirror+file:* ]] ||
				read -r uri _ < <(grep '^[^#]' "/${uri#mirror+file:/}")
			echo "deb $uri $suite main"
		done
}

# Where this machine gets its own release from
debian_mirror() {
	debian_sources "$(debian_release)" |
		awk -v release="$(debian_release)" '$3 == release && !n++ { print $2 }'
}
