// SPDX-License-Identifier: GPL-2.0
/*
 * Memory of every kind for the tests of the pins controller, and the sizes
 * of its folios, from /proc/kpageflags.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <linux/kernel-page-flags.h>
#include <linux/memfd.h>
#include <linux/mempolicy.h>
#include <linux/types.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pins_util.h"

#define ANON		(MAP_PRIVATE | MAP_ANONYMOUS)
#define HUGETLB_2M	(21 << MFD_HUGE_SHIFT)
#define HUGETLB_1G	(30 << MFD_HUGE_SHIFT)
#define MAX_ORDER	18	/* that of 1 GB in pages */

const struct mem_kind mem_kinds[NR_MEM_KINDS] = {
	[MEM_ANON] = {
		.name = "anon", .stat = "anon", .len = SZ_64K,
		.map_flags = ANON,
	},
	[MEM_UNTOUCHED] = {
		.name = "anon that nobody has touched",
		.stat = "anon", .len = SZ_64K, .map_flags = ANON,
		.how = HOW_NO_TOUCH,
	},
	[MEM_ZERO_READ] = {
		.name = "the zero page, to read",
		.stat = "anon", .len = SZ_64K, .map_flags = ANON,
		.how = HOW_READ_TOUCH | HOW_READ_PIN,
	},
	[MEM_ZERO] = {
		.name = "the zero page, to write",
		.stat = "anon", .len = SZ_64K, .map_flags = ANON,
		.how = HOW_READ_TOUCH,
	},
	[MEM_NODE1] = {
		.name = "anon on another NUMA node",
		.stat = "anon", .len = SZ_64K, .map_flags = ANON,
		.how = HOW_NODE1,
	},
	[MEM_THP] = {
		.name = "anon THP",
		.stat = "anon", .folio = SZ_2M, .len = 2 * SZ_2M,
		.map_flags = ANON, .advice = MADV_HUGEPAGE,
	},
	[MEM_THP_PTES] = {
		.name = "anon THP mapped by PTEs",
		.stat = "anon", .folio = SZ_2M, .len = 2 * SZ_2M,
		.map_flags = ANON, .advice = MADV_HUGEPAGE,
		.how = HOW_SPLIT_PMD,
	},
	[MEM_THP_HOLES] = {
		.name = "anon THP with small pages in it",
		.stat = "anon", .folio = SZ_2M, .len = 2 * SZ_2M,
		.map_flags = ANON, .advice = MADV_HUGEPAGE,
		.how = HOW_REPLACED,
	},
	[MEM_MTHP] = {
		.name = "anon mTHP of 64 kB",
		.stat = "anon", .folio = SZ_64K, .len = 4 * SZ_64K,
		.map_flags = ANON, .advice = MADV_HUGEPAGE,
	},
	[MEM_HUGETLB] = {
		.name = "private hugetlb of 2 MB",
		.stat = "hugetlb", .folio = SZ_2M, .len = 2 * SZ_2M,
		.map_flags = ANON | MAP_HUGETLB | HUGETLB_2M,
	},
	[MEM_HUGETLB_FD] = {
		.name = "shared hugetlb of 2 MB",
		.stat = "hugetlb", .folio = SZ_2M, .len = 2 * SZ_2M,
		.map_flags = MAP_SHARED, .how = HOW_MEMFD,
		.memfd_flags = MFD_HUGETLB | HUGETLB_2M,
	},
	[MEM_GIGANTIC] = {
		.name = "a piece of hugetlb of 1 GB",
		.stat = "hugetlb", .folio = SZ_1G, .len = SZ_1G,
		.pin = SZ_64K, .map_flags = MAP_SHARED, .how = HOW_MEMFD,
		.memfd_flags = MFD_HUGETLB | HUGETLB_1G,
	},
	[MEM_SHMEM] = {
		.name = "shared anon memory",
		.stat = "shmem", .len = SZ_64K,
		.map_flags = MAP_SHARED | MAP_ANONYMOUS,
	},
	[MEM_MEMFD] = {
		.name = "memfd", .stat = "shmem", .len = SZ_64K,
		.map_flags = MAP_SHARED, .how = HOW_MEMFD,
	},
	[MEM_MEMFD_MTHP] = {
		.name = "memfd of 64 kB folios",
		.stat = "shmem", .folio = SZ_64K, .len = 4 * SZ_64K,
		.map_flags = MAP_SHARED, .how = HOW_MEMFD,
		.advice = MADV_HUGEPAGE,
	},
	[MEM_MEMFD_THP] = {
		.name = "memfd of THP",
		.stat = "shmem", .folio = SZ_2M, .len = 2 * SZ_2M,
		.map_flags = MAP_SHARED, .how = HOW_MEMFD,
		.advice = MADV_HUGEPAGE,
	},
	[MEM_TMPFS] = {
		.name = "a tmpfs file", .stat = "shmem", .len = SZ_64K,
		.map_flags = MAP_SHARED, .fs = "tmpfs",
	},
	[MEM_TMPFS_HUGE] = {
		.name = "a tmpfs file of huge=always",
		.stat = "shmem", .folio = SZ_2M, .len = 2 * SZ_2M,
		.map_flags = MAP_SHARED,
		.fs = "tmpfs", .fs_data = "huge=always",
	},
	[MEM_TMPFS_PRIVATE] = {
		.name = "a private mapping of a tmpfs file",
		.stat = "anon", .len = SZ_64K, .map_flags = MAP_PRIVATE,
		.fs = "tmpfs", .how = HOW_NO_TOUCH,
	},
	[MEM_EXT4] = {
		.name = "an ext4 file, to read", .stat = "file", .len = SZ_64K,
		.map_flags = MAP_SHARED, .fs = "ext4", .path = "/dev/ram0",
		.how = HOW_READ_MAP | HOW_READ_PIN,
	},
	[MEM_EXT4_PRIVATE] = {
		.name = "a private mapping of an ext4 file",
		.stat = "anon", .len = SZ_64K, .map_flags = MAP_PRIVATE,
		.fs = "ext4", .path = "/dev/ram0", .how = HOW_READ_TOUCH,
	},
	[MEM_BDEV] = {
		.name = "a block device, to read",
		.stat = "file", .len = SZ_64K, .map_flags = MAP_SHARED,
		.path = "/dev/ram1", .how = HOW_READ_MAP | HOW_READ_PIN,
	},
	[MEM_DAX] = {
		.name = "device DAX",
		.stat = "device", .folio = SZ_2M, .len = 2 * SZ_2M,
		.map_flags = MAP_SHARED, .path = "/dev/dax0.0",
		.how = HOW_DAX,
	},
};

