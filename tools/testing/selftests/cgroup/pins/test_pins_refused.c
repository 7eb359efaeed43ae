// SPDX-License-Identifier: GPL-2.0
/*
 * Requests that the pins controller refuses, and those that it must not: what a
 * refusal costs, how it is reported, and that whoever unpins memory can pin as much
 * again.
 *
 * Copyright (C) 2026 the pins authors
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pins_util.h"

static long refusals(const char *cg, const char *file)
{
	return cg_read_key_long(cg, file, "refused ");
}

/* Pages of this process that are in memory */
static long resident(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	long pages;

	check(f && fscanf(f, "%*s %ld", &pages) == 1);
	fclose(f);
	return pages;
}

/* A request of so much untouched memory fails, and leaves it untouched. */
static void fails_untouched(int source, int kind, size_t len)
{
	struct mem m = mem_get(kind, len);
	long before = resident();
	struct pin p;

	check_eq(pin(&p, source, &m), -ENOMEM);
	check(resident() - before < (long)(len / PAGE_SIZE / 4));
	check(!munmap(m.addr, m.len));
}

static void nothing_allowed(void)
{
	char *cg = enter_new("a");

	need_source(SOURCE_URING);
	set_max(cg, 0);
	fails_untouched(SOURCE_URING, MEM_UNTOUCHED, 16 * SZ_2M);
	fails_untouched(SOURCE_GUP, MEM_UNTOUCHED, 16 * SZ_2M);
	check_eq(pins_events(cg), 2);
	check_eq(pins_stat(cg, "pins"), 0);
}

static void full(void)
{
	char *top = cg_make("a"), *cg = cg_make("a/b");
	struct mem m = mem_get(MEM_ANON, SZ_2M);
	struct pin p, again;

	enter(cg);
	set_max(top, m.len);
	check_eq(pin(&p, SOURCE_URING, &m), 0);
	fails_untouched(SOURCE_URING, MEM_UNTOUCHED, SZ_2M);
	fails_untouched(SOURCE_URING, MEM_UNTOUCHED, 16 * SZ_2M);
	check_eq(pin(&again, SOURCE_URING, &m), 0);
	check_eq(pins_events(top), 2);
	check_eq(pins_current(top), m.len);
	unpin(&again);
	unpin(&p);
}

/* Faulting in all of it would make the memory controller reclaim or kill. */
static void nobody_is_killed(void)
{
	char *cg = cg_make("a");
	struct pin p;
	struct mem m;
	pid_t pid;
	int ret;

	need_source(SOURCE_URING);
	need_memory_controller();
	set_max(cg, 0);
	check_eq(cg_write(cg, "memory.max", "16M"), 0);
	pid = test_fork();
	if (!pid) {
		enter(cg);
		m = mem_get(MEM_UNTOUCHED, 32 * SZ_2M);
		check_eq(pin(&p, SOURCE_URING, &m), -ENOMEM);
		_exit(0);
	}
	ret = reap(pid);
	check_eq(cg_read_key_long(cg, "memory.events", "max "), 0);
	cg_destroy(cg);
	cg_write(pins_top, "cgroup.subtree_control", "-memory");
	cg_write(pins_root, "cgroup.subtree_control", "-memory");
	check_eq(ret, 0);
}

/* Pages that may be pinned already, or that occur twice, must not be refused early. */
static void not_too_early(void)
{
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_MEMFD, PAGES(4)), twice = m;
	struct pin p, q;
	int i;

	need_source(SOURCE_URING);
	/* Each page twice: twice as many pages as the limit allows */
	twice.len = 2 * m.len;
	twice.addr = mem_reserve(twice.len, PAGE_SIZE);
	for (i = 0; i < 2; i++)
		check(mmap(twice.addr + i * m.len, m.len, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_FIXED, m.fd, 0) != MAP_FAILED);
	set_max(cg, m.len);
	check_eq(pin(&p, SOURCE_URING, &twice), 0);
	check_eq(pins_current(cg), m.len);
	/* Through another mapping, which has no page table yet */
	m.addr = mmap(NULL, m.len, PROT_READ | PROT_WRITE, MAP_SHARED, m.fd, 0);
	check(m.addr != MAP_FAILED);
	check_eq(pin(&q, SOURCE_URING, &m), 0);
	unpin(&q);
	/* A limit below usage refuses nothing that is pinned. */
	set_max(cg, 0);
	check_eq(pin(&q, SOURCE_URING, &m), 0);
	unpin(&q);
	unpin(&p);
	check_eq(pins_events(cg), 0);
}

/* Bad addresses fail with EFAULT, even where nothing may be pinned. */
static void bad_addresses(void)
{
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_ANON, PAGES(8)), bad = m;
	struct pin p;

	need_source(SOURCE_URING);
	set_max(cg, 0);
	check(!munmap(m.addr, PAGES(1)));
	check_eq(pin(&p, SOURCE_URING, &bad), -EFAULT);
	bad.addr += PAGES(1);
	bad.len = PAGES(1);
	check(!mprotect(bad.addr, bad.len, PROT_READ));
	check_eq(pin(&p, SOURCE_URING, &bad), -EFAULT);
	check(!mprotect(bad.addr, bad.len, PROT_NONE));
	check_eq(pin(&p, SOURCE_URING, &bad), -EFAULT);
	check_eq(pins_events(cg), 0);
}

/* So is memory that a protection key denies. */
static void denied_by_a_key(void)
{
	struct mem m = mem_get(MEM_UNTOUCHED, SZ_2M);
	char *cg = enter_new("a");
	struct pin p;
	int key;

	need_source(SOURCE_URING);
	key = syscall(SYS_pkey_alloc, 0, 0x2 /* PKEY_DISABLE_WRITE */);
	if (key < 0)
		skip("no protection keys");
	check(!syscall(SYS_pkey_mprotect, m.addr, m.len, PROT_READ | PROT_WRITE, key));
	set_max(cg, PAGE_SIZE);
	check_eq(pin(&p, SOURCE_URING, &m), -EFAULT);
	check_eq(pins_events(cg), 0);
	check(!syscall(SYS_pkey_free, key));
	check(!mprotect(m.addr, m.len, PROT_READ | PROT_WRITE));
}

static bool logged(int kmsg, const char *text)
{
	char line[1024];
	ssize_t n;

	while ((n = read(kmsg, line, sizeof(line) - 1)) > 0 || errno == EPIPE) {
		line[n > 0 ? n : 0] = 0;
		if (strstr(line, text))
			return true;
	}
	return false;
}

/* The cgroup of the request counts it, whosever limit it was; the log has one line. */
static void own_cgroup_counts(void)
{
	char *top = cg_make("pod"), *cg = cg_make("pod/container"), text[PATH_MAX + 64];
	int kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK), i;
	struct mem m = mem_get(MEM_ANON, PAGES(4));
	struct pin p;

	need_source(SOURCE_URING);
	/* There may have been many lines in the last five seconds. */
	sleep(6);
	check(kmsg >= 0 && lseek(kmsg, 0, SEEK_END) >= 0);
	enter(cg);
	set_max(top, PAGES(3));
	for (i = 1; i <= 2; i++) {
		check_eq(pin(&p, SOURCE_URING, &m), -ENOMEM);
		check_eq(refusals(cg, "pins.events"), i);
		check_eq(refusals(cg, "pins.events.local"), i);
		check_eq(pins_events(cg), 0);
		check_eq(pins_events(top), i);
		check_eq(refusals(top, "pins.events"), i);
		check_eq(refusals(top, "pins.events.local"), 0);
	}
	snprintf(text, sizeof(text), "in \"%s\" to pin 16 kB more: pins.max of \"",
		 cg + strlen(pins_root));
	check(logged(kmsg, text));
	check(!logged(kmsg, text));
	check_eq(close(kmsg), 0);
}

