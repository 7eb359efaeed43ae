// SPDX-License-Identifier: GPL-2.0
/*
 * Pinned pages of files: who is refused them, and whose are written out while they are
 * pinned.
 *
 * Copyright (C) 2026 the pins authors
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "pins_util.h"

#define LEN		FILE_LEN

static const int sources[] = {
	SOURCE_URING, SOURCE_RDMA, SOURCE_IOMMUFD, SOURCE_XDP, SOURCE_GUP, SOURCE_GUP_FAST,
};

static const struct mem_kind to_read = { .name = "a file, to read", .how = HOW_READ_PIN };

/* The file system of the working directory has to be one that writes pages back. */
static struct mem shared_file(const struct mem_kind *kind)
{
	return file_map(file_new("."), kind, PROT_READ | PROT_WRITE, MAP_SHARED);
}

/* Each is refused it, and counted. */
static void refused(const char *what, const struct mem *m, const char *cg)
{
	long before = pins_stat(cg, "file_refused");
	struct pin p;
	int i;

	if (before < 0)
		skip("no file_refused");
	for (i = 0; i < ARRAY_SIZE(sources); i++) {
		const char *name = pin_sources[sources[i]].name;

		if (source_missing(sources[i])) {
			ksft_print_msg("no %s\n", name);
			continue;
		}
		ksft_print_msg("%s pins %s\n", name, what);
		check_eq(pin(&p, sources[i], m), -EFAULT);
		check_eq(pins_stat(cg, "file_refused"), ++before);
	}
	check_eq(pins_current(cg), 0);
	check_eq(pins_stat(cg, "file_write"), 0);
}

static void every_file_system(void)
{
	char *cg = enter_new("a");
	struct mem m;
	int fd;

	m = shared_file(&file_to_write);
	refused("the working directory", &m, cg);
	/* It does not matter whether it is there for the fast path. */
	memset(m.addr, 1, LEN);
	refused("it, touched", &m, cg);

	check_eq(mount("none", "/tmp", "ramfs", 0, NULL), 0);
	m = file_map(file_new("/tmp"), &file_to_write, PROT_READ | PROT_WRITE, MAP_SHARED);
	refused("ramfs", &m, cg);

	fd = open("/dev/ram1", O_RDWR);
	if (fd >= 0) {
		m = file_map(fd, &file_to_write, PROT_READ | PROT_WRITE, MAP_SHARED);
		refused("a block device", &m, cg);
	}
}

static void pinned(const struct mem *m, const char *cg, const char *stat)
{
	struct pin p;

	need_source(SOURCE_GUP);
	check_eq(pin(&p, SOURCE_GUP, m), 0);
	check_stat(cg, stat, LEN);
	check_eq(pins_stat(cg, "file_write"), 0);
	unpin(&p);
	check_reaches(cg, 0);
	check_eq(pins_stat(cg, "file_refused"), 0);
	munmap(m->addr, LEN);
}

