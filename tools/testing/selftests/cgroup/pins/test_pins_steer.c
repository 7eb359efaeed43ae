// SPDX-License-Identifier: GPL-2.0
/*
 * Where long-term pins are placed: pins.steer, and in pins.stat movable_block and
 * steered_*.
 *
 * User space cannot see the type of a pageblock. That steering helps huge pages
 * is shown by make bench; these tests check the statistics of the kernel.
 *
 * Copyright (C) 2026 the pins authors
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/mempolicy.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "pins_util.h"

#define NODES		"/sys/devices/system/node"

#define SCATTERED	16		/* pins, each in a block of its own */

static char *cg_steer(const char *name, const char *steer)
{
	char *cg = cg_make(name);

	check_eq(cg_write(cg, "pins.steer", (char *)steer), 0);
	return cg;
}

static char *steering_cgroup(const char *name, const char *steer)
{
	char *cg = cg_steer(name, steer);

	enter(cg);
	return cg;
}

/* The files */

static void file_of_the_knob(void)
{
	static char *const bad[] = { "1", "none", "blocks", "zone block", "Block" };
	char *cg = cg_make("a"), *child, text[64];
	int i;

	check_eq(cg_read(cg, "pins.steer", text, sizeof(text)), 0);
	check(!strcmp(text, "zone\n"));
	check_eq(cg_write(cg, "pins.steer", " block\n"), 0);
	check_eq(cg_read(cg, "pins.steer", text, sizeof(text)), 0);
	check(!strcmp(text, "block\n"));
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		check(cg_write(cg, "pins.steer", bad[i]) < 0);
		check_eq(errno, EINVAL);
		check_eq(cg_read(cg, "pins.steer", text, sizeof(text)), 0);
		check(!strcmp(text, "block\n"));
	}
	/* The file shows what was written to it, not the effective value. */
	child = cg_make("a/b");
	check_eq(cg_read(child, "pins.steer", text, sizeof(text)), 0);
	check(!strcmp(text, "zone\n"));
	check_eq(cg_write(cg, "pins.steer", "zone"), 0);
	check_eq(cg_read(cg, "pins.steer", text, sizeof(text)), 0);
	check(!strcmp(text, "zone\n"));
	check(cg_read(pins_root, "pins.steer", text, sizeof(text)));
}

static void lines_of_the_statistics(void)
{
	static const char *const lines[] = {
		"movable_block", "steered_zone", "steered_block", "steer_failed",
		"blocked_contig", "blocked_offline", "blocked_compact",
	};
	char *cg = cg_make("a");
	int i;

	for (i = 0; i < ARRAY_SIZE(lines); i++)
		check_eq(pins_stat(cg, lines[i]), 0);
	check_eq(cg_read_key_long(cg, "pins.events", "blocked "), 0);
	check_eq(cg_read_key_long(cg, "pins.events.local", "blocked "), 0);
}

/* Out of CMA */

static struct range range;

static struct mem one_page(char *addr)
{
	return (struct mem){ .kind = &mem_kinds[MEM_ANON], .addr = addr,
			     .len = PAGE_SIZE, .fd = -1 };
}

static void zone(void)
{
	char *cg;
	struct mem m;
	struct pin p;

	need_source(SOURCE_URING);
	range = cma_range();
	m = one_page(memory_of(&range, true, PAGE_SIZE, MAP_PRIVATE));
	snprintf(m.addr, PAGE_SIZE, "to be kept");
	cg = enter_new("a");
	check_eq(pin(&p, SOURCE_URING, &m), 0);
	check(!in_range(&range, m.addr, PAGE_SIZE));
	check(!strcmp(m.addr, "to be kept"));
	check_eq(pins_current(cg), PAGE_SIZE);
	check_eq(pins_stat(cg, "steered_zone"), 1);
	check_eq(pins_stat(cg, "steered_block"), 0);
	check_eq(pins_stat(cg, "steer_failed"), 0);
	check_eq(pins_stat(cg, "pins"), 1);
	unpin(&p);
	check_eq(pins_current(cg), 0);
}

