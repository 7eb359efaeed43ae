// SPDX-License-Identifier: GPL-2.0
/*
 * Pins wait for memory that is being moved, and memory that has to move waits
 * for short-term pins: pins.wait.max, vm.pins_wait_max_us, vm.pins_drain_max_us.
 *
 * Nearly all tests have the same scene: direct I/O of a slow disk is in flight to
 * a page in a CMA area or in a movable memory block, a child allocates the area or
 * takes the block offline, and meanwhile something else wants to pin the page.
 * The tests check the order of events, not times.
 *
 * Copyright (C) 2026 the pins authors
 */
#define _GNU_SOURCE

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/aio_abi.h>
#include <linux/fuse.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pins_util.h"

/* Longer than anything takes that does not wait for it */
#define SLOW		(2000 * MS)
#define PATIENT_US	10000000L

/* What vm.pins_wait_max_us is unless it was set */
#define DEFAULT_US	1000L

/* A child in the root cgroup empties the range, and has begun when this returns. */
static pid_t take_begin(const struct range *r)
{
	pid_t pid = test_fork();

	if (!pid) {
		enter_root();
		_exit(take(r));
	}
	usleep(300000);
	return pid;
}

static void take_end(const struct range *r, pid_t pid)
{
	check_eq(reap(pid), 0);
	give_back(r);
}

static char *wait_cgroup(const char *name, const char *max)
{
	char *cg = cg_make(name);

	check_eq(cg_write(cg, "pins.wait.max", (char *)max), 0);
	enter(cg);
	return cg;
}

/* The scene */

static struct range range;
static int disk;
static char *page;
static aio_context_t first;
static pid_t taker;

static void patience(long us)
{
	check_eq(cg_write_numeric(VM, "pins_drain_max_us", us), 0);
}

static void scene(struct range r, int flags, long ns)
{
	range = r;
	patience(PATIENT_US);
	disk = slow_disk(ns);
	page = memory_of(&range, true, 2 * PAGE_SIZE, flags);
}

/* A page is pinned, and has to move */
static void conflict(void)
{
	first = read_begin(disk, page, PAGE_SIZE);
	taker = take_begin(&range);
	check(!read_done(first));
}

static void no_conflict(void)
{
	take_end(&range, taker);
	check(!in_range(&range, page, PAGE_SIZE));
}

/* The files */

static void file_of_the_knob(void)
{
	static char *const bad[] = {
		"", "-1", "+1", "1x", "1K", "maximum", "4294967294",
		"99999999999999999999", "1 2",
	};
	static char *const good[][2] = {
		{ "0", "0\n" }, { "1", "1\n" }, { "20000\n", "20000\n" },
		{ " 5 ", "5\n" }, { "0x10", "16\n" }, { "max", "max\n" },
		{ "4294967293", "4294967293\n" }, { "inherit", "inherit\n" },
	};
	char *cg = cg_make("a"), text[64];
	int i;

	check_eq(cg_read(cg, "pins.wait.max", text, sizeof(text)), 0);
	check(!strcmp(text, "inherit\n"));
	check_eq(cg_write(cg, "pins.wait.max", "7"), 0);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		errno = 0;
		check(cg_write(cg, "pins.wait.max", bad[i]) < 0 || !*bad[i]);
		check(errno == EINVAL || !*bad[i]);
		check_eq(cg_read_long(cg, "pins.wait.max"), 7);
	}
	for (i = 0; i < ARRAY_SIZE(good); i++) {
		check_eq(cg_write(cg, "pins.wait.max", good[i][0]), 0);
		check_eq(cg_read(cg, "pins.wait.max", text, sizeof(text)), 0);
		check(!strcmp(text, good[i][1]));
	}
	check_eq(pins_stat(cg, "wait"), 0);
	check_eq(pins_stat(cg, "wait_usec"), 0);
	check_eq(pins_stat(cg, "wait_timeout"), 0);
	check(cg_read(pins_root, "pins.wait.max", text, sizeof(text)));
	check_eq(cg_read_long(VM, "pins_wait_max_us"), DEFAULT_US);
}

/* Migration waits */

static void migration_waits(void)
{
	conflict();
	no_conflict();
	check(read_done(first));
}

static void cma_waits(void)
{
	scene(cma_range(), MAP_PRIVATE, SLOW);
	migration_waits();
}

static void cma_waits_for_shmem(void)
{
	scene(cma_range(), MAP_SHARED, SLOW);
	migration_waits();
}

static void offline_waits(void)
{
	scene(movable_range(), MAP_PRIVATE, SLOW);
	migration_waits();
}

