// SPDX-License-Identifier: GPL-2.0
/*
 * A task has memory that a device uses as well, by page faults: whenever a page is moved or
 * unmapped, the device has to ask for it again. Compaction, khugepaged and NUMA balancing
 * are at work meanwhile. How often is that, as it is, with mlock(), pinned, and with
 * pins.migrate set to "needed"? And what does it cost those who want huge pages?
 *
 * The device is that of lib/test_hmm.c: it mirrors page tables (mmu notifiers) and counts
 * its faults.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/ioctl.h>
#include <linux/mempolicy.h>
#include <linux/types.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

#define NODE0		"/sys/devices/system/node/node0"
#define HUGEPAGES	NODE0 "/hugepages/hugepages-2048kB/nr_hugepages"
#define KHUGEPAGED	"/sys/kernel/mm/transparent_hugepage/khugepaged/"
#define CGROUP		CGROUP_ROOT "/bench"

#define ROUNDS		5
#define DONOR		(512 * MB)
#define EVERY		8		/* of so many pages one is kept */
#define PAGES		(DONOR / PAGE / EVERY)

/* What is kept of a node for the costs to others: a percentage of 1 GB */
#define USED		(800 * MB)
#define WANTED		480		/* huge pages */

/* lib/test_hmm_uapi.h, which is not installed */
struct hmm_dmirror_cmd {
	__u64 addr, ptr, npages, cpages, faults;
};

#define HMM_DMIRROR_READ	_IOWR('H', 0x00, struct hmm_dmirror_cmd)

enum { AS_IT_IS, LOCKED, PINNED, NEEDED, NR_HOWS };

static const char *const hows[] = { "as it is", "mlock", "pinned", "needed" };

static void bind_to(int node)
{
	unsigned long mask = 1UL << node;

	if (syscall(SYS_set_mempolicy, node < 0 ? MPOL_DEFAULT : MPOL_BIND,
		    node < 0 ? NULL : &mask, node < 0 ? 0 : 8))
		die("no node %d: %m", node);
}

static void enter(int how)
{
	if (!pins_supported())
		return;
	/* Whose memory it is, only the memory controller knows. */
	write_file(CGROUP_ROOT "/cgroup.subtree_control", "+memory");
	pins_enter(1, 1UL << 40);
	write_file(CGROUP "/pins.migrate", how == NEEDED ? "needed" : "any");
}

static void leave(void)
{
	if (pins_supported())
		pins_leave();
	settle(1);
}

static uint64_t pins_stat(const char *key)
{
	return pins_supported() ? read_number(CGROUP "/pins.stat", key) : 0;
}

/* All that find it convenient to move memory, as busy as they get */
static void busy(bool on)
{
	write_file(KHUGEPAGED "scan_sleep_millisecs", on ? "10" : "4000000000");
	write_file(KHUGEPAGED "alloc_sleep_millisecs", "10");
	write_file(KHUGEPAGED "pages_to_scan", "4096");
	write_file("/proc/sys/kernel/numa_balancing", on ? "1" : "0");
}

/* Touch all of it for two seconds; the longest time for one page, in ns */
static uint64_t use(char *p)
{
	uint64_t begin = now(), start, end, longest = 0;
	size_t i;

	do {
		for (i = 0; i < PAGES; i++) {
			start = now();
			__atomic_fetch_add(p + i * EVERY * PAGE, 1, __ATOMIC_RELAXED);
			end = now();
			if (end - start > longest)
				longest = end - start;
		}
	} while (end - begin < 2000000000);
	return longest;
}

/* The device reads each of the pages; how often it had to ask for one */
static uint64_t device_reads(int device, const struct iovec *iov)
{
	static char buffer[PAGE] __attribute__((aligned(PAGE)));
	struct hmm_dmirror_cmd cmd;
	uint64_t faults = 0;
	size_t i;

	for (i = 0; i < PAGES; i++) {
		cmd = (struct hmm_dmirror_cmd){
			.addr = (uintptr_t)iov[i].iov_base,
			.ptr = (uintptr_t)buffer,
			.npages = 1,
		};
		if (ioctl(device, HMM_DMIRROR_READ, &cmd) || cmd.cpages != 1)
			die("the device cannot read: %m");
		faults += cmd.faults;
	}
	return faults;
}

