# SPDX-License-Identifier: GPL-2.0
#
# The commands of this repository; make help lists them. The scripts behind
# them are in scripts/ and vm/, all that they make is in build/.

export LINUX KSRC KCONFIG SIGNOFF

# Where the scripts leave it
build := build$(addprefix /,$(filter-out 6.12,$(LINUX)))

help:
	@echo 'The pins controller: a cgroup controller for long-term pinned memory'
	@echo
	@echo '  make run       build the kernel, boot it in QEMU and show a demo'
	@echo '  make shell     the same VM, with a shell'
	@echo '  make system    Debian 13 with our systemd and kernel packages, in QEMU'
	@echo '  make test      run all tests in the VM'
	@echo '  make test-latest our tests on Linux 7.3'
	@echo '  make test-wait waiting on a kernel without the controller'
	@echo '  make test-system systemd and containers, on Debian 13 in the VM'
	@echo '  make test-full with those that take hours, other people'"'"'s and on arm64'
	@echo '  make fuzz      look for mistakes in the accounting, until one is found'
	@echo '  make check     look at the code: style, warnings, configurations'
	@echo '  make bench     measure what it costs, and what it is good for'
	@echo
	@echo '  make tree      fetch the kernel source and patch it: build/linux'
	@echo '  make kernel    build/pins/bzImage'
	@echo '  make baseline  build/baseline/bzImage: the same without our patches'
	@echo '  make debug     build/debug/bzImage: with all that finds mistakes'
	@echo '  make deb       the kernel as Debian packages: build/deb/'
	@echo '  make packages  systemd, crun, libcgroup and others for Debian 13, with pins; nri-pins'
	@echo '  make series    the patches as mails, in series: build/series-6.12/'
	@echo '  make clean     remove build/'
	@echo
	@echo 'LINUX=7.3 takes Linux 7.3 instead of 6.12, and build/7.3 instead of build.'
	@echo 'KSRC=dir takes the kernel source from there instead of from Debian.'
	@echo 'KCONFIG=file is the configuration for make deb, instead of the VM'"'"'s.'

deps:
	@scripts/deps

tree: deps
	@scripts/tree

kernel: deps
	@scripts/kernel pins

baseline debug longterm: deps
	@scripts/kernel $@

# Memory to plug in, on a node of its own
module := -object memory-backend-ram,id=boot,size=1G -numa node,memdev=boot -numa node \
	-object memory-backend-ram,id=module,size=256M -device pc-dimm,memdev=module,node=1

run: kernel build/demo-io_uring
	@echo 'booting $(build)/pins/bzImage in QEMU'
	@vm/boot -m slots=1,maxmem=2G,size=1G -q "$(module)" -a memhp_default_state=offline \
		pins vm/demo

shell: kernel build/demo-io_uring
	@echo 'booting $(build)/pins/bzImage in QEMU; exit or Ctrl-D ends it'
	@vm/boot pins

test: deps
	@vm/test

deb packages:
	@scripts/deps system
	@scripts/$@

system:
	@scripts/deps system
	@scripts/system
	@echo 'booting build/system/root.img in QEMU; log out to end it'
	@vm/boot system

# The newest kernel that there is a series for
test-latest: deps
	@KSRC= LINUX=7.3 vm/test pins

test-wait: deps
	@vm/test wait

test-system:
	@scripts/deps system
	@vm/test system

test-full: deps
	@scripts/deps full system
	@vm/test native pins debug upstream wait rt others programs kcsan arm64 system

check: deps
	@scripts/check

fuzz: tree
	@$(MAKE) -s -C $(build)/linux/tools/testing/pins OUT=$(CURDIR)/$(build)/native $@

series: deps
	@scripts/export

bench: kernel baseline longterm
	@bench/run

build/demo-io_uring: vm/demo-io_uring.c | deps
	@mkdir -p build
	@$(CC) -D_GNU_SOURCE -O2 -Wall -o $@ $< -luring

clean:
	@# make system leaves what belongs to root
	rm -rf build 2>/dev/null || sudo rm -rf build

.PHONY: help deps tree kernel baseline debug longterm deb packages run shell system \
	test test-latest test-wait test-system test-full fuzz check series bench clean
.NOTPARALLEL:
