// SPDX-License-Identifier: GPL-2.0
/*
 * pins.migrate, and what pins.stat says of memory that is moved: who only finds that
 * convenient leaves it alone, who must move it does.
 *
 * Copyright (C) 2026 the pins authors
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../../../../../lib/test_hmm_uapi.h"
#include "pins_util.h"

#define MIRROR		"/dev/hmm_dmirror0"
#define THP		"/sys/kernel/mm/transparent_hugepage"
#define KHUGEPAGED	THP "/khugepaged"
#define KSM		"/sys/kernel/mm/ksm"
#define KERNEL		"/proc/sys/kernel"
#define NODE1		"/sys/devices/system/node/node1"
#define NUMA_DEBUG	"/sys/kernel/debug/sched/numa_balancing"

/* Whose memory it is, only the memory controller knows. */
static void need_migrate(const char *cg)
{
	need_memory_controller();
	if (!cg_has(cg, "pins.migrate"))
		skip("no pins.migrate");
}

static char *enter_owner(const char *name)
{
	char *cg = cg_make(name);

	need_migrate(cg);
	enter(cg);
	return cg;
}

/* Returns 0 or an errno. */
static int set_migrate(const char *cg, const char *value)
{
	return cg_write(cg, "pins.migrate", (char *)value) ? errno : 0;
}

static void check_migrate(const char *cg, const char *value)
{
	char now[16];

	check_eq(cg_read(cg, "pins.migrate", now, sizeof(now)), 0);
	check(!strcmp(now, value));
}

/* All that somebody finds convenient */
static long convenient(const char *cg)
{
	return pins_stat(cg, "moved_compact") + pins_stat(cg, "moved_numa") +
	       pins_stat(cg, "moved_collapse") + pins_stat(cg, "moved_ksm");
}

/* Writes, and returns what was there. */
static long replace(const char *dir, const char *file, long value)
{
	long was = cg_read_long(dir, file);

	if (was < 0 || cg_write_numeric(dir, file, value))
		skip("no %s/%s", dir, file);
	return was;
}

static char *map(size_t len)
{
	char *p = mmap(mem_reserve(len, SZ_2M), len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	check(p != MAP_FAILED);
	return p;
}

static void fill(char *p, size_t len)
{
	check(!madvise(p, len, MADV_POPULATE_WRITE));
}

/* A page reads as what was written into it. */
static void stamp(char *p, size_t len)
{
	size_t off;

	for (off = 0; off < len; off += PAGE_SIZE)
		*(size_t *)(p + off) = off ^ (size_t)p;
}

static void check_stamp(char *p, size_t len, size_t step)
{
	size_t off;

	for (off = 0; off < len; off += step)
		check_eq(*(size_t *)(p + off), off ^ (size_t)p);
}

static void knob(void)
{
	char *cg = cg_make("a"), *below = cg_make("a/b");
	static const char *const bad[] = { " ", "x", "Needed", "needed any", "0" };
	int i;

	need_migrate(cg);
	check_migrate(cg, "any\n");
	check_eq(set_migrate(cg, "needed"), 0);
	check_migrate(cg, "needed\n");
	/* It holds for all below, where it says what was written there. */
	check_migrate(below, "any\n");
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		check_eq(set_migrate(cg, bad[i]), EINVAL);
		check_migrate(cg, "needed\n");
	}
	check_eq(set_migrate(cg, " any\n"), 0);
	check_migrate(cg, "any\n");
	check(!cg_has(pins_root, "pins.migrate"));

	drop_capability(CAP_SYS_RESOURCE);
	check_eq(set_migrate(cg, "needed"), EPERM);
	check_eq(set_migrate(cg, "nonsense"), EINVAL);
	check_migrate(cg, "any\n");
	check_eq(set_migrate(cg, "any"), 0);
}

/* From now on; -1: anywhere */
static void allocate_on(int node)
{
	unsigned long mask = 1UL << node;

	if (node < 0)
		check_eq(syscall(SYS_set_mempolicy, MPOL_DEFAULT, NULL, 0), 0);
	else
		check_eq(syscall(SYS_set_mempolicy, MPOL_BIND, &mask, 8), 0);
}

/* On the node of a memory block, as that is the first zone there to be used */
static void allocate_near(const struct range *r)
{
	char node1[PATH_MAX + 8];

	snprintf(node1, sizeof(node1), "%s/node1", r->dir);
	allocate_on(!access(node1, F_OK));
}

/*
 * Leaves every third page. (If it were every second one, those between might not be found:
 * compaction looks at some only, 2, 4, 8 and so on apart.)
 */
static void make_holes(char *p, size_t len)
{
	size_t off;

	for (off = 0; off + PAGES(3) <= len; off += PAGES(3))
		check(!madvise(p + off + PAGE_SIZE, PAGES(2), MADV_DONTNEED));
}

/*
 * A third of three quarters of a memory block that is a zone of its own, so that there is
 * something to compact; it belongs to two cgroups by turns.
 */
static char *fragment(size_t *len, const char *even, const char *odd)
{
	struct range r = movable_range();
	size_t off;
	char *p;

	allocate_near(&r);
	*len = r.pages * PAGE_SIZE / 4 * 3;
	p = map(*len);
	for (off = 0; off < *len; off += SZ_2M) {
		enter(off / SZ_2M & 1 ? odd : even);
		fill(p + off, SZ_2M);
	}
	allocate_on(-1);
	enter_root();
	stamp(p, *len);
	make_holes(p, *len);
	return p;
}

static void compact_until(const char *cg, const char *key, long enough)
{
	int i;

	for (i = 0; i < 10 && pins_stat(cg, key) < enough; i++)
		check_eq(cg_write(VM, "compact_memory", "1"), 0);
	if (pins_stat(cg, key) < enough)
		skip("compaction did not reach the memory");
}

static void compaction(void)
{
	char *a = enter_owner("a"), *b = cg_make("b"), *p;
	long held_off, usec;
	size_t len;

	check_eq(set_migrate(a, "needed"), 0);
	p = fragment(&len, a, b);
	usec = pins_stat(a, "moved_usec");
	compact_until(b, "moved_compact", 100);
	check_eq(convenient(a), 0);
	check_eq(pins_stat(a, "moved_usec"), usec);
	check(pins_stat(b, "moved_usec") > 0);
	check_eq(pins_stat(b, "held_off"), 0);
	held_off = pins_stat(a, "held_off");
	check(held_off > 0);

	/* Set back, it is moved as that of others is. */
	check_eq(set_migrate(a, "any"), 0);
	compact_until(a, "moved_compact", 1);
	check_eq(pins_stat(a, "held_off"), held_off);
	check_stamp(p, len, PAGES(3));
}

/* NUMA balancing, as fast as it goes */
static void balance(bool on, long was[4])
{
	static const char *const files[] = {
		"scan_delay_ms", "scan_period_min_ms", "scan_period_max_ms",
	};
	int i;

	/* A kernel without CONFIG_SCHED_DEBUG takes its time. */
	for (i = 0; !access(NUMA_DEBUG, F_OK) && i < ARRAY_SIZE(files); i++) {
		if (on)
			was[i] = replace(NUMA_DEBUG, files[i], 20);
		else
			cg_write_numeric(NUMA_DEBUG, files[i], was[i]);
	}
	if (on)
		was[3] = replace(KERNEL, "numa_balancing", 1);
	else
		cg_write_numeric(KERNEL, "numa_balancing", was[3]);
}

/* Uses memory for so many ms of CPU time. */
static void use(char *p, size_t len, int ms)
{
	clock_t end = clock() + ms * (CLOCKS_PER_SEC / 1000);
	size_t off;

	while (clock() < end)
		for (off = 0; off < len; off += PAGE_SIZE)
			__atomic_fetch_add(p + off, 1, __ATOMIC_RELAXED);
}

/* Memory on a node where this task is not, and stays away from */
static char *map_elsewhere(void)
{
	unsigned int cpu, node;
	char *p = map(SZ_2M);
	cpu_set_t cpus;

	check_eq(syscall(SYS_getcpu, &cpu, &node, NULL), 0);
	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	check_eq(sched_setaffinity(0, sizeof(cpus), &cpus), 0);
	check_eq(syscall(SYS_getcpu, NULL, &node, NULL), 0);
	allocate_on(!node);
	fill(p, SZ_2M);
	allocate_on(-1);
	return p;
}

/* The task uses memory of its own cgroup, and of one that has it stay. */
static void numa_balancing(void)
{
	char *a = enter_owner("a"), *b, *p, *q;
	long was[4];

	if (access(NODE1, F_OK))
		skip("only one NUMA node");
	check_eq(set_migrate(a, "needed"), 0);
	p = map_elsewhere();
	b = cg_make("b");
	enter(b);
	q = map_elsewhere();

	balance(true, was);
	use(q, SZ_2M, 2000);
	use(p, SZ_2M, 2000);
	balance(false, was);
	ksft_print_msg("any: %ld moved; needed: %ld, %ld held off\n",
		       pins_stat(b, "moved_numa"), pins_stat(a, "moved_numa"),
		       pins_stat(a, "held_off"));
	if (!pins_stat(b, "moved_numa"))
		skip("NUMA balancing did not move it either");
	check_eq(convenient(a), 0);
	check(pins_stat(a, "held_off") > 0);
}

/*
 * A device that mirrors page tables reads memory. Returns whether it had to ask for a page,
 * which it has lost then since it last did.
 */
static bool has_lost(int mirror, char *p, size_t len)
{
	static char buffer[SZ_2M];
	struct hmm_dmirror_cmd cmd = {
		.addr = (uintptr_t)p, .ptr = (uintptr_t)buffer, .npages = len / PAGE_SIZE,
	};

	check(len <= sizeof(buffer));
	check_eq(ioctl(mirror, HMM_DMIRROR_READ, &cmd), 0);
	check_eq(cmd.cpages, cmd.npages);
	return cmd.faults;
}

/* To find out where memory is used from takes it from devices, too. */
static void numa_device(void)
{
	int mirror = open(MIRROR, O_RDWR), tries = 20;
	char *a = enter_owner("a"), *p;
	bool lost;
	long was[4];

	if (access(NODE1, F_OK))
		skip("only one NUMA node");
	if (mirror < 0)
		skip("no " MIRROR);
	check_eq(set_migrate(a, "needed"), 0);
	p = map_elsewhere();
	check(has_lost(mirror, p, SZ_2M));
	check(!has_lost(mirror, p, SZ_2M));

	balance(true, was);
	use(p, SZ_2M, 2000);
	check(!has_lost(mirror, p, SZ_2M));
	check_eq(set_migrate(a, "any"), 0);
	do
		use(p, SZ_2M, 1000);
	while (!(lost = has_lost(mirror, p, SZ_2M)) && --tries);
	balance(false, was);
	if (!lost)
		skip("NUMA balancing did not look at other memory either");
	close(mirror);
}

/* To the other node */
static void move_elsewhere(void *page, int flags)
{
	int node, there, status = -1, i;

	check_eq(syscall(SYS_move_pages, 0, 1, &page, NULL, &node, 0), 0);
	there = !node;
	/* ksmd may just be looking at it. */
	for (i = 0; i < 100 && status != there; i++) {
		check(syscall(SYS_move_pages, 0, 1, &page, &there, &status, flags) >= 0);
		usleep(10000);
	}
	check_eq(status, there);
}

#define SHARED	1000	/* of 1024 pages; one page is shared by 256 at most */

