// SPDX-License-Identifier: GPL-2.0
/*
 * Short-term pins and CMA allocations wait for each other: vm.pins_drain_max_us,
 * vm.pins_wait_max_us.
 *
 * A page in a CMA area is the buffer of direct I/O from a slow disk. Meanwhile the area
 * is allocated. The tests check the order of events, not times.
 */
#define _GNU_SOURCE

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../kselftest_harness.h"
#include "vm_util.h"

#define CMA		"/sys/kernel/debug/cma"
#define NULLB		"/sys/kernel/config/nullb"
#define VM		"/proc/sys/vm"

/* Longer than anything takes that does not wait for it */
#define SLOW_NS		2000000000L
#define PATIENT_US	10000000L

/* One page for each reader */
#define READERS		8
#define READ_NS		50000000L

/* Of a test, in s */
#define TIMEOUT		300

#define CHUNK		(2UL << 20)
#define MAX_CHUNKS	4096

static long read_long(const char *dir, const char *file)
{
	char path[512], text[32] = "";
	int fd, ret;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return -errno;
	ret = read(fd, text, sizeof(text) - 1);
	close(fd);
	return ret < 0 ? -errno : atol(text);
}

static int write_long(const char *dir, const char *file, long value)
{
	char path[512], text[32];
	int fd, len, ret;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	fd = open(path, O_WRONLY);
	if (fd < 0)
		return -errno;
	len = snprintf(text, sizeof(text), "%ld", value);
	ret = write(fd, text, len) == len ? 0 : -errno;
	close(fd);
	return ret;
}

static int slow_disk(long ns)
{
	static const char dir[] = NULLB "/pins_wait";

	if (access(NULLB, F_OK))
		mount("none", "/sys/kernel/config", "configfs", 0, NULL);
	rmdir(dir);
	if (mkdir(dir, 0755) || write_long(dir, "size", 64) ||
	    write_long(dir, "irqmode", 2) || write_long(dir, "completion_nsec", ns) ||
	    write_long(dir, "power", 1))
		return -1;
	return open("/dev/pins_wait", O_RDONLY | O_DIRECT);
}

struct scene {
	char cma[300];
	unsigned long base_pfn;
	unsigned long count;
	unsigned long used;
	long drain_max;
	long wait_max;
	int pagemap;
	int disk;
	char *buf;
	pthread_t taker;
};

static bool in_cma(struct scene *scene, char *addr)
{
	/* While it is migrated it is not present, and this waits for the end. */
	__atomic_load_n(addr, __ATOMIC_RELAXED);
	return pagemap_get_pfn(scene->pagemap, addr) - scene->base_pfn < scene->count;
}

/* All pages of the buffer? */
static bool buffer_is_in_cma(struct scene *scene, char *buf)
{
	int i;

	for (i = 0; i < READERS; i++)
		if (!in_cma(scene, buf + i * getpagesize()))
			return false;
	return true;
}

static bool find_cma(struct scene *scene)
{
	struct dirent *entry;
	DIR *dir = opendir(CMA);
	bool found = false;

	while (dir && !found && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(scene->cma, sizeof(scene->cma), CMA "/%s", entry->d_name);
		scene->base_pfn = read_long(scene->cma, "base_pfn");
		scene->count = read_long(scene->cma, "count");
		scene->used = read_long(scene->cma, "used");
		/* All that is free has to be in one piece. */
		found = scene->count - scene->used ==
			(unsigned long)read_long(scene->cma, "maxchunk");
	}
	if (dir)
		closedir(dir);
	return found;
}

/* The kernel uses CMA when there is little other memory, so allocate that first. */
static char *buffer_in_cma(struct scene *scene)
{
	static char *chunks[MAX_CHUNKS];
	char *found = NULL;
	int nr = 0, i;

	while (!found && nr < MAX_CHUNKS) {
		unsigned long off;
		char *p;

		if (sysconf(_SC_AVPHYS_PAGES) < (64L << 20) / getpagesize())
			break;
		p = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			break;
		chunks[nr++] = p;
		/* Pages that move independently */
		madvise(p, CHUNK, MADV_NOHUGEPAGE);
		memset(p, 1, CHUNK);
		for (off = 0; off < CHUNK && !found; off += READERS * getpagesize())
			if (buffer_is_in_cma(scene, p + off))
				found = p + off;
	}
	for (i = 0; i < nr; i++)
		if (!found || found < chunks[i] || found >= chunks[i] + CHUNK)
			munmap(chunks[i], CHUNK);
	return found;
}

FIXTURE(pins_wait) {
	struct scene scene;
};

FIXTURE_SETUP(pins_wait)
{
	self->scene.disk = -1;
	self->scene.drain_max = read_long(VM, "pins_drain_max_us");
	self->scene.wait_max = read_long(VM, "pins_wait_max_us");
	if (self->scene.drain_max < 0 || self->scene.wait_max < 0)
		SKIP(return, "no CONFIG_PINS_WAIT");
	if (!find_cma(&self->scene))
		SKIP(return, "no free CMA area in " CMA);
	self->scene.pagemap = open("/proc/self/pagemap", O_RDONLY);
	ASSERT_GE(self->scene.pagemap, 0);
	self->scene.disk = slow_disk(SLOW_NS);
	if (self->scene.disk < 0)
		SKIP(return, "no null_blk in configfs");
	self->scene.buf = buffer_in_cma(&self->scene);
	if (!self->scene.buf)
		SKIP(return, "no memory in the CMA area could be allocated");
	ASSERT_EQ(write_long(VM, "pins_drain_max_us", PATIENT_US), 0);
	ASSERT_EQ(write_long(VM, "pins_wait_max_us", PATIENT_US), 0);
}

