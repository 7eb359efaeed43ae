// SPDX-License-Identifier: GPL-2.0
/*
 * Short-term pins and CMA allocations wait for each other: vm.pins_drain_max_us,
 * vm.pins_wait_max_us.
 *
 * A page in a CMA area is the buffer of direct I/O from a slow disk. Meanwhile the area
 * is allocated. Has one waited for the other? The tests see that by what has ended before
 * what: no time is measured. But a read takes 2 s, and all else has to be faster; and an
 * allocation has 0.3 s to begin in: nothing tells that it has.
 */
#define _GNU_SOURCE

#include <dirent.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <pthread.h>
#include <sched.h>
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
#define CONFIGFS	"/sys/kernel/config"
#define NULLB		CONFIGFS "/nullb"
#define DISK		NULLB "/pins_wait"
#define VM		"/proc/sys/vm"

/* Longer than anything takes that does not wait for it */
#define SLOW_NS		2000000000L
#define PATIENT_US	10000000L

/* One page for each reader */
#define READERS		8
#define READ_NS		50000000L

/* Of a test, in s */
#define TIMEOUT		300

/* Memory that has to stay available */
#define SPARE_KB	(64L << 10)

/* How main() has found the machine */
static long drain_max, wait_max;
static struct area {
	char dir[300];
	unsigned long base_pfn;
	long count;
	long used;
} area;

static int open_in(const char *dir, const char *file, int flags)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	return open(path, flags);
}

static long read_long(const char *dir, const char *file)
{
	int fd = open_in(dir, file, O_RDONLY), len;
	char text[32] = "";

	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	return len < 0 ? -1 : atol(text);
}

static int write_long(const char *dir, const char *file, long value)
{
	int fd = open_in(dir, file, O_WRONLY), len;

	len = dprintf(fd, "%ld", value);
	close(fd);
	return len < 0 ? -1 : 0;
}

static int slow_disk(long ns)
{
	rmdir(DISK);
	if (mkdir(DISK, 0755) || write_long(DISK, "size", 64) ||
	    write_long(DISK, "irqmode", 2) || write_long(DISK, "completion_nsec", ns) ||
	    write_long(DISK, "power", 1))
		return -1;
	return open("/dev/pins_wait", O_RDONLY | O_DIRECT);
}

/* Whatever a test has come to */
static void put_back(void)
{
	write_long(VM, "pins_drain_max_us", drain_max);
	write_long(VM, "pins_wait_max_us", wait_max);
	rmdir(DISK);
	/* It was killed between the two lines of cma_alloc(). */
	if (area.count && read_long(area.dir, "used") > area.used)
		write_long(area.dir, "free", area.count - area.used);
}

/* The area with the most free memory, which has to be in one piece */
static void find_cma(void)
{
	struct dirent *entry;
	DIR *dir = opendir(CMA);
	struct area a;

	while (dir && (entry = readdir(dir))) {
		snprintf(a.dir, sizeof(a.dir), CMA "/%s", entry->d_name);
		a.base_pfn = read_long(a.dir, "base_pfn");
		a.count = read_long(a.dir, "count");
		a.used = read_long(a.dir, "used");
		if (entry->d_name[0] != '.' && a.count - a.used >= READERS &&
		    a.count - a.used == read_long(a.dir, "maxchunk") &&
		    a.count - a.used > area.count - area.used)
			area = a;
	}
	if (dir)
		closedir(dir);
}

static bool in_cma(int pagemap, char *addr)
{
	/* While it is migrated it is not present, and this waits for the end. */
	__atomic_load_n(addr, __ATOMIC_RELAXED);
	return pagemap_get_pfn(pagemap, addr) - area.base_pfn < (unsigned long)area.count;
}

/* How many pages of the buffer are? */
static int pages_in_cma(int pagemap, char *buf)
{
	int i, nr = 0;

	for (i = 0; i < READERS; i++)
		nr += in_cma(pagemap, buf + i * getpagesize());
	return nr;
}

static long available_kb(void)
{
	FILE *file = fopen("/proc/meminfo", "r");
	char line[128];
	long kb = 0;

	while (file && !kb && fgets(line, sizeof(line), file))
		sscanf(line, "MemAvailable: %ld", &kb);
	if (file)
		fclose(file);
	return kb;
}

