// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that is to be emptied, and direct I/O that is in the way.
 */
#define _GNU_SOURCE

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "pins_util.h"

#define CMA		"/sys/kernel/debug/cma"
#define MEMORY		"/sys/devices/system/memory"
#define NODE		"/sys/devices/system/node/node%d"
#define POOL		"/hugepages/hugepages-2048kB"
#define ENOUGH		(256L << 20)	/* free memory: of a node, besides the pool, */
#define SCARCE		(128L << 20)	/* and of all nodes, before the OOM killer comes */

/* A disk, and reads from it */

int null_disk(const struct null_setup *setup, int nr)
{
	static const char dir[] = "/sys/kernel/config/nullb/pins";
	int i, fd;

	if (access("/sys/kernel/config/nullb", F_OK))
		mount("none", "/sys/kernel/config", "configfs", 0, NULL);
	rmdir(dir);
	if (mkdir(dir, 0755))
		skip("no null_blk in configfs: %m");
	for (i = 0; i < nr; i++)
		check_eq(cg_write_numeric(dir, setup[i].file, setup[i].value), 0);
	check_eq(cg_write(dir, "power", "1"), 0);
	fd = open("/dev/pins", O_RDWR | O_DIRECT);
	check(fd >= 0);
	return fd;
}

int slow_disk(long ns)
{
	const struct null_setup setup[] = {
		{ "size", 64 }, { "irqmode", 2 }, { "hw_queue_depth", 512 },
		{ "completion_nsec", ns },
	};

	return null_disk(setup, ARRAY_SIZE(setup));
}

/* Starts to read; it is in flight when this returns. */
aio_context_t read_begin(int disk, void *addr, size_t len)
{
	struct iocb cb = {
		.aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = disk,
		.aio_buf = (uintptr_t)addr, .aio_nbytes = len,
	}, *cbs = &cb;
	aio_context_t ctx = 0;

	check_eq(syscall(SYS_io_setup, 1, &ctx), 0);
	check_eq(syscall(SYS_io_submit, ctx, 1, &cbs), 1);
	return ctx;
}

bool read_done(aio_context_t ctx)
{
	struct timespec none = {};
	struct io_event event;

	return syscall(SYS_io_getevents, ctx, 1, 1, &event, &none) == 1;
}

void read_end(aio_context_t ctx, size_t len)
{
	struct io_event event;
	int ret;

	/* A signal from a ring that is torn down may interrupt it. */
	do {
		ret = syscall(SYS_io_getevents, ctx, 1, 1, &event, NULL);
	} while (ret < 0 && errno == EINTR);
	check_eq(ret, 1);
	check_eq(event.res, len);
	check_eq(syscall(SYS_io_destroy, ctx), 0);
}

/* Memory that is to be emptied */

/* The free part of a CMA area: DMA pools may have allocated the beginning. */
struct range cma_range(void)
{
	struct range r = { .block = -1 };
	struct dirent *entry;
	DIR *dir = opendir(CMA);
	long used;

	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(r.dir, sizeof(r.dir), CMA "/%s", entry->d_name);
		r.pfn = cg_read_long(r.dir, "base_pfn");
		r.pages = cg_read_long(r.dir, "count");
		closedir(dir);
		/* An earlier test may have allocated it and failed */
		cg_write_numeric(r.dir, "free", r.pages);
		used = cg_read_long(r.dir, "used");
		r.pfn += used;
		r.pages -= used;
		if (r.pages != cg_read_long(r.dir, "maxchunk"))
			skip("the free memory of %s is in pieces", r.dir);
		return r;
	}
	skip("no CMA area in " CMA);
}

/* A memory block that can be emptied, in ZONE_MOVABLE from now on */
struct range movable_range(void)
{
	struct range r = {};
	char text[32];

	if (read_text(MEMORY "/block_size_bytes", text, sizeof(text)) <= 0)
		skip("no memory blocks");
	r.pages = strtoul(text, NULL, 16) / PAGE_SIZE;
	for (r.block = 256; r.block >= 0; r.block--) {
		snprintf(r.dir, sizeof(r.dir), MEMORY "/memory%d", r.block);
		if (access(r.dir, F_OK) || cg_write(r.dir, "state", "offline"))
			continue;
		check_eq(cg_write(r.dir, "state", "online_movable"), 0);
		r.pfn = r.pages * r.block;
		return r;
	}
	skip("no memory block can be taken offline");
}

/* A memory block that can be emptied, and where long-term pins may be */
struct range kernel_range(void)
{
	struct sysinfo info;
	struct range r;

