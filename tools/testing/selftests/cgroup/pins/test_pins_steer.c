// SPDX-License-Identifier: GPL-2.0
/*
 * Where long-term pins are placed, and which cgroups are reported to block migration:
 * pins.steer, and in pins.stat movable_block, steered_* and blocked_*.
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

#define TRACING		"/sys/kernel/tracing"
#define GIGANTIC	"/sys/kernel/mm/hugepages/hugepages-1048576kB"
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
	check(pins_stat(cg, "steered_block") > 0);
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
	if (cg_write(pins_root, "cgroup.subtree_control", "+memory") ||
	    cg_write(pins_top, "cgroup.subtree_control", "+memory"))
		skip("no memory controller");
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
	static const char event[] = TRACING "/events/workqueue/workqueue_queue_work";
	char line[512], self[32];
	FILE *f;
	int nr = 0;

	if (begin) {
		/* Opening it with O_TRUNC clears it. */
		f = fopen(TRACING "/trace", "w");
		if (!f || cg_write(event, "enable", "1"))
			skip("no tracing");
		fclose(f);
		return 0;
	}
	check_eq(cg_write(event, "enable", "0"), 0);
	snprintf(self, sizeof(self), "-%d ", getpid());
	f = fopen(TRACING "/trace", "r");
	check(f);
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

/* Who is in the way */

/* A memory block that can be emptied, and where long-term pins may be */
static struct range kernel_range(void)
{
	struct range r = movable_range();

	check_eq(cg_write(r.dir, "state", "offline"), 0);
	check_eq(cg_write(r.dir, "state", "online_kernel"), 0);
	return r;
}

static void interrupted(int sig)
{
}

/* A child tries to empty the range, and is interrupted if it makes no progress. */
static void take_in_vain(const struct range *r, int ms)
{
	/* Again and again: the first may come before the attempt has begun. */
	struct itimerval soon = {
		.it_value.tv_usec = ms * 1000, .it_interval.tv_usec = ms * 1000,
	};
	struct sigaction sa = { .sa_handler = interrupted };
	pid_t pid = test_fork();

	if (!pid) {
		enter_root();
		sigaction(SIGALRM, &sa, NULL);
		setitimer(ITIMER_REAL, &soon, NULL);
		_exit(!take(r));
	}
	check_eq(reap(pid), 0);
}

static int log_open(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);

	check(fd >= 0);
	lseek(fd, 0, SEEK_END);
	return fd;
}

/* The level of what log_find() has found, and how often it has */
static int log_level, log_times;

/* The last line of the kernel log with that in it since log_open(), from there on */
static char *log_find(int fd, const char *what)
{
	static char text[4096];
	static char found[4096];
	ssize_t len;

	found[0] = 0;
	log_times = 0;
	while ((len = read(fd, text, sizeof(text) - 1)) > 0 || errno == EPIPE) {
		char *line;

		if (len < 0)
			continue;
		text[len] = 0;
		line = strstr(text, what);
		if (line) {
			*strchrnul(line, '\n') = 0;
			snprintf(found, sizeof(found), "%s", line);
			log_level = atoi(text) & 7;
			log_times++;
		}
	}
	return found[0] ? found : NULL;
}

/* Pages that pins_blocked tells of, since it was last asked */
static int trace_pages(bool begin)
{
	unsigned long pages, sum = 0;
	char line[512], *p;
	FILE *f;

	if (begin) {
		/* Opening it with O_TRUNC clears it. */
		f = fopen(TRACING "/trace", "w");
		if (!f || cg_write(TRACING "/events/pins/pins_blocked", "enable", "1"))
			skip("no tracing");
		fclose(f);
		return 0;
	}
	check_eq(cg_write(TRACING "/events/pins/pins_blocked", "enable", "0"), 0);
	f = fopen(TRACING "/trace", "r");
	check(f);
	while (fgets(line, sizeof(line), f)) {
		p = strstr(line, " pages=");
		if (p && strstr(line, "pins_blocked:") &&
		    sscanf(p, " pages=%lu", &pages) == 1)
			sum += pages;
	}
	fclose(f);
	return sum;
}