static void migration_need_not_wait(void)
{
	/* Time for two attempts, on any kernel */
	scene(cma_range(), MAP_PRIVATE, 2 * SLOW);
	patience(0);
	first = read_begin(disk, page, PAGE_SIZE);
	check(take(&range));
	check(!read_done(first));
	patience(50000);
	check(take(&range));
	check(!read_done(first));
	read_end(first, PAGE_SIZE);
	check_eq(take(&range), 0);
	give_back(&range);
}

/* Pins wait */

static void pins_wait_for(struct range r, int flags)
{
	aio_context_t second;
	char *cg;

	scene(r, flags, SLOW);
	conflict();
	cg = wait_cgroup("a", "max");
	second = read_begin(disk, page, PAGE_SIZE);
	check(read_done(first));
	check(!in_range(&range, page, PAGE_SIZE));
	check_eq(pins_stat(cg, "wait"), 1);
	check(pins_stat(cg, "wait_usec") > 0);
	check_eq(pins_stat(cg, "wait_timeout"), 0);
	no_conflict();
	read_end(second, PAGE_SIZE);
}

static void pins_wait_for_cma(void)
{
	pins_wait_for(cma_range(), MAP_PRIVATE);
}

static void pins_wait_for_offline(void)
{
	pins_wait_for(movable_range(), MAP_SHARED);
}

static void pins_need_not_wait(void)
{
	aio_context_t second;
	char *cg;

	scene(cma_range(), MAP_PRIVATE, SLOW);
	check_eq(cg_write(VM, "pins_wait_max_us", "1000000000"), 0);
	conflict();
	cg = wait_cgroup("a", "0");
	second = read_begin(disk, page, PAGE_SIZE);
	check(!read_done(first));
	check_eq(pins_stat(cg, "wait"), 0);
	check_eq(pins_stat(cg, "wait_timeout"), 0);
	read_end(second, PAGE_SIZE);
	no_conflict();
	check_eq(cg_write_numeric(VM, "pins_wait_max_us", DEFAULT_US), 0);
}

static void pins_wait_no_longer(void)
{
	aio_context_t second, third;
	unsigned long pfn;
	char *cg;

	scene(cma_range(), MAP_PRIVATE, SLOW);
	pfn = pfn_of(page);
	conflict();
	cg = wait_cgroup("a", "20000");
	second = read_begin(disk, page, PAGE_SIZE);
	check(!read_done(first));
	check_eq(pfn_of(page), pfn);
	check_eq(pins_stat(cg, "wait"), 1);
	check_eq(pins_stat(cg, "wait_timeout"), 1);
	check(pins_stat(cg, "wait_usec") >= 20000);
	/* It does not wait again for the same isolation */
	third = read_begin(disk, page, PAGE_SIZE);
	check_eq(pins_stat(cg, "wait"), 1);
	check_eq(pins_stat(cg, "wait_timeout"), 1);
	read_end(second, PAGE_SIZE);
	read_end(third, PAGE_SIZE);
	no_conflict();
}

static void inherited(void)
{
	char *grandchild, *child, *top;
	aio_context_t second;

	scene(cma_range(), MAP_PRIVATE, SLOW);
	top = cg_make("a");
	child = cg_make("a/b");
	grandchild = cg_make("a/b/c");
	check_eq(cg_write(top, "pins.wait.max", "0"), 0);
	check_eq(cg_write(child, "pins.wait.max", "1000"), 0);
	conflict();
	enter(grandchild);
	second = read_begin(disk, page, PAGE_SIZE);
	check_eq(pins_stat(grandchild, "wait_timeout"), 1);
	/* Hierarchical */
	check_eq(pins_stat(top, "wait_timeout"), 1);
	check_eq(pins_stat(top, "wait"), 1);
	check_eq(pins_stat(top, "wait_usec"), pins_stat(grandchild, "wait_usec"));
	read_end(second, PAGE_SIZE);
	no_conflict();
}

static void inherited_from_sysctl(void)
{
	aio_context_t second;
	char *cg;

	scene(cma_range(), MAP_PRIVATE, SLOW);
	check_eq(cg_write(VM, "pins_wait_max_us", "1000"), 0);
	conflict();
	cg = wait_cgroup("a", "inherit");
	second = read_begin(disk, page, PAGE_SIZE);
	check_eq(pins_stat(cg, "wait_timeout"), 1);
	read_end(second, PAGE_SIZE);
	no_conflict();
	check_eq(cg_write_numeric(VM, "pins_wait_max_us", DEFAULT_US), 0);
}