static void ksm(void)
{
	char *a = enter_owner("a"), *b, *p, *q;
	long run, sleeping, pages, scans;
	size_t off;
	int i;

	b = cg_make("b");
	check_eq(set_migrate(a, "needed"), 0);
	p = map(SZ_2M);
	memset(p, 7, SZ_2M);
	enter(b);
	q = map(SZ_2M);
	memset(q, 7, SZ_2M);
	if (madvise(p, SZ_2M, MADV_MERGEABLE) || madvise(q, SZ_2M, MADV_MERGEABLE))
		skip("no KSM");
	sleeping = replace(KSM, "sleep_millisecs", 1);
	pages = replace(KSM, "pages_to_scan", 1000);
	run = replace(KSM, "run", 1);
	for (i = 0; i < 1200 && pins_stat(b, "moved_ksm") < 100; i++)
		usleep(50000);
	check(pins_stat(b, "moved_ksm") >= 100);
	check_eq(convenient(a), 0);
	check(pins_stat(a, "held_off") > 0);
	check_eq(set_migrate(a, "any"), 0);
	for (i = 0; i < 1200 && !pins_stat(a, "moved_ksm"); i++)
		usleep(50000);
	check(pins_stat(a, "moved_ksm") > 0);
	/* What is shared is kept track of: it can still be moved by who must. */
	for (i = 0; i < 1200 && cg_read_long(KSM, "pages_sharing") < SHARED; i++)
		usleep(50000);
	check_eq(set_migrate(a, "needed"), 0);
	scans = cg_read_long(KSM, "full_scans");
	for (i = 0; i < 1200 && cg_read_long(KSM, "full_scans") < scans + 3; i++)
		usleep(50000);
	check(cg_read_long(KSM, "pages_sharing") >= SHARED);
	if (!access(NODE1, F_OK))
		move_elsewhere(p, MPOL_MF_MOVE_ALL);
	for (off = 0; off < SZ_2M; off++)
		check(p[off] == 7 && q[off] == 7);
	cg_write(KSM, "run", "2");
	cg_write_numeric(KSM, "run", run);
	cg_write_numeric(KSM, "pages_to_scan", pages);
	cg_write_numeric(KSM, "sleep_millisecs", sleeping);
}

/* Small pages where khugepaged would like to have huge ones: @map's */
static void collapse(char *(*map_small)(size_t len))
{
	char *a = enter_owner("a"), *b, *p, *q;
	long sleeping, allocating, pages;
	int i;

	need_thp();
	b = cg_make("b");
	check_eq(set_migrate(a, "needed"), 0);
	p = map_small(2 * SZ_2M);
	stamp(p, 2 * SZ_2M);
	enter(b);
	q = map_small(SZ_2M);
	stamp(q, SZ_2M);
	sleeping = replace(KHUGEPAGED, "scan_sleep_millisecs", 10);
	allocating = replace(KHUGEPAGED, "alloc_sleep_millisecs", 10);
	pages = replace(KHUGEPAGED, "pages_to_scan", 4096);
	check(!madvise(p, 2 * SZ_2M, MADV_HUGEPAGE));
	check(!madvise(q, SZ_2M, MADV_HUGEPAGE));
	for (i = 0; i < 1200 && (!pins_stat(b, "moved_collapse") ||
				 !pins_stat(a, "held_off")); i++)
		usleep(50000);
	check_eq(pins_stat(b, "moved_collapse"), SZ_2M / PAGE_SIZE);
	check_eq(convenient(a), 0);
	check(pins_stat(a, "held_off") > 0);

	/* The owner himself may have it. What is new belongs to where he is. */
	enter(a);
	check(!madvise(p, SZ_2M, MADV_COLLAPSE));
	check_eq(pins_stat(a, "moved_collapse"), SZ_2M / PAGE_SIZE);
	check_eq(set_migrate(a, "any"), 0);
	for (i = 0; i < 1200 && pins_stat(a, "moved_collapse") < 2 * SZ_2M / PAGE_SIZE; i++)
		usleep(50000);
	check_eq(pins_stat(a, "moved_collapse"), 2 * SZ_2M / PAGE_SIZE);
	check_stamp(p, 2 * SZ_2M, PAGE_SIZE);
	check_stamp(q, SZ_2M, PAGE_SIZE);
	cg_write_numeric(KHUGEPAGED, "scan_sleep_millisecs", sleeping);
	cg_write_numeric(KHUGEPAGED, "alloc_sleep_millisecs", allocating);
	cg_write_numeric(KHUGEPAGED, "pages_to_scan", pages);
}

static char *map_anon(size_t len)
{
	char *p = map(len);

	fill(p, len);
	return p;
}

