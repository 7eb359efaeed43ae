# SPDX-License-Identifier: GPL-2.0
# Sourced by what builds kernels or parts of them.
# shellcheck shell=bash
# shellcheck disable=SC2034 # used by those who source this
# shellcheck source=common.sh
[ -n "${build:-}" ] || . "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# The little that names its sources absolutely all the same is cached, too
export CCACHE_BASEDIR=$top CCACHE_NOHASHDIR=1

# kbuild SOURCE NAME [ARCH]: from here on build in SOURCE/build-NAME. $vm_config is
# what the kernel of a VM is configured from.
#
# The object files lie in a child of the source tree: then Kbuild names all
# sources by relative paths, and the compiler cache serves other clones too.
kbuild() {
	local arch=${3:-x86} cross='' more

	out=$1/build-$2
	vm_config=("$top/configs/vm.config" "$top/configs/$arch.config")
	# What is called otherwise there, or is new
	more=$top/configs/linux-$(kernel_version).config
	[ ! -e "$more" ] || vm_config+=("$more")
	mkdir -p "$out" "$build/log"
	make=(make -C "$1" O="build-$2" -j"$(nproc)" ARCH="$arch"
	      KBUILD_BUILD_USER=pins KBUILD_BUILD_HOST=pins
	      KBUILD_BUILD_TIMESTAMP='2025-01-01 00:00:00 UTC')
	if [ "$arch" = arm64 ] && [ "$(uname -m)" != aarch64 ]; then
		cross=aarch64-linux-gnu-
		make+=(CROSS_COMPILE="$cross")
	fi
	if command -v ccache >/dev/null; then
		make+=(CC="ccache ${cross}gcc" HOSTCC="ccache gcc")
	fi
}

# Every symbol of the fragments must have taken: merge_config.sh would only warn
verify_config() {	# FRAGMENTS CONFIG
	local line name bad=()

	while IFS= read -r line; do
		name=${line#\# }
		name=${name%%[= ]*}
		case $line in
		\#*)	! grep -q "^$name=" "$2" || bad+=("$line") ;;
		*)	grep -qxF -- "$line" "$2" || bad+=("$line") ;;
		esac
	done < <(grep -E '^(CONFIG_|# CONFIG_.* is not set)' "$1")
	[ ${#bad[@]} -gt 0 ] || return 0
	say "these lines of the configuration did not take:" >&2
	printf '  %s\n' "${bad[@]}" >&2
	return 1
}

# configure FRAGMENT...: over allnoconfig. An unchanged .config is not touched.
configure() {
	local config=$out/.config log=$build/log/config.log

	if ! (cd "$out" && KCONFIG_CONFIG=fragments \
	      ../scripts/kconfig/merge_config.sh -m -Q "$@" &&
	      "${make[@]}" -s KCONFIG_ALLCONFIG="$out/fragments" \
	      KCONFIG_CONFIG=.config.new allnoconfig) >"$log" 2>&1; then
		cat "$log" >&2
		return 1
	fi
	verify_config "$out/fragments" "$config.new" || return 1
	cmp -s "$config.new" "$config" || mv "$config.new" "$config"
	rm -f "$config.new" "$config.new.old"
}