static __u64 table_entry(int fd, unsigned long index)
{
	__u64 entry;

	if (pread(fd, &entry, sizeof(entry), index * sizeof(entry)) ==
	    sizeof(entry))
		return entry;
	return 0;
}

static bool page_is(unsigned long pfn, int flag)
{
	static int fd = -1;

	if (fd < 0)
		fd = open("/proc/kpageflags", O_RDONLY);
	check(fd >= 0);
	return table_entry(fd, pfn) & (1ULL << flag);
}

/* A folio, as the numbers of its first page and of the one after its last */
struct span {
	unsigned long head, end;
};

/* Folios are aligned to their size, so few pages can be their first or last. */
static struct span folio_span(unsigned long pfn)
{
	struct span folio = { .head = pfn };
	int order = 0;

	/* kpageflags does not know the pages of devices */
	if (page_is(pfn, KPF_NOPAGE)) {
		folio.head &= ~(SZ_2M / PAGE_SIZE - 1);
		folio.end = folio.head + SZ_2M / PAGE_SIZE;
		return folio;
	}

	while (page_is(folio.head, KPF_COMPOUND_TAIL))
		folio.head &= ~((1UL << ++order) - 1);
	for (order = 0; order < MAX_ORDER; order++)
		if (!page_is(folio.head + (1UL << order), KPF_COMPOUND_TAIL))
			break;
	folio.end = folio.head + (1UL << order);
	return folio;
}

static int compare_span(const void *a, const void *b)
{
	const struct span *x = a, *y = b;

	return x->head < y->head ? -1 : x->head > y->head;
}