static void blame_offline(void)
{
	char *pages, *parent, *a, *b, *line, want[PATH_MAX];
	struct mem m, n;
	struct pin p, q, r;
	int log, other, disk;
	struct pollfd events;

	need_source(SOURCE_URING);
	range = kernel_range();
	check_eq(cg_write(VM, "pins_drain_max_us", "20000"), 0);
	disk = slow_disk(4000 * MS);
	pages = memory_of(&range, true, PAGES(4), MAP_PRIVATE);
	parent = cg_make("p");
	a = cg_make("p/a");
	b = cg_make("p/b");
	/* One is b's, one is both's, one is a's. */
	m = one_page(pages + PAGE_SIZE);
	m.len = PAGES(2);
	n = one_page(pages);

	log = log_open();
	trace_pages(true);
	enter(a);
	check_eq(pin(&p, SOURCE_URING, &m), 0);
	enter(b);
	check_eq(pin(&q, SOURCE_URING, &n), 0);
	m.len = PAGE_SIZE;
	check_eq(pin(&r, SOURCE_URING, &m), 0);
	reading = read_begin(disk, pages + PAGES(3), PAGE_SIZE);
	check(in_range(&range, pages, PAGES(4)));

	snprintf(want, sizeof(want), "%s/pins.events.local", a);
	events.fd = open(want, O_RDONLY);
	check(read(events.fd, want, sizeof(want)) > 0);
	events.events = POLLPRI;
	take_in_vain(&range, 900);
	check_eq(poll(&events, 1, 1000), 1);

	check_eq(cg_read_key_long(a, "pins.events.local", "blocked "), 1);
	check_eq(cg_read_key_long(b, "pins.events.local", "blocked "), 1);
	check_eq(cg_read_key_long(parent, "pins.events.local", "blocked "), 0);
	check_eq(cg_read_key_long(parent, "pins.events", "blocked "), 2);
	check_eq(pins_stat(a, "blocked_offline"), 1);
	check_eq(pins_stat(b, "blocked_offline"), 1);
	check_eq(pins_stat(parent, "blocked_offline"), 2);
	check_eq(pins_stat(parent, "blocked_contig"), 0);
	check_eq(pins_events(a), 0);

	/* The numbers add up */
	line = log_find(log, "pins: offlining [mem ");
	check(line);
	/* The same log level as that of dump_page() */
	check_eq(log_level, 4);
	check_eq(log_times, 1);
	snprintf(want, sizeof(want), "failed: 4 of %lu pages pinned, 2 by %s, 1 by %s",
		 range.pages, a + strlen(pins_root), b + strlen(pins_root));
	if (!strstr(line, want))
		ksft_print_msg("%s\n%s\n", line, want);
	check(strstr(line, want));
	check(strstr(line, "(and 1 with others)"));
	check(strstr(line, ", 1 short-term or by the root cgroup"));
	check_eq(trace_pages(false), 4);

	/* Isolated, or no longer, it can be pinned again. */
	other = fork();
	if (!other) {
		enter_root();
		take(&range);
		_exit(0);
	}
	usleep(200000);
	unpin(&r);
	m.len = PAGES(2);
	check_eq(pin(&r, SOURCE_URING, &m), 0);
	check(in_range(&range, pages, PAGES(2)));
	kill(other, SIGKILL);
	reap(other);
	/* A worker updates movable_block: all of it is in movable pageblocks. */
	usleep(100000);
	check_eq(pins_stat(parent, "movable_block"), pins_current(parent));

	read_end(reading, PAGE_SIZE);
	unpin(&p);
	unpin(&q);
	unpin(&r);
	check_eq(pins_current(parent), 0);
	check_eq(pins_stat(parent, "movable_block"), 0);
}

static void blame_cma(void)
{
	char *page, *line;
	int log, disk;

	range = cma_range();
	check_eq(cg_write(VM, "pins_drain_max_us", "0"), 0);
	disk = slow_disk(2000 * MS);
	page = memory_of(&range, true, PAGES(3), MAP_PRIVATE);
	log = log_open();
	trace_pages(true);
	reading = read_begin(disk, page, PAGES(3));
	check(take(&range));
	line = log_find(log, "pins: emptying [mem ");
	check(line);
	check(strstr(line, " 3 of "));
	check(strstr(line, "pinned, 3 short-term or by the root cgroup"));
	check_eq(trace_pages(false), 3);
	read_end(reading, PAGES(3));
	check_eq(take(&range), 0);
	give_back(&range);
}

