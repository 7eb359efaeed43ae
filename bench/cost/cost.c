// SPDX-License-Identifier: GPL-2.0
/*
 * What pinning costs, in instructions: each work in each mode.
 *
 * A work is repeated, each time from nothing pinned to nothing pinned. Recorded
 * is the time inside the pin and unpin calls, and that of the whole system
 * call: there work shows that was put off to a later moment, such as memory
 * freed after a grace period.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"

enum { DENSE, APART, ALONE, THP, HUGETLB, NR_MEMORY };

static struct {
	char *p;
	size_t bytes;
} memory[NR_MEMORY] = {
	[DENSE]   = { .bytes = 128 * MB },
	[APART]   = { .bytes = 128 * MB },
	[ALONE]   = { .bytes = 128 * MB },
	[THP]     = { .bytes = 512 * MB },
	[HUGETLB] = { .bytes = 512 * MB },
};

#define DONOR		(3 * GB / 2)
#define REPEATS		12
#define FIRST_REPEATS	7

struct series {
	uint64_t all[REPEATS];	/* ns */
	int nr;
};

static void series_add(struct series *s, uint64_t ns)
{
	s->all[s->nr++] = ns;
}

/* In instructions per unit of the work. */
static void series_record(const char *mode, const char *work, const char *call,
			  const struct series *s, double per)
{
	char values[32 * REPEATS], *at = values;
	int i;

	for (i = 0; i < s->nr; i++)
		at += sprintf(at, "%s%.4f", i ? ", " : "", s->all[i] / per);
	record("\"mode\": \"%s\", \"work\": \"%s\", \"call\": \"%s\", \"values\": [%s]",
	       mode, work, call, values);
}

static void run_gup(const char *mode, const char *work, enum gup_how how,
		    int kind, unsigned int per_call)
{
	struct series pin = {}, unpin = {}, sum = {}, call = {};
	char *p = memory[kind].p;
	size_t bytes = memory[kind].bytes, pages = bytes / PAGE;
	struct gup_cost cost;
	int i;

	for (i = -1; i < REPEATS; i++) {
		gup_cycle(how, p, bytes, per_call, &cost);
		if (i < 0)
			continue;
		series_add(&pin, cost.pin);
		series_add(&unpin, cost.unpin);
		series_add(&sum, cost.pin + cost.unpin);
		series_add(&call, cost.call);
	}
	series_record(mode, work, "pin", &pin, pages);
	series_record(mode, work, "unpin", &unpin, pages);
	series_record(mode, work, "calls", &sum, pages);
	series_record(mode, work, "whole", &call, pages);
}

/*
 * The same after a while in which nothing was pinned, and with what the kernel
 * does in the background to get back to that.
 */
static void run_gup_first(const char *mode, const char *work, enum gup_how how,
			  int kind, unsigned int per_call)
{
	struct series pin = {}, unpin = {}, sum = {}, call = {};
	char *p = memory[kind].p;
	size_t bytes = memory[kind].bytes, pages = bytes / PAGE;
	struct gup_cost cost;
	uint64_t before;
	int i;

	for (i = 0; i < FIRST_REPEATS; i++) {
		settle(10);
		before = background();
		gup_cycle(how, p, bytes, per_call, &cost);
		settle(10);
		series_add(&pin, cost.pin);
		series_add(&unpin, cost.unpin);
		series_add(&sum, cost.pin + cost.unpin);
		series_add(&call, cost.call + background() - before);
	}
	series_record(mode, work, "pin", &pin, pages);
	series_record(mode, work, "unpin", &unpin, pages);
	series_record(mode, work, "calls", &sum, pages);
	series_record(mode, work, "whole", &call, pages);
}

static void run_direct(const char *mode, const char *work, size_t bytes)
{
	struct series sum = {};
	int fd = open("/dev/nullb0", O_RDONLY | O_DIRECT);
	char *p = memory[DENSE].p;
	const int nr = 8192;
	uint64_t start;
	int i, rep;

	if (fd < 0)
		die("no /dev/nullb0: %m");
	for (rep = -1; rep < REPEATS; rep++) {
		start = now();
		for (i = 0; i < nr; i++)
			if (pread(fd, p, bytes, 0) != (ssize_t)bytes)
				die("direct read: %m");
		if (rep >= 0)
			series_add(&sum, now() - start);
	}
	close(fd);
	series_record(mode, work, "calls", &sum, nr);
}

/* A file on a disk of memory */
#define DISK		"/dev/ram0"
#define FILE_BYTES	MB