/* By default, I/O waits for a short time. */
static void waits_by_default(void)
{
	aio_context_t second;
	char *cg;

	scene(cma_range(), MAP_PRIVATE, SLOW);
	conflict();
	cg = cg_make("a");
	enter(cg);
	second = read_begin(disk, page, PAGE_SIZE);
	check(!read_done(first));
	check_eq(pins_stat(cg, "wait"), 1);
	check_eq(pins_stat(cg, "wait_timeout"), 1);
	check(pins_stat(cg, "wait_usec") >= DEFAULT_US);
	read_end(second, PAGE_SIZE);
	no_conflict();
}

/* I/O to a page that is not isolated does not wait, even in the same block */
static void others_do_not_wait(void)
{
	aio_context_t second;
	char *cg, *other;

	scene(cma_range(), MAP_PRIVATE, SLOW);
	other = memory_of(&range, false, PAGE_SIZE, MAP_PRIVATE);
	conflict();
	cg = wait_cgroup("a", "max");
	second = read_begin(disk, other, PAGE_SIZE);
	check(!read_done(first));
	check_eq(pins_stat(cg, "wait"), 0);
	no_conflict();
	read_end(second, PAGE_SIZE);
}

/* Another mapping of a shared page, at that address */
static void map_again(char *addr, void *old)
{
	check(mremap(old, 0, PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED,
		     addr) == addr);
	__atomic_load_n(addr, __ATOMIC_RELAXED);
}

/* A page with more references than a pin has, as one of a library */
#define MAPPINGS	1100

static void map_often(char *old)
{
	char *all = mem_reserve(PAGES(MAPPINGS), PAGE_SIZE);
	int i;

	for (i = 0; i < MAPPINGS; i++)
		map_again(all + PAGES(i), old);
}

static void migration_does_not_wait_for_mappings(void)
{
	scene(cma_range(), MAP_SHARED, SLOW);
	map_often(page + PAGE_SIZE);
	migration_waits();
	check(!in_range(&range, page + PAGE_SIZE, PAGE_SIZE));
}

static void pins_do_not_wait_for_mappings(void)
{
	aio_context_t second;
	char *cg;

	scene(cma_range(), MAP_SHARED, SLOW);
	map_often(page + PAGE_SIZE);
	conflict();
	cg = wait_cgroup("a", "max");
	second = read_begin(disk, page + PAGE_SIZE, PAGE_SIZE);
	check(!read_done(first));
	check_eq(pins_stat(cg, "wait"), 0);
	check(!in_range(&range, page + PAGE_SIZE, PAGE_SIZE));
	no_conflict();
	read_end(second, PAGE_SIZE);
}

/* A request that contains a page twice must not wait for its own first pin. */
static void page_that_comes_twice(void)
{
	char *twice = mem_reserve(PAGES(2), PAGE_SIZE);
	aio_context_t second;
	char *cg;

	scene(cma_range(), MAP_SHARED, SLOW);
	map_again(twice, page + PAGE_SIZE);
	map_again(twice + PAGE_SIZE, page + PAGE_SIZE);
	conflict();
	cg = wait_cgroup("a", "max");
	second = read_begin(disk, twice, PAGES(2));
	check(!read_done(first));
	check_eq(pins_stat(cg, "wait"), 0);
	check(!in_range(&range, twice, PAGES(2)));
	no_conflict();
	read_end(second, PAGES(2));
}

/*
 * A buffer that is read into again and again. Migration has just failed to move it, and
 * has put it back: its user has to find it where it can be isolated.
 */
static void hot_buffer(int flags)
{
	pid_t reader;
	char *cg;

	scene(cma_range(), flags, SLOW / 4);
	cg = wait_cgroup("a", "max");
	reader = test_fork();
	if (!reader)
		for (;;)
			check_eq(pread(disk, page, PAGE_SIZE, 0), PAGE_SIZE);
	usleep(100000);
	taker = take_begin(&range);
	no_conflict();
	check_eq(pins_stat(cg, "wait"), 0);
	check_eq(kill(reader, SIGKILL), 0);
	reap(reader);
}

static void hot_buffer_leaves(void)
{
	hot_buffer(MAP_PRIVATE);
}

static void hot_page_cache_leaves(void)
{
	hot_buffer(MAP_SHARED);
}

/* One system call, many calls of GUP: together they wait no longer than the limit. */
#define LARGE		(48UL << 20)
#define LARGE_US	20000L