/* The size of all folios that have a page in that range, each once. */
static size_t sum_folios(const char *addr, size_t len)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	struct span *folios = calloc(len / PAGE_SIZE, sizeof(*folios));
	struct span last = {};
	size_t nr = 0, i, off, sum = 0;
	__u64 pfn;

	check(fd >= 0 && folios);
	for (off = 0; off < len; off += PAGE_SIZE) {
		pfn = table_entry(fd, ((uintptr_t)addr + off) / PAGE_SIZE);
		check(pfn & (1ULL << 63));	/* present */
		pfn &= (1ULL << 55) - 1;
		if (pfn >= last.head && pfn < last.end)
			continue;
		last = folio_span(pfn);
		folios[nr++] = last;
	}
	qsort(folios, nr, sizeof(*folios), compare_span);
	for (i = 0; i < nr; i++)
		if (!i || folios[i].head != folios[i - 1].head)
			sum += (folios[i].end - folios[i].head) * PAGE_SIZE;
	free(folios);
	close(fd);
	return sum;
}

size_t mem_folios(const struct mem *m, size_t off, size_t len)
{
	return sum_folios(m->addr + off, len);
}

/* The size of the folio at that address. */
size_t mem_folio(const void *addr)
{
	return sum_folios(addr, PAGE_SIZE);
}

/* Has it to be written out? */
bool mem_is_dirty(const void *addr)
{
	return page_is(pfn_of(addr), KPF_DIRTY);
}

/* Reserves address space. */
void *mem_reserve(size_t len, size_t align)
{
	char *addr = mmap(NULL, len + align, PROT_NONE, ANON | MAP_NORESERVE,
			  -1, 0);

	check(addr != MAP_FAILED);
	return (void *)(((uintptr_t)addr + align - 1) & ~(align - 1));
}