static int file = -1;

static void file_setup(void)
{
	if (system("mkfs.ext4 -q -F -b 4096 -O ^has_journal " DISK) ||
	    mount(DISK, "/tmp", "ext4", 0, NULL))
		die("no ext4 on " DISK);
	file = open("/tmp/cost", O_CREAT | O_RDWR, 0600);
	if (file < 0 || pwrite(file, memory[DENSE].p, FILE_BYTES, 0) != FILE_BYTES ||
	    fsync(file))
		die("no file: %m");
}

/* The same pages are written, and synced, again and again: by write(), or by a mapping. */
static void run_sync(const char *mode, const char *work, bool mapped)
{
	struct series sum = {};
	uint64_t start;
	char *at = NULL;
	size_t off;
	int rep;

	if (mapped)
		at = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (at == MAP_FAILED)
		die("cannot map it: %m");
	for (rep = -1; rep < REPEATS; rep++) {
		start = now();
		for (off = 0; mapped && off < FILE_BYTES; off += PAGE)
			at[off] = rep;
		if (!mapped && pwrite(file, memory[DENSE].p, FILE_BYTES, 0) != FILE_BYTES)
			die("cannot write it: %m");
		if (fdatasync(file))
			die("cannot sync it: %m");
		if (rep >= 0)
			series_add(&sum, now() - start);
	}
	if (mapped)
		munmap(at, FILE_BYTES);
	series_record(mode, work, "calls", &sum, FILE_BYTES / PAGE);
}

static void run_uring(const char *mode, const char *work, int kind)
{
	struct series pin = {}, unpin = {}, sum = {};
	struct iovec iov = { memory[kind].p, MB };
	uint64_t start, middle, end, in, out;
	const int nr = 64;
	int fd = uring_open(), i, rep;

	for (rep = -1; rep < REPEATS; rep++) {
		in = 0;
		out = 0;
		for (i = 0; i < nr; i++) {
			start = now();
			uring_register(fd, &iov, 1);
			middle = now();
			uring_unregister(fd);
			end = now();
			in += middle - start - clock_cost;
			out += end - middle - clock_cost;
		}
		if (rep < 0)
			continue;
		series_add(&pin, in);
		series_add(&unpin, out);
		series_add(&sum, in + out);
	}
	close(fd);
	series_record(mode, work, "pin", &pin, nr * (MB / PAGE));
	series_record(mode, work, "unpin", &unpin, nr * (MB / PAGE));
	series_record(mode, work, "calls", &sum, nr * (MB / PAGE));
}

/* Reads into a registered buffer, one after the other */
static void run_uring_read(const char *mode, const char *work)
{
	struct iovec iov = { memory[DENSE].p, MB };
	struct series sum = {};
	struct uring_queue q;
	const int nr = 8192;
	uint64_t start;
	int i, rep, fd = open("/dev/nullb0", O_RDONLY | O_DIRECT);

	if (fd < 0)
		die("no /dev/nullb0: %m");
	uring_queue_open(&q);
	uring_register(q.fd, &iov, 1);
	for (rep = -1; rep < REPEATS; rep++) {
		start = now();
		for (i = 0; i < nr; i++)
			uring_read_fixed(&q, fd, memory[DENSE].p, 4 * KB);
		if (rep >= 0)
			series_add(&sum, now() - start);
	}
	/* The mappings keep the ring. */
	uring_unregister(q.fd);
	close(q.fd);
	close(fd);
	series_record(mode, work, "calls", &sum, nr);
}

#define SHORT		0x1
#define LONG_SMALL	0x2
#define LONG_HUGE	0x4
#define LONG_APART	0x8
#define LONG_FIRST	0x10
#define READ_FIXED	0x20
#define FILES		0x40
#define ALL		0x7f