static long pages_in_range(const char *addr, size_t len)
{
	long nr = 0;
	size_t off;

	for (off = 0; off < len; off += PAGE_SIZE)
		nr += in_range(&range, addr + off, PAGE_SIZE);
	return nr;
}

static char *lowest_page(char *page, char *addr, size_t len)
{
	size_t off;

	for (off = 0; off < len; off += PAGE_SIZE)
		if (in_range(&range, addr + off, PAGE_SIZE) &&
		    pfn_of(addr + off) < pfn_of(page))
			page = addr + off;
	return page;
}

static void large_request(void)
{
	char *cg, *buf, *before, *after;
	aio_context_t second;
	long nr;

	scene(cma_range(), MAP_PRIVATE, SLOW);
	/* Migration stops at a pinned shared page, and does not move those behind it. */
	before = memory_of(&range, true, SZ_2M, MAP_SHARED);
	buf = memory_of(&range, true, LARGE, MAP_PRIVATE);
	after = memory_of(&range, true, SZ_2M, MAP_SHARED);
	page = lowest_page(lowest_page(before, before, SZ_2M), after, SZ_2M);
	conflict();
	nr = pages_in_range(buf, LARGE);
	if (nr < LARGE / PAGE_SIZE / 4)
		skip("only %ld pages are behind the pinned one", nr);

	cg = cg_make("a");
	check_eq(cg_write_numeric(cg, "pins.wait.max", LARGE_US), 0);
	enter(cg);
	second = read_begin(disk, buf, LARGE);
	/* Where moving a page takes long, it may be several times the limit */
	check(pins_stat(cg, "wait_usec") < 5 * LARGE_US);
	check(pins_stat(cg, "wait_timeout") <= 1);
	read_end(second, LARGE);
	reap(taker);
	/* It may have been allocated */
	cg_write_numeric(range.dir, "free", range.pages);
}

/* Threads that wait for a page while other pages are moved */
#define SLEEPERS	100
#define MOVES		100

static void *read_and_wait(void *arg)
{
	check_eq(pread(disk, page, PAGE_SIZE, 0), PAGE_SIZE);
	return arg;
}

static long switches(void)
{
	struct rusage usage;

	check(!getrusage(RUSAGE_SELF, &usage));
	return usage.ru_nvcsw;
}

static long now_ms(void)
{
	struct timespec ts;

	check(!clock_gettime(CLOCK_MONOTONIC, &ts));
	return ts.tv_sec * 1000 + ts.tv_nsec / MS;
}

static void sleepers_sleep(void)
{
	pthread_t sleepers[SLEEPERS];
	aio_context_t reads[MOVES];
	pthread_attr_t attr;
	long woken, ms;
	char *others;
	int i;

	scene(cma_range(), MAP_SHARED, SLOW);
	others = memory_of(&range, true, PAGES(MOVES), MAP_SHARED);
	conflict();
	wait_cgroup("a", "max");
	check(!pthread_attr_init(&attr));
	check(!pthread_attr_setstacksize(&attr, SZ_64K));
	for (i = 0; i < SLEEPERS; i++)
		check(!pthread_create(&sleepers[i], &attr, read_and_wait, NULL));
	usleep(300000);
	if (read_done(first))
		skip("the machine is too slow: nobody waits any more");

	woken = switches();
	ms = now_ms();
	for (i = 0; i < MOVES; i++)
		reads[i] = read_begin(disk, others + PAGES(i), PAGE_SIZE);
	woken = switches() - woken;
	ms = now_ms() - ms;
	/* The number of wakeups depends on time, not on the number of moved pages. */
	ksft_print_msg("%d sleepers woken %ld times in %ld ms, by %d reads\n",
		       SLEEPERS, woken, ms, MOVES);
	check(woken < SLEEPERS * (ms / 4 + 4));
	for (i = 0; i < MOVES; i++)
		read_end(reads[i], PAGE_SIZE);
	for (i = 0; i < SLEEPERS; i++)
		check(!pthread_join(sleepers[i], NULL));
	no_conflict();
}

/* The page would be moved anyway */
static void registration_waits(struct range r)
{
	struct mem m = { .kind = &mem_kinds[MEM_ANON], .len = PAGE_SIZE };
	struct pin p;
	char *cg;

	need_source(SOURCE_URING);
	scene(r, MAP_PRIVATE, SLOW);
	m.addr = page;
	conflict();
	cg = wait_cgroup("a", "max");
	check_eq(pin(&p, SOURCE_URING, &m), 0);
	check(read_done(first));
	check(!in_range(&range, page, PAGE_SIZE));
	check_eq(pins_current(cg), PAGE_SIZE);
	check_eq(pins_stat(cg, "wait"), 1);
	no_conflict();
	unpin(&p);
	check_eq(pins_current(cg), 0);
}

