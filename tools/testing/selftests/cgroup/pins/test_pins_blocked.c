// SPDX-License-Identifier: GPL-2.0
/*
 * Which cgroups are reported to block migration: pins.events, and in pins.stat
 * blocked_*; and what debugfs lists.
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
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "pins_util.h"

#define GIGANTIC	"/sys/kernel/mm/hugepages/hugepages-1048576kB"
#define NODES		"/sys/devices/system/node"

#define SCATTERED	16		/* pins, each in a block of its own */

static struct range range;
static __kernel_ulong_t reading;

static struct mem one_page(char *addr)
{
	return (struct mem){ .kind = &mem_kinds[MEM_ANON], .addr = addr,
			     .len = PAGE_SIZE, .fd = -1 };
}

static int node_of(char *addr)
{
	void *page = addr;
	int node = -1;

	check_eq(syscall(SYS_move_pages, 0, 1, &page, NULL, &node, 0), 0);
	return node;
}

static void interrupted(int sig)
{
}

/*
 * A child tries to empty the range, and is interrupted if it makes no progress. Returns
 * the errno.
 */
static int take_in_vain(const struct range *r, int ms)
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
		_exit(take(r));
	}
	return reap(pid);
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
		trace_begin("pins/pins_blocked");
		return 0;
	}
	f = trace_end("pins/pins_blocked");
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
	int log, other, disk, err, told;
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
	err = take_in_vain(&range, 900);
	check(err);
	told = poll(&events, 1, 1000);
	/* It was not even begun: the kernel itself has allocated there. */
	if (!told && err == EBUSY)
		skip("there is unmovable memory in the block");
	check_eq(told, 1);

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

/* What one of these says; the event is off after that. */
static char *trace_range(bool begin)
{
	static char line[512];
	char *p = NULL;
	FILE *f;

	if (begin) {
		trace_begin("pins/pins_blocked_range");
		return NULL;
	}
	f = trace_end("pins/pins_blocked_range");
	while (!p && fgets(line, sizeof(line), f))
		p = strstr(line, "pins_blocked_range: ");
	fclose(f);
	return p;
}

/* A page in the range, and nothing else near it: not all that is there is looked at. */
static char *lone_pages(size_t len)
{
	char *page = memory_of(&range, true, len, MAP_PRIVATE);
	char *rest = (char *)((uintptr_t)page & ~(SZ_2M - 1));

	check_eq(madvise(rest, page - rest, MADV_DONTNEED), 0);
	check_eq(madvise(page + len, rest + SZ_2M - page - len, MADV_DONTNEED), 0);
	return page;
}

/* A pipe has pages that nobody has pinned, and beside them there may be one that is. */
static void not_only_pins(void)
{
	int log, disk, pipes[2];
	char *page, *line;
	struct iovec iov;

	range = cma_range();
	check_eq(cg_write(VM, "pins_drain_max_us", "0"), 0);
	disk = slow_disk(2000 * MS);
	iov = (struct iovec){ lone_pages(PAGES(2)), PAGES(2) };
	log = log_open();
	check_eq(pipe(pipes), 0);
	check_eq(vmsplice(pipes[1], &iov, 1, 0), PAGES(2));
	trace_range(true);
	check(take(&range));
	line = trace_range(false);
	check(line);
	if (!strstr(line, " pinned=0 writeback=0 referenced=2 "))
		ksft_print_msg("%s\n", line);
	check(strstr(line, " pinned=0 writeback=0 referenced=2 "));
	check(!log_find(log, "pins: emptying [mem "));

	/* Who has waited for a pin looks at all of the range. */
	page = lone_pages(PAGE_SIZE);
	check_eq(cg_write(VM, "pins_drain_max_us", "50000"), 0);
	reading = read_begin(disk, page, PAGE_SIZE);
	trace_range(true);
	check(take(&range));
	line = trace_range(false);
	check(line && strstr(line, " pinned=1 writeback=0 referenced=2 "));
	line = log_find(log, "pins: emptying [mem ");
	check(line && strstr(line, "; 2 referenced by others"));
	read_end(reading, PAGE_SIZE);
	close(pipes[0]);
	close(pipes[1]);
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

/* The first place where the kernel would make a gigantic page, which is there now */
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
	/* Its memory is most of what is free then. */
	fill_pool();
	check_eq(cg_write(GIGANTIC, "nr_hugepages", "0"), 0);
	m = one_page(memory_of(&range, true, PAGE_SIZE, MAP_PRIVATE));
	empty_pool();
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
	cg = enter_new("a");
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
	{ "blame: each cgroup that blocks offlining, and the numbers add up", blame_offline },
	{ "blame: not before offlining has failed", blame_in_the_end },
	{ "blame: short-term pins that block CMA", blame_cma },
	{ "blame: what is in the way without being pinned", not_only_pins },
	{ "blame: once for an allocation that tries many places", blame_once },
	{ "blame: a cgroup that blocks a gigantic page", blame_contig },
	{ "blame: compaction, sampled", blame_compaction },
	{ "debugfs lists who has pinned what", listing },
};

int main(void)
{
	pins_run(tests, ARRAY_SIZE(tests));
}
