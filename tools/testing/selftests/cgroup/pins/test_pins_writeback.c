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
	int disk = slow_zeroes();
	char *cg = file_cgroup("a");
	struct mem m = file_cached(cg);
	__kernel_ulong_t reading;

	patience(FOR_EVER);
	reading = read_begin(disk, m.addr + PAGES(1), PAGES(2));
	check(!read_done(reading));
	check_eq(fsync(m.fd), 0);
	check(read_done(reading));
	check(!mem_is_dirty(m.addr + PAGES(1)));
	check_eq(pins_stat(cg, "writeback_pinned"), 0);

	/* That is what has got to the disk. */
	check_eq(madvise(m.addr, LEN, MADV_DONTNEED), 0);
	check_eq(posix_fadvise(m.fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	check_disk(&m, 0, 1);
	check_disk(&m, PAGES(1), 0);
	check_disk(&m, PAGES(2), 0);
	check_disk(&m, PAGES(3), 1);
	file_forget(&m);
}

static void sync_waits(void)
{
	int disk = slow_disk(500 * MS);
	char *cg = file_cgroup("a");
	struct mem m = file_cached(cg);
	__kernel_ulong_t reading;

	patience(FOR_EVER);
	reading = read_begin(disk, m.addr + PAGES(1), PAGES(2));
	check(!read_done(reading));
	check_eq(syncfs(m.fd), 0);
	check(read_done(reading));
	check_eq(pins_stat(cg, "writeback_pinned"), 0);
	file_forget(&m);
}

static void fsync_gives_up(void)
{
	int disk = slow_disk(2000 * MS);
	char *cg = file_cgroup("a");
	struct mem m = file_cached(cg);
	__kernel_ulong_t reading;

	patience(50000);
	reading = read_begin(disk, m.addr + PAGES(1), PAGES(2));
	check_eq(fsync(m.fd), 0);
	check(!read_done(reading));
	check(!mem_is_dirty(m.addr + PAGES(1)));
	check_eq(pins_stat(cg, "writeback_pinned"), 2);
	read_end(reading, PAGES(2));
	file_forget(&m);
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
	int disk = slow_disk(4000 * MS);
	char *cg = file_cgroup("a");
	struct mem m = file_cached(cg);
	__kernel_ulong_t reading;
	pid_t pid;

	patience(FOR_EVER);
	reading = read_begin(disk, m.addr + PAGES(1), PAGES(2));
	pid = fork();
	if (!pid) {
		fsync(m.fd);
		_exit(0);
	}
	usleep(300000);
	check_eq(waitpid(pid, NULL, WNOHANG), 0);
	check_eq(kill(pid, SIGKILL), 0);
	check_eq(waitpid(pid, NULL, 0), pid);
	check(!read_done(reading));
	read_end(reading, PAGES(2));
	file_forget(&m);
}

/* A disk that takes more than 5 s says that it has timed out. */
static void read_end_anyhow(__kernel_ulong_t reading)
{
	while (!read_done(reading))
		usleep(10000);
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
	int disk = slow_disk(2000 * MS);
	char *cg = file_cgroup("a");
	struct mem m = file_cached(cg);
	__kernel_ulong_t reading;

	patience(0);
	reading = read_begin(disk, m.addr, PAGE_SIZE);
	flush(&m);
	check(!mem_is_dirty(m.addr));
	memset(m.addr, 2, LEN);
	check_eq(fsync(m.fd), 0);
	check(!read_done(reading));
	check_eq(pins_stat(cg, "writeback_pinned"), 2);
	read_end(reading, PAGE_SIZE);
	file_forget(&m);
}

/* Others count on it that all is under writeback. */
static void others_write_all(void)
{
	int disk = slow_disk(2000 * MS);
	char *cg = file_cgroup("a");
	struct mem m = file_cached(cg);
	__kernel_ulong_t reading;

	patience(FOR_EVER);
	reading = read_begin(disk, m.addr, PAGE_SIZE);
	check_eq(sync_file_range(m.fd, 0, LEN, SYNC_FILE_RANGE_WRITE), 0);
	check(!mem_is_dirty(m.addr));
	check(!read_done(reading));
	read_end(reading, PAGE_SIZE);
	file_forget(&m);
}

static void background_comes_back(void)
{
	int disk = slow_disk(10000 * MS), i;
	char *cg = file_cgroup("a");
	struct mem m = file_cached(cg);
	__kernel_ulong_t reading;

	patience(1);
	reading = read_begin(disk, m.addr + PAGES(1), PAGES(2));
	for (i = 0; i < 3; i++)
		flush(&m);
	check(!read_done(reading));
	for (i = 0; i < LEN / PAGE_SIZE; i++)
		check_eq(mem_is_dirty(m.addr + PAGES(i)), i == 1 || i == 2);
	check_eq(pins_stat(cg, "writeback_pinned"), 0);

	read_end_anyhow(reading);
	flush(&m);
	check(!mem_is_dirty(m.addr + PAGES(1)));
	check(!mem_is_dirty(m.addr + PAGES(2)));
	check_eq(pins_stat(cg, "writeback_pinned"), 0);
	file_forget(&m);
}

/* By itself, after a second; and after one or two more that, too */
static void not_for_ever(void)
{
	int disk = slow_disk(30000 * MS);
	char *cg = file_cgroup("a");
	__kernel_ulong_t reading;
	struct mem m;

	patience(1);
	check_eq(cg_write(VM, "dirty_expire_centisecs", "100"), 0);
	check_eq(cg_write(VM, "dirty_writeback_centisecs", "100"), 0);
	m = file_cached(cg);
	reading = read_begin(disk, m.addr, PAGE_SIZE);
	memset(m.addr, 2, LEN);
	while (mem_is_dirty(m.addr + PAGES(1)))
		usleep(10000);
	check(mem_is_dirty(m.addr));
	while (mem_is_dirty(m.addr))
		usleep(10000);
	check(!read_done(reading));
	check_eq(pins_stat(cg, "writeback_pinned"), 1);
	check_eq(cg_write(VM, "dirty_expire_centisecs", "3000"), 0);
	check_eq(cg_write(VM, "dirty_writeback_centisecs", "500"), 0);
	read_end_anyhow(reading);
	file_forget(&m);
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