static void registration_waits_for_cma(void)
{
	registration_waits(cma_range());
}

static void registration_waits_for_offline(void)
{
	registration_waits(movable_range());
}

/*
 * A task that has waited in vain for a page in CMA does not keep the next request from
 * waiting for another: neither its own nor one of its child.
 */
static void registration_after_one_in_vain(bool by_child)
{
	struct mem m = { .kind = &mem_kinds[MEM_ANON], .len = PAGE_SIZE };
	aio_context_t second;
	struct pin p;
	pid_t pid;

	need_source(SOURCE_URING);
	scene(cma_range(), MAP_PRIVATE, 1500 * MS);
	patience(500000);
	enter(cg_make("a"));
	m.addr = memory_of(&range, true, PAGE_SIZE, MAP_SHARED);
	first = read_begin(disk, m.addr, PAGE_SIZE);
	check_eq(pin(&p, SOURCE_URING, &m), -ENOMEM);
	check(!read_done(first));

	m.addr = memory_of(&range, true, PAGE_SIZE, MAP_SHARED);
	second = read_begin(disk, m.addr, PAGE_SIZE);
	usleep(1200000);
	pid = by_child ? test_fork() : 0;
	if (pid) {
		check_eq(reap(pid), 0);
	} else {
		check_eq(pin(&p, SOURCE_URING, &m), 0);
		check(!in_range(&range, m.addr, PAGE_SIZE));
		unpin(&p);
		if (by_child)
			_exit(0);
	}
	read_end(first, PAGE_SIZE);
	read_end(second, PAGE_SIZE);
}

static void registration_waits_after_one_in_vain(void)
{
	registration_after_one_in_vain(false);
}

static void child_waits_after_one_in_vain(void)
{
	registration_after_one_in_vain(true);
}

/* A task of the same process reads, and waits */

static pthread_t reader;
static aio_context_t reading;
static size_t reading_len;
static char *reading_page;

static void *read_page(void *arg)
{
	reading = read_begin(disk, reading_page, reading_len);
	return arg;
}

static void wait_in_thread(char *addr, size_t len)
{
	reading_page = addr;
	reading_len = len;
	check(!pthread_create(&reader, NULL, read_page, NULL));
	usleep(200000);
}

static void thread_has_waited(void)
{
	check(!pthread_join(reader, NULL));
	read_end(reading, reading_len);
}

static void mmap_lock_is_dropped(void)
{
	char *other;
	pid_t pid;

	scene(cma_range(), MAP_PRIVATE, SLOW);
	other = memory_of(&range, false, PAGE_SIZE, MAP_PRIVATE);
	conflict();
	wait_cgroup("a", "max");
	wait_in_thread(page, PAGE_SIZE);
	check(!munmap(other, PAGE_SIZE));
	pid = test_fork();
	if (!pid)
		_exit(0);
	check_eq(reap(pid), 0);
	check(!read_done(first));
	thread_has_waited();
	no_conflict();
}

static void nothing_pinned_meanwhile(void)
{
	long pinned;

	scene(cma_range(), MAP_PRIVATE, SLOW);
	/* The second page of the request is in the way; the first one is not ours */
	first = read_begin(disk, page + PAGE_SIZE, PAGE_SIZE);
	pinned = pages_pinned();
	taker = take_begin(&range);
	wait_cgroup("a", "max");
	wait_in_thread(page, 2 * PAGE_SIZE);
	check(!read_done(first));
	check_eq(pages_pinned(), pinned);
	thread_has_waited();
	take_end(&range, taker);
}

static void killed(void)
{
	pid_t pid;

	scene(cma_range(), MAP_SHARED, SLOW);
	conflict();
	pid = test_fork();
	if (!pid) {
		wait_cgroup("a", "max");
		read_begin(disk, page, PAGE_SIZE);
		_exit(0);
	}
	usleep(200000);
	check(!kill(pid, SIGKILL));
	check_eq(reap(pid), 128 + SIGKILL);
	check(!read_done(first));
	no_conflict();
}

static void cgroup_removed(void)
{
	char *cg;

	scene(cma_range(), MAP_PRIVATE, SLOW);
	conflict();
	cg = wait_cgroup("a", "max");
	wait_in_thread(page, PAGE_SIZE);
	enter_root();
	check_eq(cg_destroy(cg), 0);
	check(!read_done(first));
	thread_has_waited();
	no_conflict();
}