	if (sysinfo(&info) || info.totalram * info.mem_unit > 4 * SZ_1G)
		skip("with so much memory, the kernel's own comes to lie in the block");
	r = movable_range();
	check_eq(cg_write(r.dir, "state", "offline"), 0);
	check_eq(cg_write(r.dir, "state", "online_kernel"), 0);
	r.last = true;
	return r;
}

unsigned long pfn_of(const void *addr)
{
	static int fd = -1;
	static pid_t self;
	__u64 entry = 0;

	/* An open pagemap file belongs to the process that opened it. */
	if (self != getpid()) {
		self = getpid();
		fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	}
	/* During migration it is not present; touching it waits for the end. */
	do {
		__atomic_load_n((const char *)addr, __ATOMIC_RELAXED);
		check_eq(pread(fd, &entry, sizeof(entry),
			       (uintptr_t)addr / PAGE_SIZE * sizeof(entry)),
			 sizeof(entry));
	} while (!(entry & (1ULL << 63)));
	return entry & ((1ULL << 55) - 1);
}

bool in_range(const struct range *r, const char *addr, size_t len)
{
	size_t off;

	for (off = 0; off < len; off += PAGE_SIZE)
		if (pfn_of(addr + off) - r->pfn >= r->pages)
			return false;
	return true;
}

#define MOST	4096

/* Not each page: that would take minutes on a debug kernel. */
#define STRIDE	(64UL << 10)

/*
 * Most of the free memory goes to the pool of huge pages, where nobody clears it: what
 * lies in a range is tried sooner. Until empty_pool().
 */
#define MAX_NODES	8

static long pool[MAX_NODES];

void fill_pool(void)
{
	long cma = cg_read_key_long("/proc", "meminfo", "CmaFree:"), left;
	char dir[PATH_MAX];
	int i;

	for (i = 0; i < MAX_NODES; i++) {
		snprintf(dir, sizeof(dir), NODE, i);
		left = cg_read_key_long(dir, "meminfo", "MemFree:") - cma - ENOUGH / 1024;
		snprintf(dir, sizeof(dir), NODE POOL, i);
		pool[i] = cg_read_long(dir, "nr_hugepages");
		if (pool[i] >= 0 && left > 0)
			cg_write_numeric(dir, "nr_hugepages", pool[i] + left / (SZ_2M / 1024));
	}
}

void empty_pool(void)
{
	char dir[PATH_MAX];
	int i;

	for (i = 0; i < MAX_NODES; i++) {
		snprintf(dir, sizeof(dir), NODE POOL, i);
		if (pool[i] >= 0)
			cg_write_numeric(dir, "nr_hugepages", pool[i]);
	}
}

static char *try_memory(const struct range *r, bool inside, size_t len, int flags)
{
	static char *tried[MOST];
	size_t chunk = len < SZ_2M ? SZ_2M : len, off;
	char *found = NULL;
	int nr = 0, i;

	while (!found && nr < MOST) {
		struct sysinfo info;
		char *p;

		check(!sysinfo(&info));
		if (info.freeram * info.mem_unit < SCARCE)
			break;
		p = mmap(mem_reserve(chunk, SZ_2M), chunk, PROT_READ | PROT_WRITE,
			 flags | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		check(p != MAP_FAILED);
		tried[nr++] = p;
		if (madvise(p, chunk, MADV_POPULATE_WRITE))
			break;
		for (off = 0; off + len <= chunk && !found; off += STRIDE) {
			if (inside ? in_range(r, p + off, len) :
				     pfn_of(p + off) - r->pfn >= r->pages)
				found = p + off;
		}
	}
	for (i = 0; i < nr; i++)
		if (!found || tried[i] > found || found >= tried[i] + chunk)
			munmap(tried[i], chunk);
	return found;
}

/*
 * Memory that lies in the range, or does not. Shared, so that a child has the
 * same pages, unless it is to be anonymous.
 */
char *memory_of(const struct range *r, bool inside, size_t len, int flags)
{
	char *found = NULL;

	if (r->last) {
		fill_pool();
		found = try_memory(r, inside, len, flags);
		empty_pool();
	}
	/* All that lies there may have gone to the pool. */
	if (!found)
		found = try_memory(r, inside, len, flags);
	if (!found)
		skip("no memory could be allocated there");
	return found;
}

/* Empties it. Returns 0 or an errno. */
int take(const struct range *r)
{
	int ret;

	if (r->block >= 0)
		ret = cg_write(r->dir, "state", "offline");
	else
		ret = cg_write_numeric(r->dir, "alloc", r->pages);
	return ret ? errno : 0;
}

void give_back(const struct range *r)
{
	if (r->block >= 0)
		check_eq(cg_write(r->dir, "state", "online_movable"), 0);
	else
		check_eq(cg_write_numeric(r->dir, "free", r->pages), 0);
}
