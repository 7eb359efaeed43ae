// SPDX-License-Identifier: GPL-2.0
/*
 * The invariants of the pins controller under load: many tasks pin, unpin, fail
 * and die at the same time, over the same memory and below the same limits.
 *
 * No result depends on the speed of the machine: if a race does not
 * happen, the test passes and has tested less.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "pins_util.h"
#include "../../../../../mm/gup_test.h"

#define RACERS		8

/* Reads pins.current over and over and keeps the extremes. */
static struct watch {
	pthread_t thread;
	int fd;
	long lowest, highest;
	atomic_bool stop;
} watch;

static void *watching(void *arg)
{
	long now;

	while (!watch.stop) {
		now = cg_read_long_fd(watch.fd);
		if (now < watch.lowest)
			watch.lowest = now;
		if (now > watch.highest)
			watch.highest = now;
	}
	return NULL;
}

static void watch_start(const char *cg)
{
	watch.fd = cg_open(cg, "pins.current", O_RDONLY);
	check(watch.fd >= 0);
	watch.lowest = cg_read_long_fd(watch.fd);
	watch.highest = watch.lowest;
	check_eq(pthread_create(&watch.thread, NULL, watching, NULL), 0);
}

static void watch_stop(void)
{
	watch.stop = true;
	check_eq(pthread_join(watch.thread, NULL), 0);
}

static struct mem buffer[RACERS];
static int rings[RACERS], results[RACERS];
static char *cgroup;
static int gup_fd;

/* Pins with the ring of that racer, which is much faster than with a new one. */
static int ring_pin(int nr, const struct mem *m, size_t off, size_t len)
{
	struct iovec iov = { m->addr + off, len };

	return uring_register(rings[nr], IORING_REGISTER_BUFFERS, &iov, 1);
}

static void ring_unpin(int nr)
{
	check_eq(uring_register(rings[nr], IORING_UNREGISTER_BUFFERS, NULL, 0),
		 0);
}

/* Threads that do the same, numbered, all starting at once in each round. */
static struct race {
	pthread_barrier_t line;
	int rounds;
	void (*fn)(int nr);
} race;

static void *racing(void *nr)
{
	int i;

	for (i = 0; i < race.rounds; i++) {
		pthread_barrier_wait(&race.line);
		race.fn((long)nr);
	}
	return NULL;
}

static void race_run(void (*fn)(int nr), int rounds)
{
	pthread_t threads[RACERS];
	long i;

	race.fn = fn;
	race.rounds = rounds;
	check_eq(pthread_barrier_init(&race.line, NULL, RACERS), 0);
	for (i = 0; i < RACERS; i++) {
		rings[i] = uring_setup();
		check(rings[i] >= 0);
		check_eq(pthread_create(&threads[i], NULL, racing, (void *)i),
			 0);
	}
	for (i = 0; i < RACERS; i++) {
		check_eq(pthread_join(threads[i], NULL), 0);
		check_eq(close(rings[i]), 0);
	}
}

static void race_wait(void)
{
	pthread_barrier_wait(&race.line);
}

/* I4: each has a buffer of its own, and there is room for LUCKY of them. */
#define LUCKY	5

static void grab_last_pages(int nr)
{
	int i, lucky = 0;

	results[nr] = ring_pin(nr, &buffer[nr], 0, SZ_64K);
	race_wait();
	if (!nr) {
		for (i = 0; i < RACERS; i++) {
			lucky += !results[i];
			check(!results[i] || results[i] == -ENOMEM);
		}
		check_eq(lucky, LUCKY);
		check_eq(pins_current(cgroup), LUCKY * SZ_64K);
	}
	race_wait();
	if (!results[nr])
		ring_unpin(nr);
	race_wait();
	if (!nr)
		check_eq(pins_current(cgroup), 0);
}

static void last_pages(bool below_parent)
{
	char *limited = cgroup;
	int i;

	cgroup = enter_new(below_parent ? "a/b" : "a");
	if (!below_parent)
		limited = cgroup;
	for (i = 0; i < RACERS; i++)
		buffer[i] = mem_get(MEM_ANON, SZ_64K);
	set_max(limited, LUCKY * SZ_64K);
	watch_start(limited);
	race_run(grab_last_pages, 30);
	watch_stop();
	check(watch.highest <= LUCKY * SZ_64K);
	check(pins_peak(limited) <= LUCKY * SZ_64K);
	check_reaches(cgroup, 0);
}

