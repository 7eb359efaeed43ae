// SPDX-License-Identifier: GPL-2.0
/*
 * Registered buffers that give way: memory blocks taken offline and gigantic pages
 * allocated where buffers lie, some of them busy; containers that register more than
 * their limit allows; and what the first read costs after a buffer has lost its pins.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "guest.h"

#define TOP		CGROUP_ROOT "/bench"
#define RECORD		"\"how\": \"%s\", \"scene\": \"%s\""

/* "unpatched", or the value of pins.revoke */
static const char *how;
static bool gives_way;

static void enter(uint64_t max)
{
	if (!pins_supported())
		return;
	pins_enter(1, max);
	if (gives_way)
		pins_revoke_idle();
}

static void leave(void)
{
	if (!pins_supported())
		return;
	pins_step_out();
	settle(5);
	pins_leave();
}

/* Memory that has to move */

#define NODE		"/sys/devices/system/node/node1"
#define GIGANTIC	NODE "/hugepages/hugepages-1048576kB/nr_hugepages"
#define BLOCK		(128 * MB)
#define MAX_BLOCKS	96

#define SPREAD		(3328 * MB)	/* most of node 1 */
#define RINGS		64
#define BUSY		4
#define BUFFER		(16 * MB)
#define READ		(64 * KB)
#define TRIES		10
#define MAX_LATENCIES	100000

enum { WARM, QUIET, BETWEEN, MOVING, NR_PHASES };
static const char *const phases[] = { "", "undisturbed", "between", "moving" };

static struct latencies {
	uint32_t us[MAX_LATENCIES];
	atomic_uint nr;
} latencies[NR_PHASES];

static atomic_int phase;
static atomic_bool stop;
static int slow_disk;

static struct ring {
	struct uring_queue queue;
	char *buffer;
} rings[RINGS];

static pthread_t busy[BUSY];

/* A disk that takes 1 ms */
static void slow_disk_make(void)
{
	static const char dir[] = "/sys/kernel/config/nullb/slow";

	if (mkdir(dir, 0755))
		die("no %s: %m", dir);
	write_file("/sys/kernel/config/nullb/slow/irqmode", "2");
	write_file("/sys/kernel/config/nullb/slow/completion_nsec", "1000000");
	write_file("/sys/kernel/config/nullb/slow/submit_queues", "1");
	write_file("/sys/kernel/config/nullb/slow/hw_queue_depth", "64");
	write_file("/sys/kernel/config/nullb/slow/size", "1024");
	write_file("/sys/kernel/config/nullb/slow/power", "1");
	slow_disk = open("/dev/slow", O_RDONLY | O_DIRECT);
	if (slow_disk < 0)
		die("no /dev/slow: %m");
}

/* Page tables, which cannot move, are to be elsewhere. */
static char *map_on_node(int node, size_t bytes)
{
	unsigned long nodes = 1UL << node;
	char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || madvise(p, bytes, MADV_NOHUGEPAGE) ||
	    syscall(SYS_mbind, p, bytes, MPOL_BIND, &nodes, 64, 0) ||
	    madvise(p, bytes, MADV_POPULATE_WRITE))
		die("no %zu bytes on node %d: %m", bytes, node);
	return p;
}