static void what_is_allowed(void)
{
	char *cg = enter_new("a");
	struct mem m;
	struct pin p;

	if (pins_stat(cg, "file_refused") < 0)
		skip("no file_refused");
	m = shared_file(&to_read);
	pinned(&m, cg, "file");
	m = file_map(file_new("."), &file_to_write, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	pinned(&m, cg, "anon");
	m = mem_get(MEM_MEMFD, LEN);
	pinned(&m, cg, "shmem");

	/* Refused for another reason, with the same error */
	m = file_map(file_new("."), &file_to_write, PROT_READ, MAP_SHARED);
	check_eq(pin(&p, SOURCE_GUP, &m), -EFAULT);
	m = file_map(file_new("."), &to_read, PROT_NONE, MAP_SHARED);
	check_eq(pin(&p, SOURCE_GUP, &m), -EFAULT);
	munmap(m.addr, LEN);
	check_eq(pin(&p, SOURCE_GUP, &m), -EFAULT);
	check_eq(pins_stat(cg, "file_refused"), 0);
}

/* It is of no file, though it counts as file: a ring of packets, of the kernel's pages */
static void memory_of_a_driver(void)
{
	struct io_uring_params params = {};
	char *cg = enter_new("a");
	struct mem m = { .kind = &file_to_write, .len = PAGE_SIZE };
	struct ring r = ring_make(params);
	struct pin p;

	need_source(SOURCE_GUP);
	m.addr = (char *)r.sqes;
	if (pin(&p, SOURCE_GUP, &m))
		skip("its memory cannot be pinned");
	check(pins_stat(cg, "file") > 0);
	check_eq(pins_stat(cg, "file_write"), 0);
	unpin(&p);
	check_reaches(cg, 0);
	check_eq(pins_stat(cg, "file_refused"), 0);
}

static void with_descendants(void)
{
	char *parent = cg_make("a"), *cg = cg_make("a/b"), *other = cg_make("c");
	struct mem m = shared_file(&file_to_write);
	struct pin p;

	need_source(SOURCE_GUP);
	enter(cg);
	check_eq(pin(&p, SOURCE_GUP, &m), -EFAULT);
	check_eq(pins_stat(cg, "file_refused"), 1);
	check_eq(pins_stat(parent, "file_refused"), 1);
	check_eq(pins_stat(other, "file_refused"), 0);
	/* The root cgroup counts nothing. */
	enter_root();
	check_eq(pin(&p, SOURCE_GUP, &m), -EFAULT);
	check_eq(pins_stat(parent, "file_refused"), 1);
}

/* What a tracepoint has said first since trace_begin(), without its name */
static const char *traced(const char *name)
{
	static char line[512];
	char event[64], *found = NULL;
	FILE *f;

	snprintf(event, sizeof(event), "pins/%s", name);
	f = trace_end(event);
	snprintf(event, sizeof(event), "%s: ", name);
	while (!found && fgets(line, sizeof(line), f))
		found = strstr(line, event);
	fclose(f);
	return found ? found + strlen(event) : "";
}

static unsigned long long cgroup_ino(const char *cg)
{
	struct stat st;

	check_eq(stat(cg, &st), 0);
	return st.st_ino;
}

static void check_line(const char *line, const char *want)
{
	if (strncmp(line, want, strlen(want)))
		ksft_print_msg("traced is %s, not %s\n", line, want);
	check(!strncmp(line, want, strlen(want)));
}

static void refusal_names_the_file(void)
{
	char *cg = enter_new("a"), want[256];
	struct mem m = shared_file(&file_to_write);
	struct stat st;
	struct pin p;

	check_eq(fstat(m.fd, &st), 0);
	trace_begin("pins/pins_file_refused");
	check_eq(pin_part(&p, SOURCE_URING, &m, PAGES(3), PAGE_SIZE), -EFAULT);
	snprintf(want, sizeof(want), "cgroup=%llu dev=%u:%u ino=%llu offset=%lu\n",
		 cgroup_ino(cg), major(st.st_dev), minor(st.st_dev),
		 (unsigned long long)st.st_ino, PAGES(3));
	check_line(traced("pins_file_refused"), want);
}

/* Writeback */

static void write_out(const struct mem *m, int byte)
{
	memset(m->addr, byte, LEN);
	check_eq(fsync(m->fd), 0);
}

static void direct_io_into_a_file(void)
{
	char *cg = file_cgroup("a"), *other = cg_make("b"), want[256];
	int disk = slow_disk(2000 * MS);
	struct mem m = file_cached(cg);
	__kernel_ulong_t reading;
	struct stat st;

	write_out(&m, 2);
	check_eq(pins_stat(cg, "writeback_pinned"), 0);

	/* Whoever has pinned it, it is the cache of that cgroup. */
	enter(other);
	reading = read_begin(disk, m.addr + PAGES(1), PAGES(2));
	enter_root();
	trace_begin("pins/pins_file_writeback");
	write_out(&m, 3);
	check(!read_done(reading));
	check_eq(fstat(m.fd, &st), 0);
	snprintf(want, sizeof(want),
		 "cgroup=%llu pinner=0 dev=%u:%u ino=%llu offset=%lu pages=1 pins=1\n",
		 cgroup_ino(cg), major(st.st_dev), minor(st.st_dev),
		 (unsigned long long)st.st_ino, PAGES(1));
	check_line(traced("pins_file_writeback"), want);
	check_eq(pins_stat(cg, "writeback_pinned"), 2);
	check_eq(pins_stat(other, "writeback_pinned"), 0);

	read_end(reading, PAGES(2));
	write_out(&m, 4);
	check_eq(pins_stat(cg, "writeback_pinned"), 2);
	file_forget(&m);
}

/* To read; the kernel does not know what the others do. */
static void pinned_for_long(void)
{
	char *cg = file_cgroup("a"), *other = cg_make("b"), want[128];
	struct mem m = file_cached(cg);
	struct pin p;

	need_source(SOURCE_GUP);
	m.kind = &to_read;
	enter(other);
	check_eq(pin_part(&p, SOURCE_GUP, &m, PAGES(4), PAGE_SIZE), 0);
	enter_root();
	trace_begin("pins/pins_file_writeback");
	write_out(&m, 2);
	snprintf(want, sizeof(want), "cgroup=%llu pinner=%llu ", cgroup_ino(cg),
		 cgroup_ino(other));
	check_line(traced("pins_file_writeback"), want);
	check_eq(pins_stat(cg, "writeback_pinned"), 1);
	check_eq(pins_stat(other, "file"), PAGE_SIZE);
	check_eq(pins_stat(other, "file_write"), 0);
	unpin(&p);
	write_out(&m, 3);
	check_eq(pins_stat(cg, "writeback_pinned"), 1);
	file_forget(&m);
}

/* References of a page that is mapped so often look like pins. */
#define MAPPED	1200

static void mapped_very_often(void)
{
	char *cg = file_cgroup("a");
	struct mem m = file_cached(cg);
	char *at = mem_reserve(PAGES(MAPPED), PAGE_SIZE), *page;
	int i;

	for (i = 0; i < MAPPED; i++) {
		page = at + PAGES(i);
		check_eq((long)mmap(page, PAGE_SIZE, PROT_READ, MAP_SHARED | MAP_FIXED, m.fd, 0),
			 (long)page);
		check_eq(madvise(page, PAGE_SIZE, MADV_POPULATE_READ), 0);
	}
	write_out(&m, 2);
	check_eq(pins_stat(cg, "writeback_pinned"), 0);
	check_eq(munmap(at, PAGES(MAPPED)), 0);
	file_forget(&m);
}

/* Where there is no controller of pins, the nearest ancestor counts. */
static void counted_above(void)
{
	char *cg = file_cgroup("a"), below[PATH_MAX];
	int disk = slow_disk(2000 * MS);
	__kernel_ulong_t reading;
	struct mem m;

	check_eq(cg_write(cg, "cgroup.subtree_control", "+memory"), 0);
	snprintf(below, sizeof(below), "%s/b", cg);
	check_eq(cg_create(below), 0);
	check(!cg_has(below, "pins.stat"));
	m = file_cached(below);
	reading = read_begin(disk, m.addr, PAGE_SIZE);
	write_out(&m, 2);
	check(!read_done(reading));
	check_eq(pins_stat(cg, "writeback_pinned"), 1);
	read_end(reading, PAGE_SIZE);
	file_forget(&m);
}

static const struct pins_test tests[] = {
	{ "who may not pin a file to be written is counted", every_file_system },
	{ "who may, or may not for another reason, is not", what_is_allowed },
	{ "memory of a driver is of no file", memory_of_a_driver },
	{ "it counts for ancestors, and for nobody else", with_descendants },
	{ "a refusal names cgroup, file and offset", refusal_names_the_file },
	{ "what is written out while it is pinned counts for whose cache it is",
		direct_io_into_a_file },
	{ "who has it pinned for the long term is named", pinned_for_long },
	{ "a page that is mapped very often is not pinned", mapped_very_often },
	{ "where there is no controller of pins, an ancestor counts", counted_above },
};

int main(void)
{
	pins_run(tests, ARRAY_SIZE(tests));
}