/* A page in CMA is in use for a read that takes so long, and a new cgroup wants it. */
static struct mem wanted;
static __kernel_ulong_t reading;

static char *conflict(long drain_max_us, long ns)
{
	char *cg;
	int disk;

	need_source(SOURCE_URING);
	range = cma_range();
	check_eq(cg_write_numeric(VM, "pins_drain_max_us", drain_max_us), 0);
	wanted = one_page(memory_of(&range, true, PAGE_SIZE, MAP_PRIVATE));
	disk = slow_disk(ns);
	cg = enter_new("a");
	reading = read_begin(disk, wanted.addr, PAGE_SIZE);
	return cg;
}

static void zone_waits_for_io(void)
{
	char *cg = conflict(10000000, 300 * MS);
	struct pin p;

	check_eq(pin(&p, SOURCE_URING, &wanted), 0);
	check(read_done(reading));
	check(!in_range(&range, wanted.addr, PAGE_SIZE));
	check_eq(pins_current(cg), PAGE_SIZE);
	check_eq(pins_stat(cg, "steer_failed"), 0);
	unpin(&p);
}

static void zone_gives_up(void)
{
	char *cg = conflict(20000, 2000 * MS);
	struct pin p;

	check_eq(pin(&p, SOURCE_URING, &wanted), -ENOMEM);
	check(!read_done(reading));
	check(in_range(&range, wanted.addr, PAGE_SIZE));
	check_eq(pins_current(cg), 0);
	check_eq(pins_stat(cg, "pins"), 0);
	check_eq(pins_stat(cg, "steered_zone"), 0);
	check_eq(pins_stat(cg, "steer_failed"), 1);
	read_end(reading, PAGE_SIZE);
	/* Once the read has ended, the page can be moved */
	check_eq(pin(&p, SOURCE_URING, &wanted), 0);
	check_eq(pins_stat(cg, "steered_zone"), 1);
	unpin(&p);
}

/* Out of movable pageblocks */

static struct mem scattered;
static struct pin scattered_pin[SCATTERED];
static int nr_scattered;

/* What page_nr() reads is what scatter() has written. */
static unsigned int *page_nr(int i)
{
	return (unsigned int *)(scattered.addr + i * (scattered.len / SCATTERED) +
				PAGE_SIZE);
}

static void scatter_in(int kind, size_t len)
{
	int i;

	scattered = mem_get(kind, len);
	if (scattered.kind->how & HOW_READ_PIN)
		return;
	for (i = 0; i < SCATTERED; i++)
		*page_nr(i) = i + 1;
}

static void scatter(int kind)
{
	scatter_in(kind, SCATTERED * SZ_2M);
}

static void pin_scattered(int source)
{
	int i;

	nr_scattered = pin_sources[source].can & CAN_ONCE ? 1 : SCATTERED;
	for (i = 0; i < nr_scattered; i++)
		check_eq(pin_part(&scattered_pin[i], source, &scattered,
				  (char *)page_nr(i) - scattered.addr, PAGE_SIZE), 0);
}

static void unpin_scattered(void)
{
	int i;

	for (i = 0; i < nr_scattered; i++) {
		if (!(scattered.kind->how & HOW_READ_PIN))
			check_eq(*page_nr(i), i + 1);
		unpin(&scattered_pin[i]);
	}
}

static void need_movable_blocks(const char *cg)
{
	if (!pins_stat(cg, "movable_block") && !pins_stat(cg, "steered_block"))
		skip("the memory was in CMA");
}

static void zone_stays_in_movable_blocks(void)
{
	char *cg;

	need_source(SOURCE_URING);
	scatter(MEM_ANON);
	cg = steering_cgroup("a", "zone");
	pin_scattered(SOURCE_URING);
	check_eq(pins_current(cg), PAGES(SCATTERED));
	check_eq(pins_stat(cg, "steered_block"), 0);
	need_movable_blocks(cg);
	check(pins_stat(cg, "movable_block") +
	      PAGES(pins_stat(cg, "steered_zone")) >= PAGES(SCATTERED / 2));
	unpin_scattered();
	check_eq(pins_stat(cg, "movable_block"), 0);
}

