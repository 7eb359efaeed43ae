# SPDX-License-Identifier: GPL-2.0
# Sourced by the others: runs programs that pin, with limits around what they need, as TAP,
# and writes what came out for the table in docs/programs.rst.
# shellcheck shell=bash
# shellcheck disable=SC2154 # version and says are the caller's

root=/sys/fs/cgroup box=$root/program
count=0 failures=0
log=$(mktemp)
rows=/run/out/${0##*/}.rows
: >"$rows"
echo +pins >$root/cgroup.subtree_control || exit

check() {	# RESULT DESCRIPTION
	count=$((count + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $count $2"
	else
		tail -n 12 "$log" | sed 's/^/# /'
		echo "not ok $count $2"
		failures=$((failures + 1))
	fi
}

finish() {
	echo "1..$count"
	exit $((failures > 0))
}

# What is released in the background may take a moment
soon() {
	local i

	for ((i = 0; i < 100; i++)); do
		! "$@" || return 0
		sleep 0.1
	done
	echo "not so after 10 s: $*" >>"$log"
	return 1
}

no_process() { grep -q 'populated 0' $box/cgroup.events; }
no_pin() { [ "$(cat $box/pins.current)" = 0 ]; }
remains() { awk '$1 == "nr_dying_subsys_pins" { print $2 }' $root/cgroup.stat; }
no_more_remains() { [ "$(remains)" -le "$remained" ]; }

# in_box LIMIT COMMAND...: in a cgroup of its own with that pins.max, of which nothing may be
# left. COMMAND may be an exported function. Below RLIMIT_MEMLOCK if there is an rlimit, which
# root is otherwise exempt from. What came of it is in rc, peak, and refused, which is how
# often the limit was met.
in_box() {
	local limit=$1 left=0 less_root=() remained
	shift

	remained=$(remains)
	mkdir $box && echo "$limit" >$box/pins.max && echo "$memlock" >$box/pins.memlock
	[ -z "$rlimit" ] || less_root=(setpriv --bounding-set "-ipc_lock,-sys_resource")
	(
		echo "$BASHPID" >$box/cgroup.procs
		ulimit -l "${rlimit:-unlimited}"
		exec timeout -k 5 60 "${less_root[@]}" bash -c '"$@"' - "$@"
	) >"$log" 2>&1 </dev/null
	rc=$?
	soon no_process || { left=1; echo 1 >$box/cgroup.kill; soon no_process; }
	peak=$(cat $box/pins.peak)
	refused=$(awk '$1 == "max" { print $2 }' $box/pins.events)
	soon no_pin || { left=1; echo "left: $(cat $box/pins.current) bytes" >>"$log"; }
	rmdir $box || left=1
	soon no_more_remains || left=1
	echo "pins.max $limit: exit code $rc, pins.peak $peak, refused $refused" >>"$log"
	return $left
}
memlock=rlimit rlimit='' in_place=''

# As the program ends that was refused: it fails and says so, or, with goes_on, only says so
ends_refused() {
	case $rc in
	0)	[ -n "${goes_on:-}" ] ;;
	# no time-out, no signal
	12[4-9]|1[3-9]?) return 1 ;;
	*)	[ -z "${goes_on:-}" ] ;;
	esac && grep -q -E "$says" "$log"
}

row() {	# NEED MEMLOCK MESSAGE THEN
	printf '%s\t' "$version" "$how" "$1" "$2" "$3" >>"$rows"
	echo "$4" >>"$rows"
}

# pins HOW SAYS COMMAND...: COMMAND runs at and above what it needs. Below, by "less" bytes,
# it is refused and prints what SAYS matches. The same goes for RLIMIT_MEMLOCK, if that
# counts here, but not if pins.max is to apply instead, which is tried once.
pins() {
	local how=$1 says=$2 need message=- counts=no left
	shift 2

	in_box max "$@" && [ $rc -eq 0 ] && [ "$peak" -gt 0 ]
	check $? "$how: without a limit"
	need=$peak
	in_box "$need" "$@" && [ $rc -eq 0 ] && [ "$peak" -eq "$need" ] && [ "$refused" -eq 0 ]
	check $? "$how: at its need"
	in_box $((need * 2)) "$@" &&
		[ $rc -eq 0 ] && [ "$peak" -eq "$need" ] && [ "$refused" -eq 0 ]
	check $? "$how: above"
	in_box $((need - ${less:-4096})) "$@" &&
		ends_refused && [ "$peak" -lt "$need" ] && [ "$refused" -gt 0 ]
	check $? "$how: below: refused, nothing left"
	message=$(grep -o -E "$says" "$log" | sed 's/0x[0-9a-f]*/.../; q')

	# small, but io_uring's rings may count, too
	rlimit=$((need / 8192 < 64 ? need / 8192 : 64))
	in_box max "$@"
	left=$?
	if [ $rc -ne 0 ] || grep -q -E "$says" "$log"; then
		counts=yes
		[ $left -eq 0 ] && ends_refused && [ "$refused" -eq 0 ]
		check $? "$how: below RLIMIT_MEMLOCK: refused, nothing left"
		if [ -z "$in_place" ]; then
			memlock=max in_place=1
			in_box "$need" "$@" && [ $rc -eq 0 ] && [ "$peak" -eq "$need" ]
			check $? "$how: pins.max in place of RLIMIT_MEMLOCK"
			memlock=rlimit
		fi
	else
		check $left "$how: RLIMIT_MEMLOCK does not count"
	fi
	rlimit=''
	row "$need" $counts "$message" "${goes_on:-fails}"
}

# pins_nothing HOW COMMAND...: runs where nothing may be pinned
pins_nothing() {
	local how=$1
	shift

	in_box 0 "$@" && [ $rc -eq 0 ] && [ "$peak" -eq 0 ] && [ "$refused" -eq 0 ]
	check $? "$how: where nothing may be pinned"
	row 0 no - -
}