static int open_memfd(const struct mem_kind *kind, size_t len)
{
	int fd = memfd_create("pins", MFD_ALLOW_SEALING | kind->memfd_flags);

	if (fd < 0)
		skip("no memfd of that kind: %s", strerror(errno));
	check(!ftruncate(fd, len));
	/* udmabuf needs this seal */
	check(!fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
	return fd;
}

/* A new file on a mount over /tmp, which only this process sees. */
static int open_file(const struct mem_kind *kind, size_t len)
{
	const char *dev = kind->path ?: "none";
	static const char page[PAGE_SIZE];
	char command[128];
	size_t off;
	int fd;

	if (kind->path) {
		snprintf(command, sizeof(command),
			 "mkfs.%s -q -F -O ^has_journal %s >/dev/null 2>&1",
			 kind->fs, dev);
		if (system(command))
			skip("no mkfs.%s for %s", kind->fs, dev);
	}
	if (mount(dev, "/tmp", kind->fs, 0, kind->fs_data))
		skip("no mount of %s: %s", kind->fs, strerror(errno));
	fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
	check(fd >= 0);
	/* A write makes folios no larger than itself. */
	for (off = 0; !kind->folio && off < len; off += PAGE_SIZE)
		check(write(fd, page, PAGE_SIZE) == PAGE_SIZE);
	check(!ftruncate(fd, len));
	return fd;
}

/* Makes device DAX of persistent memory, as of memmap= on the command line. */
static void make_dax(void)
{
	static const char bus[] = "/sys/bus/nd";
	static const char dax[] = "/sys/bus/nd/devices/dax0.0";
	char uuid[64];

	if (cg_read("/proc/sys/kernel/random", "uuid", uuid, sizeof(uuid)) ||
	    cg_write(bus, "drivers/nd_pmem/unbind", "namespace0.0"))
		return;
	cg_write(dax, "mode", "ram");
	cg_write(dax, "uuid", uuid);
	cg_write(dax, "namespace", "namespace0.0");
	cg_write(bus, "drivers/dax_pmem/bind", "dax0.0");
}

static int open_device(const struct mem_kind *kind)
{
	int fd;

	if (kind->how & HOW_DAX && access(kind->path, F_OK))
		make_dax();
	fd = open(kind->path, kind->how & HOW_READ_MAP ? O_RDONLY : O_RDWR);
	if (fd < 0)
		skip("no %s", kind->path);
	return fd;
}

static void bind_to_node1(struct mem *m)
{
	unsigned long node1 = 2;

	if (access("/sys/devices/system/node/node1", F_OK))
		skip("only one NUMA node");
	check(!syscall(SYS_mbind, m->addr, m->len, MPOL_BIND, &node1, 8, 0));
}

/* A new buffer. Skips the test if the machine has no such memory. */
struct mem mem_get(int nr, size_t len)
{
	const struct mem_kind *kind = &mem_kinds[nr];
	struct mem m = { .kind = kind, .len = len ?: kind->len, .fd = -1 };
	int prot = PROT_READ | (kind->how & HOW_READ_MAP ? 0 : PROT_WRITE);
	int populate;
	size_t off;

	if (kind->advice == MADV_HUGEPAGE)
		need_thp();
	if (kind->how & HOW_MEMFD)
		m.fd = open_memfd(kind, m.len);
	else if (kind->fs)
		m.fd = open_file(kind, m.len);
	else if (kind->path)
		m.fd = open_device(kind);

	m.addr = mmap(mem_reserve(m.len, kind->folio ?: PAGE_SIZE), m.len,
		      prot, kind->map_flags | MAP_FIXED, m.fd, 0);
	if (m.addr == MAP_FAILED)
		skip("no %s: %s", kind->name, strerror(errno));
	if (kind->advice)
		check(!madvise(m.addr, m.len, kind->advice));
	if (kind->how & HOW_NODE1)
		bind_to_node1(&m);
	if (kind->how & HOW_NO_TOUCH)
		return m;

	populate = kind->how & (HOW_READ_MAP | HOW_READ_TOUCH) ?
		   MADV_POPULATE_READ : MADV_POPULATE_WRITE;
	check(!madvise(m.addr, m.len, populate));
	if (kind->folio && mem_folio(m.addr) != kind->folio)
		madvise(m.addr, m.len, MADV_COLLAPSE);
	for (off = 0; kind->folio && off < m.len; off += kind->folio)
		if (mem_folio(m.addr + off) != kind->folio)
			skip("no folios of %zu kB", kind->folio >> 10);
	/* Changing the protection of one page splits the PMD */
	for (off = 0; kind->how & HOW_SPLIT_PMD && off < m.len; off += SZ_2M)
		check(!mprotect(m.addr + off, PAGE_SIZE, PROT_READ) &&
		      !mprotect(m.addr + off, PAGE_SIZE, prot));
	for (off = 0; kind->how & HOW_REPLACED && off < m.len; off += SZ_64K) {
		check(!madvise(m.addr + off, PAGE_SIZE, MADV_DONTNEED));
		m.addr[off] = 1;
	}
	return m;
}

/* Files of a file system that writes back */

const struct mem_kind file_to_write = { .name = "a file, to write" };

struct mem file_map(int fd, const struct mem_kind *kind, int prot, int flags)
{
	struct mem m = { .kind = kind, .len = FILE_LEN, .fd = fd };
	char *at;

	at = mmap(NULL, FILE_LEN, prot, flags, fd, 0);
	check(at != MAP_FAILED);
	m.addr = at;
	return m;
}

/* A new file in a directory, whose pages are small */
int file_new(const char *dir)
{
	static const char page[PAGE_SIZE];
	int fd = open(dir, O_TMPFILE | O_RDWR, 0600);
	size_t off;

	if (fd < 0) {
		char path[PATH_MAX];

		snprintf(path, sizeof(path), "%s/pins", dir);
		fd = open(path, O_CREAT | O_RDWR, 0600);
	}
	check(fd >= 0);
	for (off = 0; off < FILE_LEN; off += PAGE_SIZE)
		check_eq(write(fd, page, PAGE_SIZE), PAGE_SIZE);
	return fd;
}

/* A cgroup that is one of memory as well, so that page cache can be its own */
char *file_cgroup(const char *name)
{
	char *cg;

	need_memory_controller();
	cg = cg_make(name);
	if (pins_stat(cg, "writeback_pinned") < 0)
		skip("no writeback_pinned");
	return cg;
}

/*
 * A shared mapping of a file, which is dirty, and whose page cache is that cgroup's. The
 * rest of what the file system needs is not, so that the cgroup can go again.
 */
struct mem file_cached(const char *cg)
{
	struct mem m = file_map(file_new("."), &file_to_write, PROT_READ | PROT_WRITE,
				MAP_SHARED);

	check_eq(fsync(m.fd), 0);
	check_eq(posix_fadvise(m.fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	/* No folios of several pages */
	check_eq(madvise(m.addr, FILE_LEN, MADV_RANDOM), 0);
	enter(cg);
	memset(m.addr, 1, FILE_LEN);
	enter_root();
	return m;
}

/* Its cgroup can go when nothing of it is left, not even in a list of some CPU. */
void file_forget(const struct mem *m)
{
	check_eq(munmap(m->addr, FILE_LEN), 0);
	close(m->fd);
	check_eq(cg_write(VM, "drop_caches", "1"), 0);
}