/* PSI: waiting counts as a memory stall. */
static long stalled(void)
{
	char text[256], *total;

	if (read_text("/proc/pressure/memory", text, sizeof(text)) <= 0)
		skip("no PSI");
	total = strstr(text, "total=");
	check(total);
	return atol(total + 6);
}

static void waiting_is_a_stall(void)
{
	aio_context_t second;
	long before;
	char *cg;

	stalled();
	scene(cma_range(), MAP_PRIVATE, SLOW);
	conflict();
	cg = wait_cgroup("a", "max");
	before = stalled();
	second = read_begin(disk, page, PAGE_SIZE);
	check(stalled() - before >= pins_stat(cg, "wait_usec") / 2);
	no_conflict();
	read_end(second, PAGE_SIZE);
}

/* io_uring */

/* Reads a page, to the end. */
static void ring_read(struct ring *r, void *addr, unsigned int flags)
{
	ring_queue(r, (struct io_uring_sqe) {
		.opcode = IORING_OP_READ, .flags = flags, .fd = disk,
		.addr = (uintptr_t)addr, .len = PAGE_SIZE,
	});
	ring_submit(r, 1);
	check_eq(ring_complete(r, NULL), PAGE_SIZE);
}

/* A ring of a cgroup that waits, and a conflict */
static char *ring_conflict(struct ring *ring, unsigned int flags)
{
	char *cg;

	scene(cma_range(), MAP_PRIVATE, SLOW);
	cg = wait_cgroup("a", "max");
	*ring = ring_make((struct io_uring_params) {
		.flags = flags, .sq_thread_idle = 10000,
	});
	conflict();
	return cg;
}

static void ring_waits(unsigned int flags)
{
	struct ring ring;
	char *cg = ring_conflict(&ring, flags);

	ring_read(&ring, page, 0);
	check_eq(pins_stat(cg, "wait"), 1);
	check(read_done(first));
	no_conflict();
}

static void inline_ring_waits(void)
{
	ring_waits(0);
}

static void sqpoll_waits(void)
{
	ring_waits(IORING_SETUP_SQPOLL);
}

/* It must not wait: the pin may belong to I/O that it has to poll for itself. */
static void iopoll_does_not_wait(void)
{
	struct ring ring;
	char *cg = ring_conflict(&ring, IORING_SETUP_IOPOLL);

	ring_read(&ring, page, 0);
	check(!read_done(first));
	check_eq(pins_stat(cg, "wait"), 0);
	/* Its workers wait, so that it can poll meanwhile. */
	ring_read(&ring, page, IOSQE_ASYNC);
	check_eq(pins_stat(cg, "wait"), 1);
	check(read_done(first));
	no_conflict();
}

/*
 * A FUSE file system of one file. To read from it, the server reads from the disk,
 * with a buffer in the range that is emptied, which its client blocks.
 */
#define FUSE_FILE	"/tmp/file"

static void fuse_reply(int fd, const struct fuse_in_header *in, int error,
		       const void *data, size_t len)
{
	struct fuse_out_header out = {
		.len = sizeof(out) + len, .error = error, .unique = in->unique,
	};
	struct iovec iov[] = { { &out, sizeof(out) }, { (void *)data, len } };

	check_eq(writev(fd, iov, 2), out.len);
}

static void __noreturn fuse_serve(int fd, struct baton *asked, struct baton *go_on)
{
	struct fuse_init_out init = {
		.major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION,
		.max_write = 4096,
	};
	struct fuse_open_out opened = { .open_flags = FOPEN_DIRECT_IO };
	struct fuse_attr_out attr = {
		.attr = { .ino = 1, .size = PAGE_SIZE, .mode = S_IFREG | 0600,
			  .nlink = 1 },
	};
	char *buf = memory_of(&range, true, PAGE_SIZE, MAP_PRIVATE);
	union {
		struct fuse_in_header in;
		char text[FUSE_MIN_READ_BUFFER];
	} req;

	wait_cgroup("server", "max");
	while (read(fd, &req, sizeof(req)) > 0) {
		switch (req.in.opcode) {
		case FUSE_INIT:
			fuse_reply(fd, &req.in, 0, &init, sizeof(init));
			break;
		case FUSE_GETATTR:
			fuse_reply(fd, &req.in, 0, &attr, sizeof(attr));
			break;
		case FUSE_OPEN:
			fuse_reply(fd, &req.in, 0, &opened, sizeof(opened));
			break;
		case FUSE_READ:
			baton_pass(asked);
			baton_take(go_on);
			check_eq(pread(disk, buf, PAGE_SIZE, 0), PAGE_SIZE);
			check(!in_range(&range, buf, PAGE_SIZE));
			fuse_reply(fd, &req.in, 0, buf, PAGE_SIZE);
			break;
		default:
			fuse_reply(fd, &req.in, -EOPNOTSUPP, NULL, 0);
		}
	}
	_exit(0);
}

