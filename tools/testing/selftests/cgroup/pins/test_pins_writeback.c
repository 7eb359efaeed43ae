// SPDX-License-Identifier: GPL-2.0
/*
 * Writeback leaves what direct I/O has pinned for later, or waits for it.
 *
 * The disk of the direct I/O is slow. What has waited for what is seen by what has ended
 * before what.
 *
 * Copyright (C) 2026 the pins authors
 */
#define _GNU_SOURCE

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pins_util.h"

#define LEN		FILE_LEN

static void patience(long us)
{
	if (cg_write_numeric(VM, "pins_drain_max_us", us))
		skip("writeback cares for no pins");
}

/* Longer than a test may take */
#define FOR_EVER	3600000000L	/* in us */

/* A file of a cgroup, dirty, into which direct I/O reads: two pages from the second on */
struct victim {
	char *cg;
	struct mem m;
	__kernel_ulong_t reading;
};

#define PINNED		PAGES(1)
#define PINNED_LEN	PAGES(2)

static struct victim read_into_file(int disk)
{
	struct victim v = { .cg = file_cgroup("a") };

	v.m = file_cached(v.cg);
	v.reading = read_begin(disk, v.m.addr + PINNED, PINNED_LEN);
	check(!read_done(v.reading));
	return v;
}

/* It may have ended; and a disk that takes more than 5 s says that it has timed out. */
static void read_ends(struct victim *v)
{
	while (!read_done(v->reading))
		usleep(10000);
}

static void check_pinned_is_dirty(const struct victim *v, bool want)
{
	check_eq(mem_is_dirty(v->m.addr + PINNED), want);
	check_eq(mem_is_dirty(v->m.addr + PINNED + PAGE_SIZE), want);
}

static void check_written_pinned(const struct victim *v, long want)
{
	check_eq(pins_stat(v->cg, "writeback_pinned"), want);
}

static void check_disk(const struct mem *m, size_t off, char want)
{
	char page[PAGE_SIZE];
	int i;

	check_eq(pread(m->fd, page, PAGE_SIZE, off), PAGE_SIZE);
	for (i = 0; i < PAGE_SIZE; i++)
		check_eq(page[i], want);
}

/* A disk of zeroes, which takes a second to read them */
static int slow_zeroes(void)
{
	const struct null_setup setup[] = {
		{ "size", 64 }, { "irqmode", 2 }, { "completion_nsec", 1000 * MS },
		{ "memory_backed", 1 },
	};

	return null_disk(setup, ARRAY_SIZE(setup));
}