/* Rings that are closed are torn down by a worker. */
static void ring_restarts(void)
{
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_ANON, 2 * SZ_2M);
	struct pin p;
	int i;

	need_source(SOURCE_URING);
	set_max(cg, 3 * SZ_2M);
	for (i = 0; i < 100; i++) {
		check_eq(pin(&p, SOURCE_URING, &m), 0);
		check_eq(close(p.fd), 0);
	}
	check_reaches(cg, 0);
	check_eq(refusals(cg, "pins.events"), 0);
}

static void process_restarts(int sig)
{
	char *cg = enter_new("a");
	struct baton ready;
	struct pin p;
	struct mem m;
	pid_t pid;
	int i;

	need_source(SOURCE_URING);
	set_max(cg, 3 * SZ_2M);
	for (i = 0; i < 50; i++) {
		ready = baton_make();
		pid = test_fork();
		if (!pid) {
			m = mem_get(MEM_ANON, 2 * SZ_2M);
			check_eq(pin(&p, SOURCE_URING, &m), 0);
			baton_pass(&ready);
			while (sig)
				pause();
			_exit(0);
		}
		baton_take(&ready);
		if (sig)
			check_eq(kill(pid, sig), 0);
		check_eq(reap(pid), sig ? 128 + sig : 0);
		close(ready.fd[0]);
		close(ready.fd[1]);
	}
	check_reaches(cg, 0);
	check_eq(refusals(cg, "pins.events"), 0);
}

static void process_ends_and_restarts(void)
{
	process_restarts(0);
}

static void process_is_killed_and_restarts(void)
{
	process_restarts(SIGKILL);
}

/* Two requests fit one after the other, and not together: none is refused for ever,
 * and each gets its turn while others, that never fit, try all the time.
 */
static void every_one_has_its_turn(void)
{
	enum { NR = 4, ROUNDS = 30 };
	char *top = cg_make("a"), *cg = cg_make("a/b");
	struct mem m = mem_get(MEM_MEMFD, PAGES(600));
	pid_t pid[NR];
	struct pin p;
	int i, j;

	need_source(SOURCE_URING);
	set_max(top, PAGES(400));
	for (i = 0; i < NR; i++) {
		pid[i] = test_fork();
		if (pid[i])
			continue;
		enter(i ? cg : cg_make("a/c"));
		for (j = 0; j < ROUNDS || i; j++) {
			if (i)
				check_eq(pin(&p, SOURCE_URING, &m), -ENOMEM);
			else
				check_eq(pin_part(&p, SOURCE_URING, &m, 0, PAGES(390)), 0);
			if (!i)
				unpin(&p);
		}
		_exit(0);
	}
	check_eq(reap(pid[0]), 0);
	for (i = 1; i < NR; i++) {
		check_eq(kill(pid[i], SIGKILL), 0);
		check_eq(reap(pid[i]), 128 + SIGKILL);
	}
	check_reaches(top, 0);
	check_eq(pins_stat(top, "unpins"), pins_stat(top, "pins"));
	check(pins_peak(top) <= PAGES(400));
}

static const struct pins_test tests[] = {
	{ "I3 whole: where nothing may be pinned, nothing is faulted in",
	  nothing_allowed },
	{ "I3 whole: nor in a full cgroup, which can pin again what it has pinned", full },
	{ "I3 whole: a request that is refused kills nobody and reclaims nothing",
	  nobody_is_killed },
	{ "I4 fair: what comes twice, or may be pinned already, is not refused too early",
	  not_too_early },
	{ "Bad addresses are EFAULT, whatever the limit", bad_addresses },
	{ "So is memory that a protection key denies", denied_by_a_key },
	{ "pins.events: who is refused counts it, whosever limit it was; the log says it once",
	  own_cgroup_counts },
	{ "I4 fair: a ring that is closed makes room for the next", ring_restarts },
	{ "I4 fair: so does a process that ends", process_ends_and_restarts },
	{ "I4 fair: and one that is killed", process_is_killed_and_restarts },
	{ "I4 fair: what fits has its turn, while others try what does not",
	  every_one_has_its_turn },
};

int main(void)
{
	pins_run(tests, ARRAY_SIZE(tests));
}