static void *fuse_read(void *arg)
{
	check_eq(pread(*(int *)arg, page, PAGE_SIZE, 0), PAGE_SIZE);
	return NULL;
}

static void fuse_server(void)
{
	struct baton asked = baton_make(), go_on = baton_make();
	pthread_t client;
	char options[80];
	int fd, file;

	fd = open("/dev/fuse", O_RDWR);
	if (fd < 0)
		skip("no FUSE: %s", strerror(errno));
	scene(cma_range(), MAP_PRIVATE, 100 * MS);
	check(!mount("none", "/tmp", "tmpfs", 0, NULL));
	close(open(FUSE_FILE, O_CREAT | O_RDWR, 0600));
	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=100600,user_id=0,group_id=0", fd);
	check(!mount("pins", FUSE_FILE, "fuse", 0, options));
	if (!test_fork())
		fuse_serve(fd, &asked, &go_on);

	file = open(FUSE_FILE, O_RDONLY | O_DIRECT);
	check(file >= 0);
	wait_cgroup("client", "max");
	check(!pthread_create(&client, NULL, fuse_read, &file));
	baton_take(&asked);
	taker = take_begin(&range);
	baton_pass(&go_on);
	check(!pthread_join(client, NULL));
	no_conflict();
	close(file);
	umount2(FUSE_FILE, MNT_DETACH);
}

/* Offline and CMA at the same time, each with a task that waits for it */
static void two_ranges(void)
{
	struct range other = movable_range();
	aio_context_t second, third, fourth;
	char *there;
	pid_t pid;

	scene(cma_range(), MAP_PRIVATE, SLOW);
	there = memory_of(&other, true, PAGE_SIZE, MAP_PRIVATE);
	second = read_begin(disk, there, PAGE_SIZE);
	pid = take_begin(&other);
	conflict();
	wait_cgroup("a", "max");
	wait_in_thread(page, PAGE_SIZE);
	third = read_begin(disk, there, PAGE_SIZE);
	check(read_done(second));
	check(!in_range(&other, there, PAGE_SIZE));
	thread_has_waited();
	fourth = read_begin(disk, there, PAGE_SIZE);
	no_conflict();
	take_end(&other, pid);
	read_end(third, PAGE_SIZE);
	read_end(fourth, PAGE_SIZE);
}

/*
 * Requests that take one page after the other, in an order that makes two of
 * them wait for each other: GUP does not know of a bio that is not submitted yet.
 */
static void each_waits_for_the_other(void)
{
	struct iovec one[2], other[2];
	int i, taken = 0;
	pid_t pids[4];
	char *a, *b;

	scene(cma_range(), MAP_SHARED, MS);
	patience(100000);
	wait_cgroup("a", "max");
	a = page;
	b = memory_of(&range, true, PAGE_SIZE, MAP_SHARED);
	one[0] = (struct iovec) { a, PAGE_SIZE };
	one[1] = (struct iovec) { b, PAGE_SIZE };
	other[0] = one[1];
	other[1] = one[0];
	for (i = 0; i < ARRAY_SIZE(pids); i++) {
		pids[i] = test_fork();
		if (pids[i])
			continue;
		for (;;)
			check_eq(preadv(disk, i % 2 ? one : other, 2, 0),
				 2 * PAGE_SIZE);
	}
	for (i = 0; i < 10; i++) {
		if (take(&range))
			continue;
		taken++;
		give_back(&range);
	}
	check(taken);
	for (i = 0; i < ARRAY_SIZE(pids); i++) {
		check(!kill(pids[i], SIGKILL));
		check_eq(reap(pids[i]), 128 + SIGKILL);
	}
}