FIXTURE_TEARDOWN(pins_wait)
{
	if (self->scene.disk < 0)
		return;
	write_long(VM, "pins_drain_max_us", self->scene.drain_max);
	write_long(VM, "pins_wait_max_us", self->scene.wait_max);
	close(self->scene.disk);
	rmdir(NULLB "/pins_wait");
}

/* Allocate the area, and give it back. Returns 0 or an error. */
static long cma_alloc(struct scene *scene)
{
	long ret = write_long(scene->cma, "alloc", scene->count - scene->used);

	if (!ret)
		write_long(scene->cma, "free", scene->count - scene->used);
	return ret;
}

static void *taker(void *scene)
{
	return (void *)cma_alloc(scene);
}

/* A thread allocates the area, and has begun when this returns. */
static void cma_alloc_begin(struct scene *scene)
{
	pthread_create(&scene->taker, NULL, taker, scene);
	usleep(300000);
}

static long cma_alloc_end(struct scene *scene)
{
	void *ret;

	pthread_join(scene->taker, &ret);
	return (long)ret;
}

/* Start to read into the buffer. */
static aio_context_t read_begin(struct scene *scene)
{
	struct iocb cb = {
		.aio_lio_opcode = IOCB_CMD_PREAD,
		.aio_fildes = scene->disk,
		.aio_buf = (uintptr_t)scene->buf,
		.aio_nbytes = getpagesize(),
	}, *cbs = &cb;
	aio_context_t ctx = 0;

	if (syscall(SYS_io_setup, 1, &ctx) || syscall(SYS_io_submit, ctx, 1, &cbs) != 1)
		ksft_exit_fail_msg("cannot read: %s\n", strerror(errno));
	return ctx;
}

static bool read_done(aio_context_t ctx)
{
	struct timespec none = {};
	struct io_event event;

	return syscall(SYS_io_getevents, ctx, 1, 1, &event, &none) == 1;
}

TEST_F_TIMEOUT(pins_wait, allocation_waits_for_direct_io, TIMEOUT)
{
	aio_context_t ctx = read_begin(&self->scene);

	ASSERT_EQ(cma_alloc(&self->scene), 0);
	EXPECT_TRUE(read_done(ctx));
	EXPECT_FALSE(in_cma(&self->scene, self->scene.buf));
}

TEST_F_TIMEOUT(pins_wait, allocation_need_not_wait, TIMEOUT)
{
	aio_context_t ctx;

	ASSERT_EQ(write_long(VM, "pins_drain_max_us", 0), 0);
	ctx = read_begin(&self->scene);
	EXPECT_NE(cma_alloc(&self->scene), 0);
	EXPECT_FALSE(read_done(ctx));
}

TEST_F_TIMEOUT(pins_wait, direct_io_waits_for_allocation, TIMEOUT)
{
	aio_context_t first = read_begin(&self->scene);

	cma_alloc_begin(&self->scene);
	read_begin(&self->scene);
	EXPECT_TRUE(read_done(first));
	EXPECT_FALSE(in_cma(&self->scene, self->scene.buf));
	EXPECT_EQ(cma_alloc_end(&self->scene), 0);
}

TEST_F_TIMEOUT(pins_wait, direct_io_need_not_wait, TIMEOUT)
{
	aio_context_t first;

	ASSERT_EQ(write_long(VM, "pins_wait_max_us", 0), 0);
	first = read_begin(&self->scene);
	cma_alloc_begin(&self->scene);
	read_begin(&self->scene);
	EXPECT_FALSE(read_done(first));
	EXPECT_TRUE(in_cma(&self->scene, self->scene.buf));
	EXPECT_EQ(cma_alloc_end(&self->scene), 0);
}

/* Each thread reads into its page again and again. */
static bool stop;

struct reader {
	pthread_t thread;
	int disk;
	char *page;
};

static void *reader(void *data)
{
	struct reader *r = data;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		if (pread(r->disk, r->page, getpagesize(), 0) != getpagesize())
			return "failed";
	return NULL;
}

TEST_F_TIMEOUT(pins_wait, allocation_succeeds_by_default, TIMEOUT)
{
	struct reader readers[READERS];
	void *error;
	int i;

	close(self->scene.disk);
	self->scene.disk = slow_disk(READ_NS);
	ASSERT_GE(self->scene.disk, 0);
	ASSERT_EQ(write_long(VM, "pins_drain_max_us", self->scene.drain_max), 0);
	ASSERT_EQ(write_long(VM, "pins_wait_max_us", self->scene.wait_max), 0);
	for (i = 0; i < READERS; i++) {
		readers[i].disk = self->scene.disk;
		readers[i].page = self->scene.buf + i * getpagesize();
		ASSERT_EQ(pthread_create(&readers[i].thread, NULL, reader, &readers[i]), 0);
		usleep(READ_NS / 1000 / READERS);
	}
	EXPECT_EQ(cma_alloc(&self->scene), 0);
	for (i = 0; i < READERS; i++)
		EXPECT_FALSE(in_cma(&self->scene, readers[i].page));
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < READERS; i++) {
		pthread_join(readers[i].thread, &error);
		EXPECT_EQ(error, NULL);
	}
}

TEST_HARNESS_MAIN