static void run(const char *mode, unsigned int what)
{
	note("cost: %s", mode);
	settle(10);
	if (what & SHORT) {
		run_gup(mode, "short", GUP_SHORT_FAST, DENSE, 512);
		run_gup(mode, "short one", GUP_SHORT_FAST, DENSE, 1);
		run_direct(mode, "direct", 4 * KB);
		run_direct(mode, "direct 64k", 64 * KB);
	}
	if (what & FILES) {
		run_sync(mode, "sync", false);
		run_sync(mode, "sync mapped", true);
	}
	if (what & READ_FIXED)
		run_uring_read(mode, "read fixed");
	if (what & LONG_SMALL) {
		run_gup(mode, "long", GUP_LONG, DENSE, 512);
		run_gup(mode, "long one", GUP_LONG, DENSE, 1);
		run_gup(mode, "long fast", GUP_LONG_FAST, DENSE, 512);
		run_gup(mode, "long fast one", GUP_LONG_FAST, DENSE, 1);
		run_uring(mode, "uring", DENSE);
	}
	if (what & LONG_FIRST) {
		run_gup_first(mode, "long first", GUP_LONG, DENSE, 512);
		run_gup_first(mode, "long fast first", GUP_LONG_FAST, DENSE, 512);
		run_gup_first(mode, "long alone first", GUP_LONG, ALONE, 512);
		run_gup_first(mode, "long thp first", GUP_LONG, THP, 512);
	}
	if (what & LONG_APART) {
		run_gup(mode, "long apart", GUP_LONG, APART, 512);
		run_gup(mode, "long fast apart", GUP_LONG_FAST, APART, 512);
		run_gup(mode, "long alone", GUP_LONG, ALONE, 512);
		run_gup(mode, "long fast alone", GUP_LONG_FAST, ALONE, 512);
	}
	if (what & LONG_HUGE) {
		run_gup(mode, "long thp", GUP_LONG, THP, 512);
		run_gup(mode, "long fast thp", GUP_LONG_FAST, THP, 512);
		run_gup(mode, "long hugetlb", GUP_LONG, HUGETLB, 512);
		run_gup(mode, "long fast hugetlb", GUP_LONG_FAST, HUGETLB, 512);
	}
}

/*
 * Somebody else in the cgroup holds registered buffers: 64 MB in one piece, or
 * one page of every 2 MB of a gigabyte.
 */
static pid_t start_holder(bool everywhere)
{
	static struct iovec iov[GB / HUGE];
	int ready[2], fd;
	char c, *p;
	pid_t pid;
	size_t i;

	if (pipe(ready))
		die("pipe");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid) {
		if (read(ready[0], &c, 1) != 1)
			die("the holder of buffers failed");
		close(ready[0]);
		close(ready[1]);
		return pid;
	}

	fd = uring_open();
	if (everywhere) {
		size_t nr = map_apart(&p, GB, ARRAY_SIZE(iov), HUGE);

		for (i = 0; i < nr; i++)
			iov[i] = (struct iovec){ p + i * PAGE, PAGE };
		uring_register(fd, iov, nr);
	} else {
		iov[0] = (struct iovec){ map_small(64 * MB), 64 * MB };
		uring_register(fd, iov, 1);
	}
	if (write(ready[1], "r", 1) != 1)
		die("pipe");
	pause();
	exit(0);
}

static void stop_holder(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	settle(10);
}

static void with_others(const char *mode, bool everywhere)
{
	pid_t pid = start_holder(everywhere);

	run(mode, SHORT);
	stop_holder(pid);
}

int main(void)
{
	guest_setup();
	note("cost: preparing memory");
	memory[HUGETLB].p = map_hugetlb(memory[HUGETLB].bytes);
	memory[THP].p = map_thp(memory[THP].bytes);
	memory[DENSE].p = map_small(memory[DENSE].bytes);
	memory[APART].bytes = PAGE * map_apart(&memory[APART].p, DONOR,
					       memory[APART].bytes / PAGE, 0);
	memory[ALONE].bytes = PAGE * map_apart(&memory[ALONE].p, DONOR,
					       memory[ALONE].bytes / PAGE,
					       256 * KB);
	file_setup();
	note("cost: %zu pages apart, %zu alone, a look at the clock is %llu",
	     memory[APART].bytes / PAGE, memory[ALONE].bytes / PAGE,
	     (unsigned long long)clock_cost);

	run("unused", ALL);
	if (!pins_supported())
		return 0;

	pins_enter(1, 4 * GB);
	pins_step_out();
	run("in use by others", SHORT | LONG_SMALL);
	pins_leave();
	pins_enter(1, 4 * GB);
	run("in use", ALL);
	with_others("in use, 64 MB pinned elsewhere", false);
	with_others("in use, a pin in every 2 MB", true);
	pins_leave();
	pins_enter(1, 4 * GB);
	pins_revoke_idle();
	run("in use, pins.revoke idle", READ_FIXED | LONG_SMALL);
	pins_leave();
	pins_enter(3, 4 * GB);
	run("in use, 3 levels deep", LONG_SMALL | LONG_HUGE);
	pins_leave();
	return 0;
}