/* Their places are all over node 1, as if each had been allocated at another time. */
static void buffers_make(void)
{
	const size_t slice = SPREAD / RINGS;
	char *donor, *at;
	int i;

	donor = map_on_node(1, SPREAD);
	for (i = 0; i < RINGS; i++) {
		at = mmap(NULL, BUFFER, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (at == MAP_FAILED ||
		    mremap(donor + i * slice, BUFFER, BUFFER,
			   MREMAP_MAYMOVE | MREMAP_FIXED, at) != at)
			die("cannot take a buffer: %m");
		munmap(donor + i * slice + BUFFER, slice - BUFFER);
		rings[i].buffer = at;
	}
	for (i = 0; i < RINGS; i++) {
		struct iovec iov = { rings[i].buffer, BUFFER };

		uring_queue_open(&rings[i].queue);
		uring_register(rings[i].queue.fd, &iov, 1);
	}
}

static void buffers_free(void)
{
	int i;

	for (i = 0; i < RINGS; i++) {
		uring_queue_close(&rings[i].queue);
		unmap(rings[i].buffer, BUFFER);
	}
}

static void *read_often(void *arg)
{
	struct ring *ring = arg;
	unsigned int at = 0;

	while (!stop) {
		int began = phase;
		struct latencies *l = &latencies[began];
		uint64_t start = now();
		unsigned int i;

		uring_read_fixed(&ring->queue, slow_disk, ring->buffer + at, READ);
		at = (at + 13 * READ) % BUFFER;
		i = atomic_fetch_add(&l->nr, 1);
		if (i < MAX_LATENCIES)
			l->us[i] = (now() - start) / 1000;
	}
	return NULL;
}

static void report_latencies(const char *scene, int nr)
{
	struct latencies *l = &latencies[nr];
	unsigned int n = l->nr < MAX_LATENCIES ? l->nr : MAX_LATENCIES;

	if (!n)
		return;
	sort_us(l->us, n);
	record(RECORD ", \"phase\": \"%s\", \"ios\": %u, \"p50\": %u, \"p99\": %u, \"max\": %u",
	       how, scene, phases[nr], n, l->us[n / 2], l->us[n - 1 - n / 100], l->us[n - 1]);
	l->nr = 0;
}

static void busy_start(void)
{
	int i;

	stop = false;
	for (i = 0; i < BUSY; i++)
		if (pthread_create(&busy[i], NULL, read_often, &rings[i]))
			die("no thread: %m");
}

static void busy_stop(void)
{
	int i;

	stop = true;
	for (i = 0; i < BUSY; i++)
		pthread_join(busy[i], NULL);
}

/* Blocks that can be taken offline as long as nothing is pinned there */
static bool can_go[MAX_BLOCKS];
static unsigned int blocks[TRIES];

static void blocks_find(void)
{
	char path[80];
	unsigned int block;

	for (block = 0; block < MAX_BLOCKS; block++) {
		snprintf(path, sizeof(path), NODE "/memory%u", block);
		if (access(path, F_OK) || !memory_block_set(block, "offline"))
			continue;
		memory_block_set(block, "online_kernel");
		can_go[block] = true;
	}
}

/* Choose those in which a buffer lies, each in one. These buffers come first. */
static void blocks_choose(void)
{
	struct ring swap;
	bool chosen[MAX_BLOCKS] = {};
	unsigned int block;
	int i, nr = 0;

	for (i = 0; i < RINGS && nr < TRIES; i++) {
		block = pfn_of(rings[i].buffer) * PAGE / BLOCK;
		if (block >= MAX_BLOCKS || !can_go[block] || chosen[block])
			continue;
		chosen[block] = true;
		blocks[nr] = block;
		swap = rings[nr];
		rings[nr++] = rings[i];
		rings[i] = swap;
	}
	if (nr < TRIES)
		die("buffers lie in %d memory blocks that could go offline", nr);
}

static bool block_take(int i)
{
	return memory_block_set(blocks[i], "offline");
}

/* All are offline at the same time. */
static void blocks_give(void)
{
	int i;

	for (i = 0; i < TRIES; i++)
		memory_block_set(blocks[i], "online_kernel");
}

static bool gigantic_take(int i)
{
	(void)i;
	try_write(GIGANTIC, "1");
	return read_number(GIGANTIC, NULL) == 1;
}

static void gigantic_give(void)
{
	write_file(GIGANTIC, "0");
}

/*
 * Take something TRIES times, while the busy rings read. It may be given back after each
 * time; then buffers get there again.
 */
static void move(const char *scene, bool (*take)(int i), void (*give)(void), bool each)
{
	uint64_t start, ns, longest = 0, all = 0;
	int i, had = 0;

	note("revoke: %s, %s", scene, how);
	enter(UINT64_MAX);
	for (i = 0; i < TRIES; i++) {
		if (!i || each) {
			buffers_make();
			blocks_choose();
			phase = WARM;
			busy_start();
			usleep(500000);
		}
		if (!i) {
			phase = QUIET;
			usleep(2000000);
		}
		phase = MOVING;
		start = now();
		had += take(i);
		ns = now() - start;
		all += ns;
		longest = ns > longest ? ns : longest;
		/* Requests that were begun meanwhile are over. */
		usleep(5000);
		phase = BETWEEN;
		usleep(200000);
		if (i == TRIES - 1 || each) {
			busy_stop();
			buffers_free();
			give();
		}
	}
	for (i = QUIET; i < NR_PHASES; i++)
		report_latencies(scene, i);
	record(RECORD ", \"tries\": %d, \"had\": %d, \"us\": %lu, \"longest us\": %lu",
	       how, scene, TRIES, had, all / TRIES / 1000, longest / 1000);
	if (pins_supported())
		record(RECORD ", \"revoked\": %lu, \"repinned\": %lu", how, scene,
		       read_number(TOP "/pins.stat", "revoked"),
		       read_number(TOP "/pins.stat", "repinned"));
	leave();
}

/* Containers that register more than their limit allows, and use it in turn */

#define CONTAINERS	100
#define SHARE		(32 * MB)
#define FIT		8		/* so many of them fit the limit */

static int disk;

static const char *box(int i, const char *file)
{
	static char path[128];

	snprintf(path, sizeof(path), TOP "/%d/%s", i, file);
	return path;
}

static void boxes_make(void)
{
	int i;

	enter(FIT * SHARE);
	if (!pins_supported())
		return;
	pins_step_out();
	write_file(TOP "/cgroup.subtree_control", "+pins");
	for (i = 0; i < CONTAINERS; i++)
		if (mkdir(box(i, ""), 0755))
			die("no cgroup: %m");
}

static void boxes_remove(void)
{
	int i;

	if (!pins_supported())
		return;
	pins_step_out();
	settle(5);
	for (i = 0; i < CONTAINERS; i++)
		rmdir(box(i, ""));
	pins_leave();
}

/* How many can register, and then use it? What does a use cost, what to register for it? */
static void boxes(void)
{
	static struct uring_queue queue[CONTAINERS];
	static char *buffer[CONTAINERS];
	static bool has[CONTAINERS];
	uint64_t start, use = 0, anew = 0;
	int i, used = 0;

	note("revoke: %d containers, %s", CONTAINERS, how);
	boxes_make();
	for (i = 0; i < CONTAINERS; i++) {
		struct iovec iov;

		if (!buffer[i])
			buffer[i] = map_small(SHARE);
		iov = (struct iovec){ buffer[i], SHARE };
		uring_queue_open(&queue[i]);
		if (pins_supported())
			write_file(box(i, "cgroup.procs"), "0");
		has[i] = uring_try_register(queue[i].fd, &iov, 1);
		/* What was used is to be told apart by its age. */
		usleep(20000);
	}
	for (i = 0; i < CONTAINERS; i++) {
		if (!has[i])
			continue;
		start = now();
		uring_read_fixed(&queue[i], disk, buffer[i], READ);
		use += now() - start;
		used++;
		usleep(20000);
	}
	for (i = 0; i < CONTAINERS; i++)
		if (has[i])
			uring_unregister(queue[i].fd);
	for (i = 0; i < CONTAINERS; i++) {
		struct iovec iov = { buffer[i], SHARE };

		start = now();
		uring_register(queue[i].fd, &iov, 1);
		uring_read_fixed(&queue[i], disk, buffer[i], READ);
		uring_unregister(queue[i].fd);
		anew += now() - start;
		uring_queue_close(&queue[i]);
	}
	record(RECORD ", \"tries\": %d, \"had\": %d, \"use ns\": %lu, \"anew ns\": %lu",
	       how, "containers", CONTAINERS, used, used ? use / used : 0,
	       anew / CONTAINERS);
	boxes_remove();
}

/* The first read after a revocation, and one of a pinned buffer */
static void first_use(void)
{
	static const size_t sizes[] = { 2 * MB, 32 * MB, GB };
	static const size_t reads[] = { 4 * KB, 64 * KB, MB, 2 * MB };
	uint64_t start, pinned, first, registering;
	char *memory = map_small(GB);
	struct uring_queue queue;
	unsigned int i, j;

	note("revoke: the first use, %s", how);
	enter(UINT64_MAX);
	uring_queue_open(&queue);
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct iovec iov = { memory, sizes[i] };

		start = now();
		uring_register(queue.fd, &iov, 1);
		registering = now() - start;
		record(RECORD ", \"buffer\": %zu, \"register ns\": %lu", how, "first use",
		       sizes[i], registering);
		for (j = 0; j < ARRAY_SIZE(reads); j++) {
			uring_read_fixed(&queue, disk, memory, reads[j]);
			start = now();
			uring_read_fixed(&queue, disk, memory, reads[j]);
			pinned = now() - start;
			first = 0;
			if (gives_way) {
				try_write(TOP "/pins.reclaim", "4G");
				start = now();
				uring_read_fixed(&queue, disk, memory, reads[j]);
				first = now() - start;
			}
			record(RECORD ", \"buffer\": %zu, \"read\": %zu, \"pinned ns\": %lu",
			       how, "first use", sizes[i], reads[j], pinned);
			if (first)
				record(RECORD ", \"buffer\": %zu, \"read\": %zu, \"first ns\": %lu",
				       how, "first use", sizes[i], reads[j], first);
		}
		uring_unregister(queue.fd);
	}
	uring_queue_close(&queue);
	unmap(memory, GB);
	leave();
}

static void memory_moves(void)
{
	move("memory blocks", block_take, blocks_give, false);
	move("1 GB pages", gigantic_take, gigantic_give, true);
}

static void buffers_take_turns(void)
{
	first_use();
	boxes();
}

static void each_way(void (*scenes)(void))
{
	static const char *const values[] = { "never", "idle" };
	size_t i;

	if (!pins_supported()) {
		how = "unpatched";
		scenes();
		return;
	}
	for (i = 0; i < ARRAY_SIZE(values); i++) {
		how = values[i];
		gives_way = i;
		scenes();
	}
}

int main(void)
{
	guest_setup();
	disk = open("/dev/nullb0", O_RDONLY | O_DIRECT);
	if (disk < 0)
		die("no /dev/nullb0: %m");
	slow_disk_make();
	blocks_find();
	each_way(memory_moves);
	/* These need so much memory that the kernel's own gets everywhere. */
	each_way(buffers_take_turns);
	return 0;
}