static void last_pages_of_cgroup(void)
{
	last_pages(false);
}

static void last_pages_of_parent(void)
{
	cgroup = cg_make("a");
	last_pages(true);
}

/* I4: the same new buffer for all. It fits once, so nobody may be refused. */
static void pin_the_same(int nr)
{
	check_eq(ring_pin(nr, &buffer[0], 0, buffer[0].len), 0);
	race_wait();
	if (!nr)
		check_eq(pins_current(cgroup), buffer[0].len);
	race_wait();
	ring_unpin(nr);
	race_wait();
	if (!nr)
		check_eq(pins_current(cgroup), 0);
}

static void same_new_buffer(int kind, bool limited)
{
	cgroup = enter_new("a");
	buffer[0] = mem_get(kind, 0);
	if (limited)
		set_max(cgroup, buffer[0].len);
	watch_start(cgroup);
	race_run(pin_the_same, 30);
	watch_stop();
	check(watch.highest <= buffer[0].len);
	check_eq(pins_peak(cgroup), buffer[0].len);
	check_eq(pins_events(cgroup), 0);
}

static void same_new_pages(void)
{
	same_new_buffer(MEM_ANON, true);
}

static void same_new_thp(void)
{
	same_new_buffer(MEM_THP, true);
}

static void same_new_unlimited(void)
{
	same_new_buffer(MEM_THP, false);
}

/* I4: some ask for far too much all the time, the others for what fits. */
static bool hammers_are_siblings;

static void hammer(struct baton *ready)
{
	struct mem m = mem_get(MEM_ANON, PAGES(64));

	if (hammers_are_siblings)
		enter(cg_name(pins_top, "a/c"));
	baton_pass(ready);
	rings[0] = uring_setup();
	for (;;)
		check_eq(ring_pin(0, &m, 0, m.len), -ENOMEM);
}

static void small_beside_big(bool siblings)
{
	struct baton ready = baton_make();
	char *top = cg_make("a");
	pid_t hammers[3];
	struct mem m;
	int i;

	cgroup = enter_new("a/b");
	cg_make("a/c");
	hammers_are_siblings = siblings;
	set_max(top, PAGES(16));
	m = mem_get(MEM_ANON, PAGES(16));
	for (i = 0; i < ARRAY_SIZE(hammers); i++) {
		hammers[i] = test_fork();
		if (!hammers[i])
			hammer(&ready);
		baton_take(&ready);
	}
	rings[0] = uring_setup();
	for (i = 0; i < 600; i++) {
		check_eq(ring_pin(0, &m, 0, PAGES(1 + i % 16)), 0);
		ring_unpin(0);
	}
	check(pins_events_local(top) > 0);
	for (i = 0; i < ARRAY_SIZE(hammers); i++) {
		kill(hammers[i], SIGKILL);
		check_eq(reap(hammers[i]), 128 + SIGKILL);
	}
	check_reaches(top, 0);
}

static void small_beside_big_in_cgroup(void)
{
	small_beside_big(false);
}

static void small_beside_big_in_sibling(void)
{
	small_beside_big(true);
}

/* I1, I5: others come and go on pages that one pin holds all the time. */
static void come_and_go(int nr)
{
	struct pin p;
	int i;

	if (nr == 1) {
		/* Short pins among them */
		i = open("/dev/nullb0", O_RDONLY | O_DIRECT);
		if (i < 0)
			return;
		check(pread(i, buffer[0].addr, SZ_64K, 0) == SZ_64K);
		close(i);
		return;
	}
	for (i = 0; i < 4; i++) {
		check_eq(ring_pin(nr, &buffer[0], PAGES(nr + i), PAGES(1 + i)),
			 0);
		ring_unpin(nr);
	}
	check_eq(pin(&p, SOURCE_URING, &buffer[0]), 0);
	unpin_by_close(&p);
}

static void held_all_the_time(void)
{
	const int kinds[] = { MEM_ANON, mem_huge() };
	struct pin held[2];
	long sum = 0;
	int i;

	cgroup = enter_new("a");
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		buffer[0] = mem_get(kinds[i], 0);
		check_eq(pin(&held[i], SOURCE_URING, &buffer[0]), 0);
		sum += buffer[0].len;
		watch.stop = false;
		watch_start(cgroup);
		race_run(come_and_go, 20);
		watch_stop();
		check_eq(watch.lowest, sum);
		check_eq(watch.highest, sum);
	}
	for (i = 0; i < ARRAY_SIZE(kinds); i++)
		unpin(&held[i]);
	check_reaches(cgroup, 0);
}

