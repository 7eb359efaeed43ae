// SPDX-License-Identifier: GPL-2.0
/*
 * Small buffers are registered all over used memory, and then the rest of that is
 * freed: how many huge pages can still be had, and what does it cost to pin the
 * buffers where they do no harm?
 *
 * All of it happens on one of two nodes; the other one is where move_pages(2) moves
 * pages to, to compare with.
 */
#define _GNU_SOURCE
#include <linux/mempolicy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "guest.h"

#define NODE0		"/sys/devices/system/node/node0"
#define HUGEPAGES	NODE0 "/hugepages/hugepages-2048kB/nr_hugepages"

#define USED		(700 * MB)
#define WANTED		420		/* huge pages; all that is free would be more */
#define THP		(300 * MB)
#define MOST		5600
#define PIECES		16		/* of so many pages one is free */

enum { ANON, SHMEM, RDMA };	/* the last one is anonymous, too */

static const struct layout {
	const char *name;
	int memory;
	unsigned int buffers;
	size_t bytes;			/* of each */
	bool full;			/* no more than a bit of memory is free, */
	bool pieces;			/* in pieces of a page, all over it */
} layouts[] = {
	{ "88 of 4 kB", ANON, 88, PAGE, false, false },
	{ "350 of 4 kB", ANON, 350, PAGE, false, false },
	{ "1400 of 4 kB", ANON, 1400, PAGE, false, false },
	{ "5600 of 4 kB", ANON, 5600, PAGE, false, false },
	{ "350 of 16 kB", ANON, 350, 4 * PAGE, false, false },
	{ "1400 of 4 kB, shmem", SHMEM, 1400, PAGE, false, false },
	{ "1400 of 4 kB, RDMA", RDMA, 1400, PAGE, false, false },
	{ "1400 of 4 kB, memory nearly full", ANON, 1400, PAGE, true, false },
	{ "5600 of 4 kB, what is free in pieces", ANON, 5600, PAGE, true, true },
};

static struct iovec iov[MOST];

/* In kB */
static uint64_t node_free(void)
{
	return read_number(NODE0 "/meminfo", "MemFree:");
}

static char *map_used(int memory, size_t bytes)
{
	char *p;
	int fd;

	if (memory != SHMEM)
		return map_small(bytes);
	fd = memfd_create("used", 0);
	if (fd < 0 || ftruncate(fd, bytes))
		die("no memfd: %m");
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (p == MAP_FAILED || madvise(p, bytes, MADV_POPULATE_WRITE))
		die("cannot map %zu MB: %m", bytes / MB);
	return p;
}

/* Buffers at random, none twice; the sequence is the same for every kernel. */
static void choose(const struct layout *layout, char *used, size_t bytes)
{
	size_t places = bytes / layout->bytes, i, at;
	char *taken = calloc(places, 1);
	uint64_t x = 88172645463325252ULL;

	for (i = 0; i < layout->buffers; i++) {
		do {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			at = x % places;
		} while (taken[at] || (layout->pieces && !(at % PIECES)));
		taken[at] = 1;
		iov[i] = (struct iovec){ used + at * layout->bytes, layout->bytes };
	}
	free(taken);
}

/* How many blocks of 2 MB the buffers lie in */
static unsigned int blocks(const struct layout *layout)
{
	static char seen[8 * GB / HUGE];
	unsigned int i, nr = 0;
	size_t off;

	memset(seen, 0, sizeof(seen));
	for (i = 0; i < layout->buffers; i++) {
		for (off = 0; off < layout->bytes; off += PAGE) {
			uint64_t block = pfn_of((char *)iov[i].iov_base + off) /
					 (HUGE / PAGE);

			nr += !seen[block];
			seen[block] = 1;
		}
	}
	return nr;
}

/* How many of them are for unmovable memory on the node */
static unsigned int unmovable_blocks(void)
{
	FILE *f = fopen("/proc/pagetypeinfo", "r");
	unsigned int node, nr, sum = 0;
	bool counts = false;
	char line[1024];

	if (!f)
		die("no /proc/pagetypeinfo: %m");
	while (fgets(line, sizeof(line), f)) {
		if (!strncmp(line, "Number of blocks", 16))
			counts = true;
		else if (counts && sscanf(line, "Node %u, zone %*s %u", &node, &nr) == 2 &&
			 !node)
			sum += nr;
	}
	fclose(f);
	return sum;
}

static void tidy(void)
{
	write_file(HUGEPAGES, "0");
	write_file("/proc/sys/vm/drop_caches", "3");
	settle(2);
	write_file("/proc/sys/vm/compact_memory", "1");
}