static void fsync_waits(void)
{
	struct victim v = read_into_file(slow_zeroes());

	patience(FOR_EVER);
	check_eq(fsync(v.m.fd), 0);
	check(read_done(v.reading));
	check_pinned_is_dirty(&v, false);
	check_written_pinned(&v, 0);

	/* That is what has got to the disk. */
	check_eq(madvise(v.m.addr, LEN, MADV_DONTNEED), 0);
	check_eq(posix_fadvise(v.m.fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	check_disk(&v.m, 0, 1);
	check_disk(&v.m, PAGES(1), 0);
	check_disk(&v.m, PAGES(2), 0);
	check_disk(&v.m, PAGES(3), 1);
	file_forget(&v.m);
}

static void sync_waits(void)
{
	struct victim v = read_into_file(slow_disk(500 * MS));

	patience(FOR_EVER);
	check_eq(syncfs(v.m.fd), 0);
	check(read_done(v.reading));
	check_written_pinned(&v, 0);
	file_forget(&v.m);
}

static void fsync_gives_up(void)
{
	struct victim v = read_into_file(slow_disk(2000 * MS));

	patience(50000);
	check_eq(fsync(v.m.fd), 0);
	check(!read_done(v.reading));
	check_pinned_is_dirty(&v, false);
	check_written_pinned(&v, 2);
	read_ends(&v);
	file_forget(&v.m);
}

/* Each would wait for a second, and the read takes four. */
#define SYNCED	20

static void sync_gives_up_once(void)
{
	int disk = slow_disk(4000 * MS), i;
	char *cg = file_cgroup("a");
	struct mem m[SYNCED];
	__kernel_ulong_t reading[SYNCED];

	for (i = 0; i < SYNCED; i++)
		m[i] = file_cached(cg);
	patience(1000000);
	for (i = 0; i < SYNCED; i++)
		reading[i] = read_begin(disk, m[i].addr, PAGE_SIZE);
	check_eq(syncfs(m[0].fd), 0);
	check(!read_done(reading[0]));
	check_eq(pins_stat(cg, "writeback_pinned"), SYNCED);
	for (i = 0; i < SYNCED; i++) {
		read_end(reading[i], PAGE_SIZE);
		file_forget(&m[i]);
	}
}

static void fsync_is_killable(void)
{
	struct victim v = read_into_file(slow_disk(4000 * MS));
	pid_t pid;

	patience(FOR_EVER);
	pid = fork();
	if (!pid) {
		fsync(v.m.fd);
		_exit(0);
	}
	usleep(300000);
	check_eq(waitpid(pid, NULL, WNOHANG), 0);
	check_eq(kill(pid, SIGKILL), 0);
	check_eq(waitpid(pid, NULL, 0), pid);
	check(!read_done(v.reading));
	read_ends(&v);
	file_forget(&v.m);
}

/*
 * Dirty inodes are visited when that changes, but not as many pages written as there may
 * be. The last page of the file is dirtied, and has been written when this returns.
 */
static void flush(const struct mem *m)
{
	char *last = m->addr + LEN - PAGE_SIZE;
	int i;

	*last = 1;
	for (i = 1; mem_is_dirty(last); i ^= 1) {
		check_eq(cg_write_numeric(VM, "dirty_writeback_centisecs", 500 + i), 0);
		usleep(10000);
	}
}

/* As a kernel without this does */
static void not_with_0(void)
{
	struct victim v = read_into_file(slow_disk(3000 * MS));

	patience(0);
	flush(&v.m);
	check_pinned_is_dirty(&v, false);
	memset(v.m.addr, 2, LEN);
	check_eq(fsync(v.m.fd), 0);
	check(!read_done(v.reading));
	check_written_pinned(&v, 4);
	read_ends(&v);
	file_forget(&v.m);
}

/* Others count on it that all is under writeback. */
static void others_write_all(void)
{
	struct victim v = read_into_file(slow_disk(2000 * MS));

	patience(FOR_EVER);
	check_eq(sync_file_range(v.m.fd, 0, LEN, SYNC_FILE_RANGE_WRITE), 0);
	check_pinned_is_dirty(&v, false);
	check(!read_done(v.reading));
	read_ends(&v);
	file_forget(&v.m);
}

static void background_comes_back(void)
{
	struct victim v = read_into_file(slow_disk(6000 * MS));
	int i;

	patience(1);
	for (i = 0; i < 3; i++)
		flush(&v.m);
	check(!read_done(v.reading));
	check_pinned_is_dirty(&v, true);
	check(!mem_is_dirty(v.m.addr));
	check_written_pinned(&v, 0);

	read_ends(&v);
	flush(&v.m);
	check_pinned_is_dirty(&v, false);
	check_written_pinned(&v, 0);
	file_forget(&v.m);
}

/* By itself, after a second; and after one or two more that, too */
static void not_for_ever(void)
{
	struct victim v;

	patience(1);
	check_eq(cg_write(VM, "dirty_expire_centisecs", "100"), 0);
	check_eq(cg_write(VM, "dirty_writeback_centisecs", "100"), 0);
	v = read_into_file(slow_disk(20000 * MS));
	memset(v.m.addr, 2, LEN);
	while (mem_is_dirty(v.m.addr))
		usleep(10000);
	check_pinned_is_dirty(&v, true);
	while (mem_is_dirty(v.m.addr + PINNED))
		usleep(10000);
	check(!read_done(v.reading));
	check_written_pinned(&v, 2);
	check_eq(cg_write(VM, "dirty_expire_centisecs", "3000"), 0);
	check_eq(cg_write(VM, "dirty_writeback_centisecs", "500"), 0);
	read_ends(&v);
	file_forget(&v.m);
}

/* Who has opened a file to be read writes to a disk from a mapping of it. */
static void readers_delay_nobody(void)
{
	int disk = slow_disk(2000 * MS), fd = file_new("."), reader;
	char path[64], *addr;
	pid_t pid;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	reader = open(path, O_RDONLY);
	check(reader >= 0);
	addr = mmap(NULL, LEN, PROT_READ, MAP_SHARED, reader, 0);
	check(addr != MAP_FAILED);
	check_eq(*addr, 0);
	patience(FOR_EVER);
	pid = fork();
	if (!pid)
		_exit(pwrite(disk, addr, LEN, 0) != LEN);
	usleep(300000);
	check_eq(fsync(fd), 0);
	check(!mem_is_dirty(addr));
	check_eq(waitpid(pid, NULL, WNOHANG), 0);
	check_eq(waitpid(pid, NULL, 0), pid);
}

/* Long-term pins may only read. */
static void not_for_long_term_pins(void)
{
	char *cg = file_cgroup("a"), *other = cg_make("b");
	struct mem m = file_cached(cg);
	struct mem_kind to_read = { .name = "a file, to read", .how = HOW_READ_PIN };
	struct pin p;

	need_source(SOURCE_GUP);
	patience(FOR_EVER);
	m.kind = &to_read;
	enter(other);
	check_eq(pin_part(&p, SOURCE_GUP, &m, PAGES(4), PAGE_SIZE), 0);
	enter_root();
	memset(m.addr, 2, LEN);
	flush(&m);
	check(!mem_is_dirty(m.addr + PAGES(4)));
	memset(m.addr, 3, LEN);
	check_eq(fsync(m.fd), 0);
	check(!mem_is_dirty(m.addr + PAGES(4)));
	check_eq(pins_stat(cg, "writeback_pinned"), 2);
	unpin(&p);
	file_forget(&m);
}

static const struct pins_test tests[] = {
	{ "fsync() waits for direct I/O into the file", fsync_waits },
	{ "so does sync()", sync_waits },
	{ "I10 bounded: no longer than vm.pins_drain_max_us", fsync_gives_up },
	{ "I10 bounded: not for each file again", sync_gives_up_once },
	{ "I10 bounded: who is killed does not wait", fsync_is_killable },
	{ "vm.pins_drain_max_us of 0: all is written as it is", not_with_0 },
	{ "sync_file_range() writes all", others_write_all },
	{ "background writeback leaves what is pinned, and comes back",
		background_comes_back },
	{ "I10 bounded: it is not left for ever", not_for_ever },
	{ "who may only read the file delays nobody", readers_delay_nobody },
	{ "nobody waits for long-term pins of a cgroup", not_for_long_term_pins },
};

int main(void)
{
	pins_run(tests, ARRAY_SIZE(tests));
}