/* Many tasks read and register, with different pins.wait.max; memory comes and goes. */
static void crowd(void)
{
	static char *const budgets[] = { "0", "1000", "20000", "max" };
	struct mem m = { .kind = &mem_kinds[MEM_ANON] };
	struct range other = movable_range();
	int i, n, taken = 0;
	char name[16];
	struct pin p;
	pid_t pid;

	need_source(SOURCE_URING);
	scene(cma_range(), MAP_PRIVATE, 10 * MS);
	for (i = 0; i < 8; i++) {
		pid = test_fork();
		if (pid)
			continue;
		snprintf(name, sizeof(name), "c%d", i);
		wait_cgroup(name, budgets[i % 4]);
		m.len = i < 6 ? SZ_64K : SZ_2M;
		m.addr = memory_of(&range, true, PAGE_SIZE, i % 2 ? MAP_SHARED :
				MAP_PRIVATE);
		m.addr = (char *)((uintptr_t)m.addr & ~(SZ_2M - 1));
		if (i >= 6)
			madvise(m.addr, SZ_2M, MADV_COLLAPSE);
		for (n = 0;; n++) {
			check(pread(disk, m.addr, m.len, 0) == m.len);
			if (n % 8 || pin(&p, SOURCE_URING, &m))
				continue;
			unpin(&p);
			/* Allocate new memory, which may be in the range again */
			check(!madvise(m.addr, m.len, MADV_DONTNEED));
		}
	}
	for (i = 0; i < 5; i++) {
		pid = test_fork();
		if (!pid) {
			alarm(20);
			_exit(take(&other));
		}
		if (!take(&range)) {
			taken++;
			give_back(&range);
		}
		if (!reap(pid)) {
			taken++;
			give_back(&other);
		}
	}
	ksft_print_msg("%d of 10 taken\n", taken);
	check(taken);
}

static const struct pins_test tests[] = {
	{ "pins.wait.max: what it takes and shows", file_of_the_knob },
	{ "a CMA allocation waits for direct I/O to anonymous memory", cma_waits },
	{ "a CMA allocation waits for direct I/O to shared memory",
	  cma_waits_for_shmem },
	{ "offlining a memory block waits for direct I/O", offline_waits },
	{ "I10 bounded: vm.pins_drain_max_us, also 0", migration_need_not_wait },
	{ "max: direct I/O waits until its page has left the CMA area",
	  pins_wait_for_cma },
	{ "max: direct I/O waits until its page has left the memory block",
	  pins_wait_for_offline },
	{ "0: direct I/O does not wait", pins_need_not_wait },
	{ "I10 bounded: as long as pins.wait.max, and once for each isolation",
	  pins_wait_no_longer },
	{ "inherit: the nearest ancestor decides, statistics are hierarchical",
	  inherited },
	{ "inherit: at the top, vm.pins_wait_max_us decides",
	  inherited_from_sysctl },
	{ "by default: direct I/O waits for a millisecond", waits_by_default },
	{ "direct I/O to other memory does not wait", others_do_not_wait },
	{ "a CMA allocation does not take many mappings for a pin",
	  migration_does_not_wait_for_mappings },
	{ "direct I/O does not take many mappings for a pin",
	  pins_do_not_wait_for_mappings },
	{ "a request that meets a page twice does not wait for strangers",
	  page_that_comes_twice },
	{ "direct I/O moves its own buffer at once", hot_buffer_leaves },
	{ "the same in the page cache", hot_page_cache_leaves },
	{ "I10 bounded: a large request loses no more than a small one",
	  large_request },
	{ "who waits is not woken by each page that is moved", sleepers_sleep },
	{ "a registration waits until its page has left the CMA area, and is charged",
	  registration_waits_for_cma },
	{ "a registration waits until its page has left the memory block",
	  registration_waits_for_offline },
	{ "a registration that waits in vain does not make the next one fail",
	  registration_waits_after_one_in_vain },
	{ "a registration that waits in vain does not make a child's fail",
	  child_waits_after_one_in_vain },
	{ "fork and munmap go on while a thread waits", mmap_lock_is_dropped },
	{ "who waits has pinned nothing in the meantime",
	  nothing_pinned_meanwhile },
	{ "I10 bounded: who waits can be killed", killed },
	{ "a cgroup can be removed while its last task waits", cgroup_removed },
	{ "PSI: time spent waiting is a memory stall", waiting_is_a_stall },
	{ "io_uring waits when it submits inline", inline_ring_waits },
	{ "io_uring's SQPOLL thread waits", sqpoll_waits },
	{ "io_uring does not wait for what it has to poll for", iopoll_does_not_wait },
	{ "a FUSE server that needs memory there itself", fuse_server },
	{ "two ranges are emptied at once", two_ranges },
	{ "I10 bounded: requests that wait for each other's pins",
	  each_waits_for_the_other },
	{ "a crowd with all budgets, while CMA and a memory block come and go",
	  crowd },
};

int main(void)
{
	pins_run(tests, ARRAY_SIZE(tests));
}