static void block_for(char *cg, int kind, size_t len, int source)
{
	size_t folio = mem_kinds[kind].folio ?: PAGE_SIZE;

	need_source(source);
	scatter_in(kind, len);
	enter(cg);
	pin_scattered(source);
	check_eq(pins_current(cg), nr_scattered * folio);
	check_eq(pins_stat(cg, "movable_block"), 0);
	check_eq(pins_stat(cg, "steer_failed"), 0);
	need_movable_blocks(cg);
	unpin_scattered();
	check_eq(pins_current(cg), 0);
}

static void block_in(int kind, size_t len, int source)
{
	block_for(cg_steer("a", "block"), kind, len, source);
}

static void block(int kind, int source)
{
	block_in(kind, SCATTERED * SZ_2M, source);
}

static void block_anon(void)
{
	block(MEM_ANON, SOURCE_URING);
}

static void block_anon_slow(void)
{
	block(MEM_ANON, SOURCE_GUP);
}

/* As systemd and crun have it: a slice, a scope, and below it the container */
static void block_of_an_ancestor(void)
{
	cg_steer("a", "block");
	cg_make("a/b");
	block_for(cg_steer("a/b/c", "zone"), MEM_ANON, SCATTERED * SZ_2M, SOURCE_URING);
}

/* They move as they are. */
static void block_mthp(void)
{
	struct mem m[8];
	struct pin p[8];
	char *cg;
	int i;

	need_source(SOURCE_URING);
	for (i = 0; i < ARRAY_SIZE(m); i++)
		m[i] = mem_get(MEM_MTHP, SZ_64K);
	cg = steering_cgroup("a", "block");
	for (i = 0; i < ARRAY_SIZE(m); i++)
		check_eq(pin_part(&p[i], SOURCE_URING, &m[i], PAGES(i), PAGE_SIZE), 0);
	check_eq(pins_current(cg), ARRAY_SIZE(m) * SZ_64K);
	check_eq(pins_stat(cg, "movable_block"), 0);
	check_eq(pins_stat(cg, "steer_failed"), 0);
	for (i = 0; i < ARRAY_SIZE(m); i++) {
		check_eq(mem_folio(m[i].addr), SZ_64K);
		unpin(&p[i]);
	}
	need_movable_blocks(cg);
}

static void block_shmem(void)
{
	block(MEM_MEMFD, SOURCE_URING);
}

static void block_udmabuf(void)
{
	block(MEM_MEMFD, SOURCE_UDMABUF);
}

static void block_file(void)
{
	block_in(MEM_EXT4, SZ_2M, SOURCE_GUP);
}

static void block_rdma(void)
{
	block(MEM_ANON, SOURCE_RDMA);
}

static int node_of(char *addr)
{
	void *page = addr;
	int node = -1;

	check_eq(syscall(SYS_move_pages, 0, 1, &page, NULL, &node, 0), 0);
	return node;
}

static void block_on_its_node(void)
{
	char *cg;
	int i;

	need_source(SOURCE_URING);
	scatter(MEM_NODE1);
	cg = steering_cgroup("a", "block");
	for (i = 0; i < SCATTERED; i++)
		check_eq(node_of((char *)page_nr(i)), 1);
	pin_scattered(SOURCE_URING);
	check_eq(pins_stat(cg, "movable_block"), 0);
	/* An earlier test may have left a block in ZONE_MOVABLE. */
	check(pins_stat(cg, "steered_block") + pins_stat(cg, "steered_zone") > 0);
	for (i = 0; i < SCATTERED; i++)
		check_eq(node_of((char *)page_nr(i)), 1);
	unpin_scattered();
}