static void used_by_device(int how)
{
	static uint64_t place[PAGES];
	static struct iovec iov[PAGES];
	uint64_t elsewhere = 0, faults = 0, longest = 0, ns, pfn;
	int device = open("/dev/hmm_dmirror0", O_RDWR), ring = -1, round;
	char moved[200], *p;
	size_t i;

	if (device < 0)
		die("no device that mirrors page tables: %m");
	enter(how);
	/* Where the task does not run */
	bind_to(1);
	p = map_small(DONOR);
	for (i = 0; i < PAGES; i++)
		madvise(p + (i * EVERY + 1) * PAGE, (EVERY - 1) * PAGE, MADV_DONTNEED);
	bind_to(-1);
	for (i = 0; i < PAGES; i++)
		iov[i] = (struct iovec){ p + i * EVERY * PAGE, PAGE };
	for (i = 0; how == LOCKED && i < PAGES; i++)
		if (mlock(iov[i].iov_base, PAGE))
			die("mlock: %m");
	if (how == PINNED) {
		ring = uring_open();
		uring_register(ring, iov, PAGES);
	}
	madvise(p, DONOR, MADV_HUGEPAGE);
	for (i = 0; i < PAGES; i++)
		place[i] = pfn_of(iov[i].iov_base);
	device_reads(device, iov);

	busy(true);
	for (round = 0; round < ROUNDS; round++) {
		ns = use(p);
		if (ns > longest)
			longest = ns;
		write_file("/proc/sys/vm/compact_memory", "1");
		settle(2);
		faults += device_reads(device, iov);
		for (i = 0; i < PAGES; i++) {
			pfn = pfn_of(iov[i].iov_base);
			elsewhere += pfn != place[i];
			place[i] = pfn;
		}
	}
	busy(false);
	snprintf(moved, sizeof(moved),
		 "\"compact\": %lu, \"numa\": %lu, \"collapse\": %lu, \"usec\": %lu, \"held off\": %lu",
		 pins_stat("moved_compact"), pins_stat("moved_numa"),
		 pins_stat("moved_collapse"), pins_stat("moved_usec"), pins_stat("held_off"));
	record("\"how\": \"%s\", \"faults\": %lu, \"elsewhere\": %lu, \"longest ns\": %lu, %s",
	       hows[how], faults, elsewhere, longest, moved);
	note("%s: %lu faults of the device, %lu pages elsewhere, longest access %lu ns",
	     hows[how], faults, elsewhere, longest);
	close(device);
	if (ring >= 0)
		close(ring);
	munmap(p, DONOR);
	leave();
}

/* So much of a node is kept, all over it or in one piece: what is left for huge pages? */
static void cost_to_others(int how, unsigned int percent, bool scattered)
{
	size_t nr = USED / PAGE, keep = GB / PAGE * percent / 100, i;
	uint64_t start, ns, x = 88172645463325252ULL, kept = 0;
	char what[100], *p;

	enter(how);
	bind_to(0);
	p = map_small(USED);
	for (i = 0; i < nr; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		/* Each with the same chance, and just as many in the end */
		if (scattered ? x % (nr - i) < keep - kept : i < keep)
			kept++;
		else
			madvise(p + i * PAGE, PAGE, MADV_DONTNEED);
	}
	start = now();
	write_file("/proc/sys/vm/compact_memory", "1");
	ns = now() - start;
	/* After failures, the kernel does not compact for a while when it is asked. */
	for (i = 0; i < 16; i++)
		write_file(HUGEPAGES, "%d", WANTED);
	snprintf(what, sizeof(what), "\"others\": \"%s\", \"percent\": %u, \"scattered\": %d",
		 hows[how], percent, scattered);
	record("%s, \"hugetlb\": %lu, \"compact ns\": %lu", what,
	       read_number(HUGEPAGES, NULL), ns);
	note("%s, %u%% %s: %lu huge pages", hows[how], percent,
	     scattered ? "scattered" : "in one piece", read_number(HUGEPAGES, NULL));
	write_file(HUGEPAGES, "0");
	munmap(p, USED);
	bind_to(-1);
	leave();
}

int main(void)
{
	static const unsigned int percents[] = { 1, 10, 50 };
	unsigned int i;
	int how;

	guest_setup();
	for (how = AS_IT_IS; how < NR_HOWS; how++)
		if (how != NEEDED || pins_supported())
			used_by_device(how);
	for (i = 0; i < ARRAY_SIZE(percents); i++) {
		for (how = AS_IT_IS; how < NR_HOWS; how++) {
			if (how != AS_IT_IS && (how != NEEDED || !pins_supported()))
				continue;
			cost_to_others(how, percents[i], true);
			cost_to_others(how, percents[i], false);
		}
	}
	return 0;
}