/* The kernel uses CMA when there is little other memory, so allocate that first. */
static char *buffer_in_cma(int pagemap)
{
	size_t size = READERS * getpagesize(), len = (available_kb() - SPARE_KB) << 10;
	char *all, *p, *end;

	/* If that is too much after all */
	write_long("/proc/self", "oom_score_adj", 1000);
	all = mmap(NULL, len, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (all == MAP_FAILED)
		return NULL;
	end = all + len;
	/* Pages that move independently */
	madvise(all, len, MADV_NOHUGEPAGE);
	for (p = all; p + size <= end; p += size) {
		memset(p, 1, size);
		if (pages_in_cma(pagemap, p) == READERS) {
			munmap(all, p - all);
			munmap(p + size, end - p - size);
			return p;
		}
	}
	munmap(all, len);
	return NULL;
}

FIXTURE(pins_wait) {
	int pagemap;
	int disk;
	char *buf;
};

/* If this fails, there is no teardown: the next one puts back, and main() at the end. */
FIXTURE_SETUP(pins_wait)
{
	if (drain_max < 0 || wait_max < 0)
		SKIP(return, "no CONFIG_PINS_WAIT");
	put_back();
	if (!area.count)
		SKIP(return, "no free CMA area in " CMA);
	if (access(NULLB, F_OK))
		SKIP(return, "no null_blk in configfs");
	self->pagemap = open("/proc/self/pagemap", O_RDONLY);
	ASSERT_GE(self->pagemap, 0);
	self->buf = buffer_in_cma(self->pagemap);
	if (!self->buf)
		SKIP(return, "no memory in the CMA area could be allocated");
	ASSERT_EQ(write_long(VM, "pins_drain_max_us", PATIENT_US), 0);
	ASSERT_EQ(write_long(VM, "pins_wait_max_us", PATIENT_US), 0);
	self->disk = slow_disk(SLOW_NS);
	ASSERT_GE(self->disk, 0);
}

/* In the parent, after the child's I/O has ended */
FIXTURE_TEARDOWN_PARENT(pins_wait)
{
	put_back();
}

/* Allocate the area, and give it back. Returns NULL or what has failed. */
static void *cma_alloc(void *unused)
{
	if (write_long(area.dir, "alloc", area.count - area.used))
		return "alloc";
	return write_long(area.dir, "free", area.count - area.used) ? "free" : NULL;
}

/* Start to allocate the area in a thread. Returns 0 or an error. */
static int cma_alloc_begin(pthread_t *thread)
{
	int ret = pthread_create(thread, NULL, cma_alloc, NULL);

	usleep(300000);
	return ret;
}

static void *end_of(pthread_t thread)
{
	void *ret;

	pthread_join(thread, &ret);
	return ret;
}

/* Start to read. Returns 0 if that fails. */
static aio_context_t read_begin(int disk, char *buf)
{
	struct iocb cb = {
		.aio_lio_opcode = IOCB_CMD_PREAD,
		.aio_fildes = disk,
		.aio_buf = (uintptr_t)buf,
		.aio_nbytes = getpagesize(),
	}, *cbs = &cb;
	aio_context_t ctx = 0;

	if (syscall(SYS_io_setup, 1, &ctx) || syscall(SYS_io_submit, ctx, 1, &cbs) != 1)
		return 0;
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
	aio_context_t ctx = read_begin(self->disk, self->buf);

	ASSERT_NE(ctx, 0);
	EXPECT_EQ(cma_alloc(NULL), NULL);
	EXPECT_TRUE(read_done(ctx));
	EXPECT_FALSE(in_cma(self->pagemap, self->buf));
}

TEST_F_TIMEOUT(pins_wait, allocation_need_not_wait, TIMEOUT)
{
	aio_context_t ctx;

	ASSERT_EQ(write_long(VM, "pins_drain_max_us", 0), 0);
	ctx = read_begin(self->disk, self->buf);
	ASSERT_NE(ctx, 0);
	EXPECT_NE(cma_alloc(NULL), NULL);
	EXPECT_FALSE(read_done(ctx));
}

TEST_F_TIMEOUT(pins_wait, direct_io_waits_for_allocation, TIMEOUT)
{
	aio_context_t first = read_begin(self->disk, self->buf);
	pthread_t thread;

	ASSERT_NE(first, 0);
	ASSERT_EQ(cma_alloc_begin(&thread), 0);
	EXPECT_NE(read_begin(self->disk, self->buf), 0);
	EXPECT_TRUE(read_done(first));
	EXPECT_FALSE(in_cma(self->pagemap, self->buf));
	EXPECT_EQ(end_of(thread), NULL);
}

TEST_F_TIMEOUT(pins_wait, direct_io_need_not_wait, TIMEOUT)
{
	aio_context_t first;
	pthread_t thread;

	ASSERT_EQ(write_long(VM, "pins_wait_max_us", 0), 0);
	first = read_begin(self->disk, self->buf);
	ASSERT_NE(first, 0);
	ASSERT_EQ(cma_alloc_begin(&thread), 0);
	EXPECT_NE(read_begin(self->disk, self->buf), 0);
	EXPECT_FALSE(read_done(first));
	EXPECT_TRUE(in_cma(self->pagemap, self->buf));
	EXPECT_EQ(end_of(thread), NULL);
}

/* Each thread reads into its page again and again. */
static int reader_disk;
static bool stop;

static void *reader(void *page)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		if (pread(reader_disk, page, getpagesize(), 0) != getpagesize())
			return "failed";
	return NULL;
}

TEST_F_TIMEOUT(pins_wait, allocation_succeeds_by_default, TIMEOUT)
{
	pthread_t readers[READERS];
	int i;

	close(self->disk);
	reader_disk = slow_disk(READ_NS);
	ASSERT_GE(reader_disk, 0);
	ASSERT_EQ(write_long(VM, "pins_drain_max_us", drain_max), 0);
	ASSERT_EQ(write_long(VM, "pins_wait_max_us", wait_max), 0);
	for (i = 0; i < READERS; i++) {
		ASSERT_EQ(pthread_create(&readers[i], NULL, reader,
					 self->buf + i * getpagesize()), 0);
		usleep(READ_NS / 1000 / READERS);
	}
	EXPECT_EQ(cma_alloc(NULL), NULL);
	EXPECT_EQ(pages_in_cma(self->pagemap, self->buf), 0);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < READERS; i++)
		EXPECT_EQ(end_of(readers[i]), NULL);
}

int main(int argc, char **argv)
{
	drain_max = read_long(VM, "pins_drain_max_us");
	wait_max = read_long(VM, "pins_wait_max_us");
	if (drain_max >= 0 && wait_max >= 0) {
		find_cma();
		/* A mount of our own, which is gone when we are */
		if (access(NULLB, F_OK) && !unshare(CLONE_NEWNS) &&
		    !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
			mount("none", CONFIGFS, "configfs", 0, NULL);
		atexit(put_back);
	}
	return test_harness_run(argc, argv);
}