/* Migration needs no new charge; the limit has room only for our records. */
static void block_at_the_memory_limit(void)
{
	struct mem m;
	struct pin p;
	char *cg;

	need_source(SOURCE_URING);
	need_memory_controller();
	cg = steering_cgroup("a", "block");
	m = mem_get(MEM_ANON, SZ_2M);
	check_eq(cg_write_numeric(cg, "memory.max",
				  cg_read_long(cg, "memory.current") + 4 * SZ_64K), 0);
	check_eq(pin(&p, SOURCE_URING, &m), 0);
	check_eq(pins_current(cg), SZ_2M);
	check_eq(pins_stat(cg, "movable_block"), 0);
	check_eq(pins_stat(cg, "steer_failed"), 0);
	check_eq(cg_read_key_long(cg, "memory.events", "oom "), 0);
	unpin(&p);
	check_reaches(cg, 0);
	/* Nothing may keep the memory cgroup once it is removed */
	enter_root();
	munmap(m.addr, m.len);
	cg_write(VM, "drop_caches", "3");
	check_eq(cg_write(pins_top, "cgroup.subtree_control", "-memory"), 0);
	check_eq(cg_write(pins_root, "cgroup.subtree_control", "-memory"), 0);
}

/* A huge page that is pinned in part fills its block: it stays, and stays huge. */
static void block_leaves_huge_pages(void)
{
	unsigned long pfn;
	struct mem m;
	struct pin p;
	char *cg;

	need_source(SOURCE_URING);
	m = mem_get(MEM_THP, SZ_2M);
	/* Out of CMA, if it is there */
	enter_new("z");
	check_eq(pin(&p, SOURCE_URING, &m), 0);
	unpin(&p);
	pfn = pfn_of(m.addr);
	cg = steering_cgroup("a", "block");
	check_eq(pin_part(&p, SOURCE_URING, &m, PAGES(3), PAGE_SIZE), 0);
	check_eq(pfn_of(m.addr), pfn);
	check_eq(mem_folio(m.addr), SZ_2M);
	check_eq(pins_current(cg), SZ_2M);
	check_eq(pins_stat(cg, "steered_block"), 0);
	check_eq(pins_stat(cg, "steer_failed"), 0);
	check_eq(pins_stat(cg, "movable_block"), 0);
	unpin(&p);
}

/* One attempt, and no error */
static void block_gives_up(void)
{
	unsigned long pfn;
	struct mem m;
	struct pin p;
	char *cg;
	int disk;

	need_source(SOURCE_URING);
	disk = slow_disk(2000 * MS);
	scatter(MEM_ANON);
	m = one_page((char *)page_nr(SCATTERED / 2));
	/* Out of CMA, where it would have to go */
	enter_new("z");
	check_eq(pin(&p, SOURCE_URING, &m), 0);
	unpin(&p);
	pfn = pfn_of(m.addr);
	cg = steering_cgroup("a", "block");
	reading = read_begin(disk, m.addr, PAGE_SIZE);
	check_eq(pin(&p, SOURCE_URING, &m), 0);
	check(!read_done(reading));
	check_eq(pfn_of(m.addr), pfn);
	need_movable_blocks(cg);
	check_eq(pins_stat(cg, "movable_block"), PAGE_SIZE);
	check_eq(pins_stat(cg, "steer_failed"), 1);
	check_eq(pins_stat(cg, "steered_block"), 0);
	read_end(reading, PAGE_SIZE);
	unpin(&p);
}

static void on_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		skip("no CPU %d", cpu);
}

/* How often this process has queued a drain of the LRU batches on other CPUs */
static int drains(bool begin)
{
	static const char event[] = "workqueue/workqueue_queue_work";
	char line[512], self[32];
	FILE *f;
	int nr = 0;

	if (begin) {
		trace_begin(event);
		return 0;
	}
	f = trace_end(event);
	snprintf(self, sizeof(self), "-%d ", getpid());
	while (fgets(line, sizeof(line), f))
		nr += strstr(line, self) && strstr(line, "lru_add_drain_per_cpu");
	fclose(f);
	return nr;
}

