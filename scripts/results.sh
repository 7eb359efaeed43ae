# SPDX-License-Identifier: GPL-2.0
# Sourced by what reports results: prints them as TAP and counts them.
# shellcheck shell=bash

passed=0 failed=0 skipped=0

# result 'ok'|'not ok' DESCRIPTION, which may end with "# SKIP why"
result() {
	case "$1 $2" in
	*'# SKIP'*)	skipped=$((skipped + 1)) ;;
	ok*)		passed=$((passed + 1)) ;;
	*)		failed=$((failed + 1)) ;;
	esac
	printf '%s %d %s\n' "$1" $((passed + failed + skipped)) "$2"
}

# Whether there is time for what takes long, until $PINS_UNTIL, in seconds since 1970;
# else it is skipped
time_for() {	# DESCRIPTION
	[ "$(date +%s)" -ge "${PINS_UNTIL:-9999999999}" ] || return 0
	result ok "$1 # SKIP no time is left"
	return 1
}

# A line of TAP that somebody else has numbered
tap_line() {	# LINE PREFIX
	local status=ok text=$1

	[[ $1 != not* ]] || status='not ok'
	text=${text#"$status"}
	text=${text# }
	text=${text#"${text%%[!0-9]*}"}
	text=${text# }
	text=${text#- }
	[[ $text != '# SKIP'* ]] || text="a test $text"
	result "$status" "$2$text"
}

# The last line of all, and whether it is good
summary() {
	say "1..$((passed + failed + skipped))"
	say "$passed passed, $failed failed, $skipped skipped"
	[ $failed -eq 0 ] && [ $passed -gt 0 ]
}