/* Nobody is blamed while offlining still tries: it may succeed in the end. */
static void blame_in_the_end(void)
{
	int log, disk;
	char *cg, *pages;
	struct mem m;
	struct pin p;
	pid_t pid;

	need_source(SOURCE_URING);
	range = kernel_range();
	check_eq(cg_write(VM, "pins_drain_max_us", "20000"), 0);
	disk = slow_disk(1000 * MS);
	pages = memory_of(&range, true, PAGES(2), MAP_PRIVATE);
	m = one_page(pages);
	cg = enter_new("a");
	log = log_open();
	check_eq(pin(&p, SOURCE_URING, &m), 0);
	reading = read_begin(disk, pages + PAGE_SIZE, PAGE_SIZE);
	pid = test_fork();
	if (!pid) {
		enter_root();
		_exit(take(&range));
	}
	usleep(500000);
	check(!log_find(log, "pins: offlining [mem "));
	check_eq(cg_read_key_long(cg, "pins.events", "blocked "), 0);
	unpin(&p);
	read_end(reading, PAGE_SIZE);
	check_eq(reap(pid), 0);
	check(!log_find(log, "pins: offlining [mem "));
	check_eq(cg_read_key_long(cg, "pins.events", "blocked "), 0);
	give_back(&range);
}

/*
 * An allocation from CMA that is a little smaller than the area tries many places.
 * A page in the middle of it is in the way of all.
 */
static void blame_once(void)
{
	static char *const patience[] = { "0", "50000" };
	struct range smaller;
	char *page;
	int log, disk, i;

	range = cma_range();
	smaller = range;
	smaller.pages -= 8;
	disk = slow_disk(2000 * MS);
	page = memory_of(&range, true, PAGE_SIZE, MAP_PRIVATE);
	if (pfn_of(page) - range.pfn < 8 || pfn_of(page) - range.pfn >= smaller.pages)
		skip("the page is too near to the end of the area");
	log = log_open();
	reading = read_begin(disk, page, PAGE_SIZE);
	for (i = 0; i < ARRAY_SIZE(patience); i++) {
		check_eq(cg_write(VM, "pins_drain_max_us", patience[i]), 0);
		trace_pages(true);
		check(take(&smaller));
		check_eq(trace_pages(false), 1);
		check(log_find(log, "pins: emptying [mem "));
		check_eq(log_times, 1);
	}
	check(!read_done(reading));
	read_end(reading, PAGE_SIZE);
}

/* The first place where the kernel would make a gigantic page on some node */
static struct range gigantic_range(void)
{
	struct range r = { .pages = SZ_1G / PAGE_SIZE };
	char *p;

	if (cg_write(GIGANTIC, "nr_hugepages", "0") ||
	    cg_write(GIGANTIC, "nr_hugepages", "1") ||
	    cg_read_long(GIGANTIC, "nr_hugepages") != 1)
		skip("there is no room for a page of 1 GB");
	p = mmap(NULL, SZ_1G, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS |
		 MAP_HUGETLB | 30 << 26 /* MAP_HUGE_1GB */, -1, 0);
	check(p != MAP_FAILED);
	*p = 1;
	r.pfn = pfn_of(p);
	check(!munmap(p, SZ_1G));
	check_eq(cg_write(GIGANTIC, "nr_hugepages", "0"), 0);
	return r;
}

static void blame_contig(void)
{
	char *cg, *line, on_node[128], want[PATH_MAX + 64];
	struct mem m;
	struct pin p;
	int log;

	need_source(SOURCE_URING);
	check_eq(cg_write(VM, "pins_drain_max_us", "0"), 0);
	range = gigantic_range();
	m = one_page(memory_of(&range, true, PAGE_SIZE, MAP_PRIVATE));
	cg = enter_new("a");
	check_eq(pin(&p, SOURCE_URING, &m), 0);
	check(in_range(&range, m.addr, PAGE_SIZE));
	log = log_open();
	/* There may be room for it elsewhere, and the next node would be another. */
	snprintf(on_node, sizeof(on_node), NODES "/node%d/hugepages/hugepages-1048576kB",
		 node_of(m.addr));
	cg_write(access(on_node, F_OK) ? GIGANTIC : on_node, "nr_hugepages", "1");
	/* An allocation that has found another place has not failed. */
	if (cg_read_long(GIGANTIC, "nr_hugepages"))
		skip("there was room for the page elsewhere");
	check_eq(pins_stat(cg, "blocked_contig"), 1);
	check_eq(pins_stat(cg, "blocked_offline"), 0);
	check_eq(cg_read_key_long(cg, "pins.events", "blocked "), 1);
	/* Nothing may follow in that line. */
	line = log_find(log, "pins: emptying [mem ");
	snprintf(want, sizeof(want), "pages pinned, 1 by %s", cg + strlen(pins_root));
	check(line && strlen(line) > strlen(want));
	check(!strcmp(line + strlen(line) - strlen(want), want));
	unpin(&p);
	cg_write(GIGANTIC, "nr_hugepages", "1");
}