/* I2, I4: the last unpin of a page races with its next first pin. Whichever is
 * first, there is room.
 */
static void off_and_on(int nr)
{
	const struct mem *m = &buffer[nr % 2];
	int i;

	for (i = 0; i < 25; i++) {
		check_eq(ring_pin(nr, m, 0, m->len), 0);
		ring_unpin(nr);
	}
}

static void last_meets_first(bool limited)
{
	long most = PAGE_SIZE + SZ_2M;

	cgroup = enter_new("a");
	buffer[0] = mem_get(MEM_MEMFD, PAGE_SIZE);
	buffer[1] = mem_get(MEM_THP, SZ_2M);
	if (limited)
		set_max(cgroup, most);
	race_run(off_and_on, 10);
	check_eq(pins_current(cgroup), 0);
	check_eq(pins_events(cgroup), 0);
	check_eq(pins_stat(cgroup, "unpins"), pins_stat(cgroup, "pins"));
	check(pins_peak(cgroup) <= most);
}

/* I2, I5: and with short pins of the same page, which may be its last. */
static void long_and_short(int nr)
{
	struct gup_test gup = {
		.addr = (uintptr_t)buffer[0].addr,
		.size = PAGE_SIZE,
		.nr_pages_per_call = 1,
		.gup_flags = 1,		/* FOLL_WRITE */
	};
	int i;

	for (i = 0; i < 25; i++) {
		if (nr % 2) {
			gup.size = PAGE_SIZE;
			check_eq(ioctl(gup_fd, PIN_FAST_BENCHMARK, &gup), 0);
			continue;
		}
		check_eq(ring_pin(nr, &buffer[0], 0, PAGE_SIZE), 0);
		ring_unpin(nr);
	}
	race_wait();
	if (!nr)
		check_eq(pins_current(cgroup), 0);
}

static void short_among_long(void)
{
	const int kinds[] = { MEM_ANON, mem_huge() };
	int i;

	gup_fd = open("/sys/kernel/debug/gup_test", O_RDWR);
	if (gup_fd < 0)
		skip("no gup_test");
	cgroup = enter_new("a");
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		buffer[0] = mem_get(kinds[i], 0);
		race_run(long_and_short, 20);
	}
}

static void last_meets_first_unlimited(void)
{
	last_meets_first(false);
}

static void last_meets_first_at_limit(void)
{
	last_meets_first(true);
}

/* I3: limits change while tasks pin; a refused request leaves nothing pinned. */
static void pin_or_not(int nr)
{
	int ret, i;

	for (i = 0; i < 10; i++) {
		if (!nr) {
			set_max(cgroup, i % 2 ? 0 : LUCKY * SZ_64K);
			continue;
		}
		ret = ring_pin(nr, &buffer[nr], 0, SZ_64K);
		if (ret)
			check_eq(ret, -ENOMEM);
		else
			ring_unpin(nr);
	}
}

static void limit_moves(void)
{
	int i;

	cgroup = enter_new("a");
	for (i = 0; i < RACERS; i++)
		buffer[i] = mem_get(MEM_ANON, SZ_64K);
	race_run(pin_or_not, 20);
	check_eq(pins_current(cgroup), 0);
	check_eq(pins_stat(cgroup, "unpins"), pins_stat(cgroup, "pins"));
}

/* I2: processes of two cgroups pin parts of the same memory by all means, in
 * no order, and are killed somewhere in between.
 */
static void churn(unsigned int seed, struct mem *m)
{
	struct pin p[16];
	bool held[16] = {};
	size_t off;
	int i, source;

	for (;;) {
		i = rand_r(&seed) % ARRAY_SIZE(held);
		if (held[i]) {
			if (rand_r(&seed) % 2)
				unpin(&p[i]);
			else
				unpin_by_close(&p[i]);
			held[i] = false;
			continue;
		}
		source = rand_r(&seed) % SOURCE_GUP;
		if (source_missing(source))
			continue;
		off = rand_r(&seed) % 8 * SZ_64K;
		check_eq(pin_part(&p[i], source, &m[rand_r(&seed) % 2], off,
				  SZ_64K), 0);
		held[i] = true;
	}
}