/*
 * Pages that another CPU has just touched are in its LRU batch. They must stay there,
 * so that there is something to drain afterwards. If something else has
 * drained them meanwhile, try again.
 */
static void block_interrupts_nobody(void)
{
	enum { NR = 8, TRIES = 20 };
	struct pin p[NR];
	int i, j, seen = 0;
	struct mem m;
	char *cg;

	cg = steering_cgroup("a", "block");
	need_source(SOURCE_URING);
	for (i = 0; i < TRIES && !(seen && pins_stat(cg, "steer_failed")); i++) {
		m = mem_get(MEM_UNTOUCHED, PAGES(NR));
		on_cpu(1);
		memset(m.addr, 1, m.len);
		on_cpu(0);
		drains(true);
		for (j = 0; j < NR; j++)
			check_eq(pin_part(&p[j], SOURCE_URING, &m, PAGES(j),
					  PAGE_SIZE), 0);
		seen = drains(false);
		/* Leaving CMA does interrupt other CPUs. */
		if (pins_stat(cg, "steered_zone"))
			skip("the memory was in CMA");
		check_eq(seen, 0);
		check_eq(pins_current(cg), m.len);
		drains(true);
		check_eq(cg_write(VM, "drop_caches", "1"), 0);
		seen = drains(false);
		for (j = 0; j < NR; j++)
			unpin(&p[j]);
	}
	check(seen);
	check(pins_stat(cg, "steer_failed"));
	check_eq(pins_stat(cg, "steered_block") + pins_stat(cg, "steer_failed"), i * NR);
}

/* Pinned memory is not moved when it is pinned again. */
static void block_again(void)
{
	unsigned long pfn;
	struct pin p, q;
	struct mem m;
	char *cg;

	need_source(SOURCE_URING);
	scatter(MEM_ANON);
	m = one_page((char *)page_nr(1));
	cg = steering_cgroup("a", "zone");
	check_eq(pin(&p, SOURCE_URING, &m), 0);
	pfn = pfn_of(m.addr);
	check_eq(cg_write(cg, "pins.steer", "block"), 0);
	check_eq(pin(&q, SOURCE_URING, &m), 0);
	check_eq(pfn_of(m.addr), pfn);
	check_eq(pins_stat(cg, "steer_failed"), 0);
	check_eq(pins_stat(cg, "steered_block"), 0);
	check_eq(pins_current(cg), PAGE_SIZE);
	unpin(&p);
	unpin(&q);
}

static const struct pins_test tests[] = {
	{ "pins.steer takes zone and block only", file_of_the_knob },
	{ "pins.stat and pins.events have their lines", lines_of_the_statistics },
	{ "zone: a pin leaves CMA, and is counted", zone },
	{ "zone: it waits for direct I/O", zone_waits_for_io },
	{ "zone, I3 whole, I10 bounded: it gives up with ENOMEM", zone_gives_up },
	{ "zone: it stays in movable pageblocks", zone_stays_in_movable_blocks },
	{ "block: anon leaves movable pageblocks", block_anon },
	{ "block: by pin_user_pages", block_anon_slow },
	{ "block: what an ancestor says holds", block_of_an_ancestor },
	{ "block: mTHP of 64 kB", block_mthp },
	{ "block: memfd", block_shmem },
	{ "block: memfd, by udmabuf", block_udmabuf },
	{ "block: page cache of ext4", block_file },
	{ "block: an RDMA memory region", block_rdma },
	{ "block: memory stays on its node", block_on_its_node },
	{ "block: a full memory cgroup is no obstacle", block_at_the_memory_limit },
	{ "block: a huge page that is pinned in part stays", block_leaves_huge_pages },
	{ "block: memory in use for I/O stays, and that is no error", block_gives_up },
	{ "block: no other CPU is interrupted", block_interrupts_nobody },
	{ "block: what is pinned is pinned again where it is", block_again },
};

int main(void)
{
	pins_run(tests, ARRAY_SIZE(tests));
}