/*
 * Compaction moves memory to the end of its zone, and does not come to what is
 * there already: pin what lies furthest from it.
 */
static void blame_compaction(void)
{
	const int nr = SZ_1G / 2 / SZ_2M;
	unsigned long pfn[nr];
	struct pin p[SCATTERED];
	int i, j, low;
	struct mem m;
	char *cg;

	need_source(SOURCE_URING);
	m = mem_get(MEM_ANON, nr * SZ_2M);
	for (j = 0; j < nr; j++)
		pfn[j] = pfn_of(m.addr + j * SZ_2M);
	cg = steering_cgroup("a", "zone");
	for (i = 0; i < SCATTERED; i++) {
		for (j = low = 0; j < nr; j++)
			if (pfn[j] < pfn[low])
				low = j;
		check_eq(pin_part(&p[i], SOURCE_URING, &m, low * SZ_2M, PAGE_SIZE), 0);
		pfn[low] = ULONG_MAX;
	}
	/* Room to compact */
	for (j = 0; j < nr; j += 2)
		check(!munmap(m.addr + j * SZ_2M, SZ_2M));
	if (pins_stat(cg, "movable_block") < PAGES(SCATTERED / 2))
		skip("the memory was in CMA");
	for (i = 0; i < 50 && !pins_stat(cg, "blocked_compact"); i++)
		check_eq(cg_write(VM, "compact_memory", "1"), 0);
	if (!pins_stat(cg, "blocked_compact"))
		skip("compaction did not reach the page");
	check_eq(cg_read_key_long(cg, "pins.events", "blocked "), 0);
	for (i = 0; i < SCATTERED; i++)
		unpin(&p[i]);
}

/* Who has pinned what */

static long listed(const char *cg, unsigned long pfn)
{
	const char *path = cg + strlen(pins_root);
	unsigned long long start, end;
	char line[8192], *p;
	long sum = 0;
	FILE *f;

	f = fopen("/sys/kernel/debug/pins/ranges", "r");
	if (!f)
		skip("no debugfs");
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "0x%llx-0x%llx ", &start, &end) != 2)
			check_eq(line[0], 0);
		p = strstr(line, path);
		if (!p || (p[strlen(path)] != ' ' && p[strlen(path)] != '\n'))
			continue;
		check(strstr(line, " movable ") || strstr(line, " unmovable "));
		if (!pfn || (start <= pfn * PAGE_SIZE && pfn * PAGE_SIZE < end))
			sum += end + 1 - start;
	}
	fclose(f);
	return sum;
}

static void listing(void)
{
	char *a, *b, escaped[PATH_MAX];
	struct mem m, huge;
	struct pin p[3];

	need_source(SOURCE_URING);
	m = mem_get(MEM_ANON, PAGES(64));
	huge = mem_get(MEM_THP, SZ_2M);
	a = enter_new("a");
	check_eq(pin_part(&p[0], SOURCE_URING, &m, 0, PAGES(32)), 0);
	b = enter_new("a b");
	check_eq(pin_part(&p[1], SOURCE_URING, &m, PAGES(16), PAGES(48)), 0);
	check_eq(pin(&p[2], SOURCE_URING, &huge), 0);
	check_eq(listed(a, 0), PAGES(32));
	check(listed(a, pfn_of(m.addr)) >= PAGE_SIZE);
	check(listed(a, pfn_of(m.addr + PAGES(20))) >= PAGE_SIZE);
	check_eq(listed(a, pfn_of(m.addr + PAGES(40))), 0);
	check_eq(listed(b, 0), 0);
	snprintf(escaped, sizeof(escaped), "%s\\040b", a);
	b = escaped;
	check_eq(listed(b, 0), PAGES(48) + SZ_2M);
	check(listed(b, pfn_of(huge.addr)) >= SZ_2M);
	enter(a);
	unpin(&p[0]);
	check_eq(listed(a, 0), 0);
	unpin(&p[1]);
	unpin(&p[2]);
	check_eq(listed(b, 0), 0);
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
	{ "blame: each cgroup that blocks offlining, and the numbers add up", blame_offline },
	{ "blame: not before offlining has failed", blame_in_the_end },
	{ "blame: short-term pins that block CMA", blame_cma },
	{ "blame: once for an allocation that tries many places", blame_once },
	{ "blame: a cgroup that blocks a gigantic page", blame_contig },
	{ "blame: compaction, sampled", blame_compaction },
	{ "debugfs lists who has pinned what", listing },
};

int main(void)
{
	pins_run(tests, ARRAY_SIZE(tests));
}