static void killed_in_the_middle(void)
{
	char *cg[2] = { cg_make("a"), cg_make("b") };
	struct mem m[2];
	pid_t pid[4];
	int round, i;

	need_source(SOURCE_URING);
	m[0] = mem_get(MEM_MEMFD, 8 * SZ_64K);
	m[1] = mem_get(MEM_HUGETLB_FD, SZ_2M);
	for (round = 0; round < 4; round++) {
		for (i = 0; i < ARRAY_SIZE(pid); i++) {
			pid[i] = test_fork();
			if (!pid[i]) {
				enter(cg[i % 2]);
				churn(round * 10 + i + 1, m);
			}
		}
		usleep(300000);
		for (i = 0; i < ARRAY_SIZE(pid); i++) {
			kill(pid[i], SIGKILL);
			check_eq(reap(pid[i]), 128 + SIGKILL);
		}
		check_reaches(cg[0], 0);
		check_reaches(cg[1], 0);
		check(pins_stat(cg[0], "pins") > 0);
	}
}

/* I9: a task pins while it is moved to and fro. */
static char *homes[2];

static void pin_or_move(int nr)
{
	const struct mem *m = &buffer[nr % 2];
	int i;

	for (i = 0; i < 25; i++) {
		if (!nr) {
			enter(homes[i % 2]);
			continue;
		}
		check_eq(ring_pin(nr, m, 0, m->len), 0);
		ring_unpin(nr);
	}
}

static void moved_meanwhile(void)
{
	homes[0] = cg_make("b");
	homes[1] = enter_new("a");
	buffer[0] = mem_get(MEM_ANON, 0);
	buffer[1] = mem_get(MEM_THP, 0);
	race_run(pin_or_move, 10);
	check_eq(pins_current(homes[0]), 0);
	check_eq(pins_current(homes[1]), 0);
}

/* I9: cgroups are removed while their pins are released elsewhere. */
static void removed_meanwhile(void)
{
	struct baton give = baton_make();
	char *top = cg_make("a"), *cg, name[16];
	struct mem m = mem_get(MEM_MEMFD, 0);
	struct pin p;
	pid_t pid;
	int i;

	need_source(SOURCE_URING);
	for (i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "a/%d", i);
		cg = cg_make(name);
		enter(cg);
		check_eq(pin(&p, SOURCE_URING, &m), 0);
		enter_root();
		pid = test_fork();
		if (!pid) {
			baton_take(&give);
			unpin(&p);
			_exit(0);
		}
		close(p.fd);
		baton_pass(&give);
		check_eq(cg_destroy(cg), 0);
		check_eq(reap(pid), 0);
		check_reaches(top, 0);
	}
}

static const struct pins_test tests[] = {
	{ "I4 fair: of many that race for the last pages as many win as fit",
	  last_pages_of_cgroup },
	{ "I4 fair: the same below a limit of the parent",
	  last_pages_of_parent },
	{ "I4 fair: many pin the same new pages, which fit just once",
	  same_new_pages },
	{ "I4 fair: many pin the same new huge pages, which fit just once",
	  same_new_thp },
	{ "I1 once: the same without a limit shows them once, even in pins.peak",
	  same_new_unlimited },
	{ "I4 fair: small requests always fit beside big ones that never do",
	  small_beside_big_in_cgroup },
	{ "I4 fair: the same with the big ones in a sibling",
	  small_beside_big_in_sibling },
	{ "I1 once, I5 short: a held charge does not move while others come and go",
	  held_all_the_time },
	{ "I2 zero: the last unpin of a page meets its next pin",
	  last_meets_first_unlimited },
	{ "I4 fair: the last unpin of a page meets its next pin, at the limit",
	  last_meets_first_at_limit },
	{ "I2 zero, I5 short: long and short pins of a page come and go",
	  short_among_long },
	{ "I3 whole: limits that move leave nothing behind", limit_moves },
	{ "I2 zero: processes killed while they pin and unpin all over",
	  killed_in_the_middle },
	{ "I9 sticky: a task moved to and fro while it pins",
	  moved_meanwhile },
	{ "I9 sticky: cgroups removed while their pins are let go",
	  removed_meanwhile },
};

int main(void)
{
	pins_run(tests, ARRAY_SIZE(tests));
}