/* How many huge pages are to be had, by hugetlb and by THP; and what that takes */
static void measure_huge(const char *name, const char *how, unsigned int nr_blocks,
			 int new_blocks, uint64_t register_ns, unsigned int pages)
{
	uint64_t compact, hugetlb, thp, start, got;
	char what[200], huge[200], *p;

	start = now();
	write_file("/proc/sys/vm/compact_memory", "1");
	compact = now() - start;
	start = now();
	write_file(HUGEPAGES, "%d", WANTED);
	hugetlb = now() - start;
	got = read_number(HUGEPAGES, NULL);
	write_file(HUGEPAGES, "0");

	p = mmap(NULL, THP + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		 -1, 0);
	if (p == MAP_FAILED)
		die("cannot map: %m");
	p += HUGE - (uintptr_t)p % HUGE;
	madvise(p, THP, MADV_HUGEPAGE);
	start = now();
	if (madvise(p, THP, MADV_POPULATE_WRITE))
		die("cannot fault in: %m");
	thp = now() - start;
	snprintf(what, sizeof(what),
		 "\"layout\": \"%s\", \"how\": \"%s\", \"pages\": %u, \"blocks\": %u, \"new\": %d",
		 name, how, pages, nr_blocks, new_blocks);
	snprintf(huge, sizeof(huge),
		 "\"hugetlb\": %lu, \"hugetlb ns\": %lu, \"thp\": %lu, \"thp ns\": %lu",
		 got, hugetlb, read_number("/proc/meminfo", "AnonHugePages:") / (HUGE / KB),
		 thp);
	record("%s, %s, \"register ns\": %lu, \"compact ns\": %lu", what, huge, register_ns,
	       compact);
	note("%s, %s: %lu huge pages, %u blocks, %d new, %lu ns a page", name, how, got,
	     nr_blocks, new_blocks, pages ? register_ns / pages : 0);
	munmap(p, THP);
}

static void cgroup(const char *how)
{
	if (!pins_supported())
		return;
	pins_enter(1, 1UL << 40);
	write_file(CGROUP_ROOT "/bench/pins.steer", how);
}

static void storm(const struct layout *layout, const char *how)
{
	size_t bytes = layout->full ? node_free() * KB - 24 * MB : USED;
	uint64_t start, register_ns;
	int fd = layout->memory == RDMA ? rdma_open() : uring_open();
	unsigned int nr_blocks;
	int unmovable;
	size_t off;
	char *used;

	tidy();
	used = map_used(layout->memory, bytes);
	choose(layout, used, bytes);
	for (off = 0; layout->pieces && off < bytes; off += PIECES * PAGE)
		madvise(used + off, PAGE, MADV_DONTNEED);
	unmovable = unmovable_blocks();
	start = now();
	if (layout->memory == RDMA)
		rdma_register(fd, iov, layout->buffers);
	else
		uring_register(fd, iov, layout->buffers);
	register_ns = now() - start;
	unmovable = unmovable_blocks() - unmovable;
	nr_blocks = blocks(layout);
	munmap(used, bytes);
	measure_huge(layout->name, how, nr_blocks, unmovable, register_ns,
		     layout->buffers * layout->bytes / PAGE);
	if (layout->memory != RDMA)
		uring_unregister(fd);
	close(fd);
}

/* What it costs for each page: to register it, or to have it moved */

#define COST_PAGES	1400

static void register_cost(const char *how, unsigned int per_request)
{
	unsigned int nr = COST_PAGES / per_request, i;
	char *p = map_small(COST_PAGES * PAGE);
	uint64_t start, ns;
	int ring;

	tidy();
	for (i = 0; i < nr; i++)
		iov[i] = (struct iovec){ p + i * per_request * PAGE, per_request * PAGE };
	ring = uring_open();
	start = now();
	uring_register(ring, iov, nr);
	ns = now() - start;
	uring_unregister(ring);
	close(ring);
	munmap(p, COST_PAGES * PAGE);
	record("\"cost\": \"%s\", \"per request\": %u, \"ns\": %lu", how, per_request,
	       ns / COST_PAGES);
	note("%s, requests of %u pages: %lu ns a page", how, per_request, ns / COST_PAGES);
}

static void move_pages_cost(unsigned int per_request)
{
	static void *pages[COST_PAGES];
	static int nodes[COST_PAGES], status[COST_PAGES];
	char *p = map_small(COST_PAGES * PAGE);
	uint64_t start, ns;
	unsigned int i;

	tidy();
	for (i = 0; i < COST_PAGES; i++) {
		pages[i] = p + i * PAGE;
		nodes[i] = 1;
	}
	start = now();
	for (i = 0; i < COST_PAGES; i += per_request)
		if (syscall(SYS_move_pages, 0, per_request, pages + i, nodes, status + i,
			    MPOL_MF_MOVE))
			die("move_pages: %m");
	ns = now() - start;
	for (i = 0; i < COST_PAGES; i++)
		if (status[i] != 1)
			die("page %u was not moved: %d", i, status[i]);
	munmap(p, COST_PAGES * PAGE);
	record("\"cost\": \"move_pages\", \"per request\": %u, \"ns\": %lu", per_request,
	       ns / COST_PAGES);
	note("move_pages of %u: %lu ns a page", per_request, ns / COST_PAGES);
}

int main(void)
{
	static const char *const hows[] = { "zone", "block" };
	unsigned long node0 = 1;
	unsigned int i, h;

	guest_setup();
	if (syscall(SYS_set_mempolicy, MPOL_BIND, &node0, 8))
		die("no second node: %m");

	for (h = 0; h < (pins_supported() ? 2 : 1); h++) {
		const char *how = pins_supported() ? hows[h] : "unpatched";

		tidy();
		munmap(map_small(USED), USED);
		measure_huge("none", how, 0, 0, 0, 0);
		cgroup(how);
		for (i = 0; i < ARRAY_SIZE(layouts); i++)
			storm(&layouts[i], how);
		register_cost(how, 1);
		register_cost(how, COST_PAGES);
		if (pins_supported())
			pins_leave();
	}
	move_pages_cost(1);
	move_pages_cost(COST_PAGES);
	return 0;
}