static char *map_shmem(size_t len)
{
	char *p = mmap(mem_reserve(len, SZ_2M), len, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	check(p != MAP_FAILED);
	fill(p, len);
	return p;
}

/* A huge page, mapped by page table entries; khugepaged would like to map it as a whole. */
static char *map_by_entries(void)
{
	char *p = map_shmem(SZ_2M);

	if (madvise(p, SZ_2M, MADV_COLLAPSE))
		skip("no huge page: %s", strerror(errno));
	check(!madvise(p, SZ_2M, MADV_DONTNEED));
	check(!madvise(p, SZ_2M, MADV_NOHUGEPAGE));
	fill(p, SZ_2M);
	check(!madvise(p, SZ_2M, MADV_HUGEPAGE));
	return p;
}

/* Is what begins at @p mapped as a whole? khugepaged unmaps it; to touch it maps it so. */
static bool mapped_whole(char *p)
{
	unsigned long at = 0, kb = 0, start, end;
	FILE *smaps = fopen("/proc/self/smaps", "r");
	char line[PATH_MAX];

	check(smaps);
	__atomic_load_n(p, __ATOMIC_RELAXED);
	while (!(at == (uintptr_t)p && kb) && fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			at = start;
		else if (at == (uintptr_t)p)
			sscanf(line, "ShmemPmdMapped: %lu kB", &kb);
	}
	fclose(smaps);
	return kb;
}

static void map_whole(void)
{
	char *a = enter_owner("a"), *b, *p, *q;
	long sleeping, pages;
	int i;

	need_thp();
	b = cg_make("b");
	check_eq(set_migrate(a, "needed"), 0);
	p = map_by_entries();
	enter(b);
	q = map_by_entries();
	sleeping = replace(KHUGEPAGED, "scan_sleep_millisecs", 10);
	pages = replace(KHUGEPAGED, "pages_to_scan", 4096);
	for (i = 0; i < 1200 && (!mapped_whole(q) || !pins_stat(a, "held_off")); i++)
		usleep(50000);
	check(mapped_whole(q));
	check(!mapped_whole(p));
	check(pins_stat(a, "held_off") > 0);
	cg_write_numeric(KHUGEPAGED, "scan_sleep_millisecs", sleeping);
	cg_write_numeric(KHUGEPAGED, "pages_to_scan", pages);
}

static void collapse_anon(void)
{
	collapse(map_anon);
}

static void collapse_shmem(void)
{
	collapse(map_shmem);
}

/* Whoever has to move memory does. */

#define PIPES		16384

/* Such memory lies all over, and pipes use up the rest, until some of it has to move. */
static void last_resort(void)
{
	struct rlimit files = { 2 * PIPES + 64, 2 * PIPES + 64 };
	long killed = cg_read_key_long("/proc", "vmstat", "oom_kill ");
	/* Free kB without holes */
	long left = (128 << 10) + 2 * cg_read_long(VM, "min_free_kbytes"), boost;
	char *a = enter_owner("a"), *p;
	int fds[2], i, refused = 0;
	size_t len = 0;

	if (cg_read_key_long("/proc", "meminfo", "CmaTotal:") > 0)
		skip("memory of CMA cannot be had for pipes");
	check(!setrlimit(RLIMIT_NOFILE, &files));
	check_eq(set_migrate(a, "needed"), 0);
	fill_pool();
	p = map(SZ_1G);
	check(!madvise(p, SZ_1G, MADV_NOHUGEPAGE));
	while (cg_read_key_long("/proc", "meminfo", "MemFree:") > left && len < SZ_1G) {
		fill(p + len, SZ_2M);
		len += SZ_2M;
	}
	if (len < SZ_2M * 32 || len == SZ_1G)
		skip("too little memory to do that, or too much");
	boost = replace(VM, "watermark_boost_factor", 0);
	stamp(p, len);
	make_holes(p, len);
	enter_root();
	for (i = 0; i < PIPES && pins_stat(a, "moved_compact") < 1000; i++) {
		check(!pipe(fds));
		/* An array of 512 elements of 40 bytes takes 32 kB. */
		if (fcntl(fds[0], F_SETPIPE_SZ, PAGES(512)) != PAGES(512))
			refused++;
	}
	ksft_print_msg("%d pipes, %d refused, %ld pages moved, %ld held off, of %zu\n",
		       i, refused, pins_stat(a, "moved_compact"),
		       pins_stat(a, "held_off"), len / PAGES(3));
	empty_pool();
	cg_write_numeric(VM, "watermark_boost_factor", boost);
	check_eq(refused, 0);
	check_eq(cg_read_key_long("/proc", "vmstat", "oom_kill "), killed);
	check(pins_stat(a, "moved_compact") >= 1000);
	check_stamp(p, len, PAGES(3));
}

static void empty(struct range r, const char *key)
{
	char *a = enter_owner("a"), *p;
	long moved;
	int i;

	check_eq(set_migrate(a, "needed"), 0);
	for (i = 0; i < 10; i++) {
		if (r.block >= 0)
			allocate_near(&r);
		enter(a);
		p = memory_of(&r, true, PAGES(64), MAP_PRIVATE);
		allocate_on(-1);
		stamp(p, PAGES(64));
		check(in_range(&r, p, PAGES(64)));
		moved = pins_stat(a, key);
		/* Parts of this program are lost, too, and would be read again there. */
		enter_root();
		check_eq(take(&r), 0);
		check(!in_range(&r, p, PAGE_SIZE));
		check(pins_stat(a, key) - moved >= 64);
		check_stamp(p, PAGES(64), PAGE_SIZE);
		check(!munmap(p, PAGES(64)));
		give_back(&r);
	}
	check_eq(convenient(a), 0);
}

static void cma(void)
{
	empty(cma_range(), "moved_contig");
}

static void offline(void)
{
	empty(movable_range(), "moved_offline");
}

static void asked_for(void)
{
	char *a = enter_owner("a"), *p;

	if (access(NODE1, F_OK))
		skip("only one NUMA node");
	check_eq(set_migrate(a, "needed"), 0);
	p = map(PAGE_SIZE);
	fill(p, PAGE_SIZE);
	move_elsewhere(p, MPOL_MF_MOVE);
	check_eq(pins_stat(a, "moved_other"), 1);
	check_eq(convenient(a), 0);
}

static void steered(void)
{
	struct range r = movable_range();
	struct mem m = { .kind = &mem_kinds[MEM_ANON], .len = PAGES(8), .fd = -1 };
	char *a = enter_owner("a");
	struct pin p;

	need_source(SOURCE_URING);
	check_eq(set_migrate(a, "needed"), 0);
	allocate_near(&r);
	m.addr = memory_of(&r, true, m.len, MAP_PRIVATE);
	allocate_on(-1);
	stamp(m.addr, m.len);
	check_eq(pin(&p, SOURCE_URING, &m), 0);
	check(!in_range(&r, m.addr, PAGE_SIZE));
	check(pins_stat(a, "moved_steer") >= 8);
	check_eq(convenient(a), 0);
	check_stamp(m.addr, m.len, PAGE_SIZE);
	unpin(&p);
}

/* What is set above holds below; what is counted below counts above. */
static void hierarchy(void)
{
	char *parent = cg_make("p"), *a;
	size_t len;

	a = enter_owner("p/a");
	check_eq(cg_write(parent, "cgroup.subtree_control", "+memory"), 0);
	enter(a);
	check_eq(set_migrate(parent, "needed"), 0);
	fragment(&len, a, a);
	compact_until(a, "held_off", 1);
	check_eq(pins_stat(parent, "held_off"), pins_stat(a, "held_off"));
	check_eq(convenient(parent), 0);
}

static const struct pins_test tests[] = {
	{ "pins.migrate: its values, and who may write \"needed\"", knob },
	{ "pins.migrate: compaction leaves memory alone, that of others not", compaction },
	{ "pins.migrate: NUMA balancing", numa_balancing },
	{ "pins.migrate: NUMA balancing takes nothing from devices", numa_device },
	{ "pins.migrate: KSM", ksm },
	{ "pins.migrate: khugepaged, anonymous memory", collapse_anon },
	{ "pins.migrate: khugepaged, shared memory", collapse_shmem },
	{ "pins.migrate: khugepaged does not unmap a huge page either", map_whole },
	{ "pins.migrate: CMA gets its memory all the same, 10 of 10", cma },
	{ "pins.migrate: memory goes offline all the same, 10 of 10", offline },
	{ "pins.migrate: small allocations do not call the OOM killer", last_resort },
	{ "pins.migrate: who asks for a page to be moved gets it", asked_for },
	{ "pins.migrate: long-term pins leave ZONE_MOVABLE", steered },
	{ "pins.migrate: holds below, and counts above", hierarchy },
};

int main(void)
{
	pins_run(tests, ARRAY_SIZE(tests));
}
