// SPDX-License-Identifier: GPL-2.0
/*
 * Memory is emptied again and again - a CMA area, a memory block, the place of a
 * gigantic page - while direct reads of a slow disk are in flight to it. How often
 * does that succeed, how long does it take, and what does it cost the readers, and
 * others whose buffers lie elsewhere?
 *
 * A buffer that has left the range is either replaced at once by one inside; or it is
 * hot, read into again and again, and replaced only before the next attempt.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "guest.h"

#define CMA		"/sys/kernel/debug/cma"
#define GIGANTIC	"/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages"
#define MS		1000000ULL

#define TRIES		10
#define MAX_THREADS	544
#define MAX_LATENCIES	200000

/* What has to move */

struct range {
	const char *name;
	uint64_t pfn, pages;
	bool (*take)(void);
	void (*give)(void);
};

static unsigned int block;

static struct range cma = { .name = "CMA area" };
static struct range movable = { .name = "memory block" };
static struct range gigantic = { .name = "1 GB page" };

static bool cma_take(void)
{
	char text[32];

	snprintf(text, sizeof(text), "%lu", cma.pages);
	return try_write(CMA "/reserved/alloc", text);
}

static void cma_give(void)
{
	write_file(CMA "/reserved/free", "%lu", cma.pages);
}

static bool block_take(void)
{
	return memory_block_set(block, "offline");
}

static void block_give(void)
{
	if (!memory_block_set(block, "online_movable"))
		die("cannot have memory block %u online again", block);
}

static bool gigantic_take(void)
{
	try_write(GIGANTIC, "1");
	return read_number(GIGANTIC, NULL) == 1;
}

static void gigantic_give(void)
{
	write_file(GIGANTIC, "0");
}

static void ranges_setup(void)
{
	cma.pfn = read_number(CMA "/reserved/base_pfn", NULL);
	cma.pages = read_number(CMA "/reserved/count", NULL);
	cma.take = cma_take;
	cma.give = cma_give;

	movable.pages = 128 * MB / PAGE;
	movable.take = block_take;
	movable.give = block_give;

	gigantic.pfn = read_number(CMA "/hugetlb0/base_pfn", NULL);
	gigantic.pages = read_number(CMA "/hugetlb0/count", NULL);
	gigantic.take = gigantic_take;
	gigantic.give = gigantic_give;
}

/* A block that can be emptied becomes the only movable one. */
static void block_setup(void)
{
	for (block = 63; block; block--) {
		movable.pfn = block * movable.pages;
		if (movable.pfn < cma.pfn + cma.pages &&
		    movable.pfn + movable.pages > cma.pfn)
			continue;
		if (block_take()) {
			block_give();
			return;
		}
	}
	die("no memory block can be taken offline");
}

/* Who reads */

enum kind { INSIDE, OUTSIDE, NR_KINDS };

static struct range *range;
static size_t length;
static bool registers, hot, cached;
static atomic_int phase, attempt;
static atomic_bool stop;
static int disk;
static char *elsewhere;		/* for those who read outside */

enum { QUIET, SPACED, PACKED, NR_PHASES };
static const char *const phases[] = { "quiet", "spaced", "packed" };

static struct latencies {
	uint32_t *us;
	atomic_uint nr, misplaced;
} latencies[NR_PHASES][NR_KINDS];

static bool inside(const char *p)
{
	return pfn_of(p) - range->pfn < range->pages;
}

static char *buffers_map(size_t len)
{
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       (cached ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || madvise(p, len, MADV_NOHUGEPAGE) ||
	    madvise(p, len, MADV_POPULATE_WRITE))
		die("no memory");
	return p;
}

/*
 * Replace a buffer by one inside, if possible. What the CPU has just freed outside
 * comes first: keep it until then.
 */
#define REFILLS		16

static void refill(char *p)
{
	char *new[REFILLS];
	int i = 0;

	do {
		new[i] = buffers_map(length);
	} while (!inside(new[i]) && ++i < REFILLS);
	if (i == REFILLS)
		i--;
	if (mremap(new[i], length, length, MREMAP_MAYMOVE | MREMAP_FIXED, p) != p)
		die("cannot replace a buffer: %m");
	while (i--)
		munmap(new[i], length);
}

static void count_latency(enum kind kind, int began, uint64_t ns)
{
	struct latencies *l = &latencies[began][kind];
	unsigned int i = atomic_fetch_add(&l->nr, 1);

	if (i < MAX_LATENCIES)
		l->us[i] = ns / 1000;
}

static void *read_inside(void *arg)
{
	char *p = arg;
	struct iovec iov = { p, length };
	int ring = registers ? uring_open() : -1;
	int mine = attempt;

	while (!stop) {
		uint64_t start;
		int began, now_is = attempt;

		if (!inside(p) && (!hot || mine != now_is))
			refill(p);
		mine = now_is;
		began = phase;
		if (!inside(p))
			atomic_fetch_add(&latencies[began][INSIDE].misplaced, 1);
		start = now();
		if (registers) {
			/* May fail where migration does */
			if (uring_try_register(ring, &iov, 1))
				uring_unregister(ring);
			count_latency(INSIDE, began, now() - start);
			usleep(10000);
			continue;
		}
		if (pread(disk, p, length, 0) != (ssize_t)length)
			die("cannot read: %m");
		count_latency(INSIDE, began, now() - start);
	}
	if (registers)
		close(ring);
	return NULL;
}

static void *read_outside(void *arg)
{
	while (!stop) {
		int began = phase;
		uint64_t start = now();

		if (pread(disk, arg, length, 0) != (ssize_t)length)
			die("cannot read: %m");
		count_latency(OUTSIDE, began, now() - start);
	}
	return NULL;
}

/* What all records of a phase begin with */
#define RECORD	"\"scene\": \"%s\", \"wait\": \"%s\", \"phase\": \"%s\""

#define LATENCIES \
	", \"kind\": \"%s\", \"ios\": %u, \"misplaced\": %u, \"ns\": %lu" \
	", \"p50\": %u, \"p99\": %u, \"max\": %u"

/*
 * How long a request was held up, as the kernel has timed it: on one CPU that tells
 * more than the latency, of which the work of the migration is a part.
 */
#define TRACING		"/sys/kernel/tracing"

static void trace_waits(bool on)
{
	if (!pins_supported())
		return;
	/* To truncate it clears it. */
	if (on)
		close(open(TRACING "/trace", O_WRONLY | O_TRUNC));
	write_file(TRACING "/events/pins/pins_wait_end/enable", on ? "1" : "0");
}

static void report_waits(const char *scene, const char *wait_max, int nr)
{
	unsigned long ns, longest = 0, waits = 0;
	char line[512], *at;
	FILE *f;

	trace_waits(false);
	f = pins_supported() ? fopen(TRACING "/trace", "r") : NULL;
	if (!f)
		return;
	while (fgets(line, sizeof(line), f)) {
		at = strstr(line, " ns=");
		if (!at || !strstr(line, "pins_wait_end:"))
			continue;
		ns = strtoul(at + 4, NULL, 10);
		longest = ns > longest ? ns : longest;
		waits++;
	}
	fclose(f);
	record(RECORD ", \"waits\": %lu, \"longest us\": %lu", scene, wait_max, phases[nr],
	       waits, longest / 1000);
}

static void phase_begin(int nr)
{
	phase = nr;
}

static void report_latencies(const char *scene, const char *wait_max, int nr,
			     uint64_t ns)
{
	static const char *const kinds[] = { "inside", "outside" };
	int kind;

	for (kind = 0; kind < NR_KINDS; kind++) {
		struct latencies *l = &latencies[nr][kind];
		unsigned int n = l->nr < MAX_LATENCIES ? l->nr : MAX_LATENCIES;

		if (!n)
			continue;
		sort_us(l->us, n);
		record(RECORD LATENCIES,
		       scene, wait_max, phases[nr], kinds[kind], n, l->misplaced,
		       ns, l->us[n / 2], l->us[n - 1 - n / 100], l->us[n - 1]);
	}
}

static void take_often(const char *scene, const char *wait_max, int nr)
{
	uint64_t begin = now();
	int i;

	trace_waits(true);
	phase_begin(nr);
	for (i = 0; i < TRIES; i++) {
		uint64_t start;
		bool taken;

		/* Twice the latency of the disk: all are at it again. */
		attempt++;
		if (hot)
			usleep(200000);
		start = now();
		taken = range->take();

		record(RECORD ", \"taken\": %s, \"us\": %lu", scene, wait_max,
		       phases[nr], taken ? "true" : "false",
		       (now() - start) / 1000);
		if (taken)
			range->give();
		if (nr == SPACED)
			usleep(300000);
	}
	phase_begin(QUIET);
	report_latencies(scene, wait_max, nr, now() - begin);
	report_waits(scene, wait_max, nr);
}

static void run(const char *scene, struct range *r, int nr_inside, int nr_outside,
		size_t len, bool registering, const char *wait_max)
{
	static pthread_t threads[MAX_THREADS];
	pthread_attr_t attr;
	sigset_t alarms;
	char *in;
	uint64_t start;
	int i, j;

	sigemptyset(&alarms);
	sigaddset(&alarms, SIGALRM);
	range = r;
	length = len;
	registers = registering;
	stop = false;
	for (i = 0; i < NR_PHASES; i++)
		for (j = 0; j < NR_KINDS; j++)
			latencies[i][j] = (struct latencies) {
				.us = latencies[i][j].us,
			};

	if (pins_supported()) {
		pins_enter(1, UINT64_MAX);
		write_file(CGROUP_ROOT "/bench/pins.wait.max", "%s", wait_max);
	}
	in = buffers_map(nr_inside * len);
	for (i = 0; i < nr_outside * (int)(len / PAGE); i++)
		if (inside(elsewhere + i * PAGE))
			die("there is no memory outside of the %s", r->name);

	sigprocmask(SIG_BLOCK, &alarms, NULL);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 * KB);
	for (i = 0; i < nr_inside + nr_outside; i++)
		if (pthread_create(&threads[i], &attr,
				   i < nr_inside ? read_inside : read_outside,
				   i < nr_inside ? in + i * len :
						   elsewhere + (i - nr_inside) * len))
			die("no thread: %m");
	sigprocmask(SIG_UNBLOCK, &alarms, NULL);

	/* Nobody has waited in vain for so long that none waits now. */
	usleep(5000000);
	for (j = 0; j < NR_KINDS; j++)
		latencies[QUIET][j].nr = 0;
	start = now();
	usleep(2000000);
	report_latencies(scene, wait_max, QUIET, now() - start);
	take_often(scene, wait_max, SPACED);
	take_often(scene, wait_max, PACKED);

	stop = true;
	for (i = 0; i < nr_inside + nr_outside; i++)
		pthread_join(threads[i], NULL);
	munmap(in, nr_inside * len);
	if (pins_supported()) {
		pins_step_out();
		pins_leave();
	}
}

/* How long it takes when nobody is in the way */
static void take_once(const char *scene, struct range *r)
{
	uint64_t start = now();
	bool taken = r->take();

	record("\"scene\": \"%s\", \"alone\": %s, \"us\": %lu", scene,
	       taken ? "true" : "false", (now() - start) / 1000);
	if (!taken)
		die("cannot empty the %s though nobody is in the way", r->name);
	r->give();
}

static void scene(const char *name, struct range *r, int nr_inside,
		  int nr_outside, size_t len, bool registering)
{
	static const char *const waits[] = { "0", "inherit", "1000", "20000", "max" };
	int i;

	take_once(name, r);
	for (i = 0; i < (int)ARRAY_SIZE(waits); i++) {
		run(name, r, nr_inside, nr_outside, len, registering, waits[i]);
		note("bench: %s, wait.max %s: done", name, waits[i]);
		if (!pins_supported())
			return;
	}
}

int main(void)
{
	char *ballast;
	size_t bytes;
	int i, j;

	guest_setup();
	ranges_setup();
	for (i = 0; i < NR_PHASES; i++)
		for (j = 0; j < NR_KINDS; j++)
			latencies[i][j].us = malloc(MAX_LATENCIES * sizeof(uint32_t));
	disk = open("/dev/nullb0", O_RDONLY | O_DIRECT);
	if (disk < 0)
		die("no disk: %m");
	elsewhere = map_small(8 * 64 * KB);
	try_write("/proc/sys/vm/pins_drain_max_us", "1000000");

	/*
	 * The kernel takes from CMA when most of what is free is there: fill the
	 * rest, and the one of the two areas that it is not about.
	 */
	if (!cma_take() || !gigantic_take())
		die("cannot take what nobody uses");
	bytes = read_number("/proc/meminfo", "MemFree:") * KB - 300 * MB;
	ballast = map_small(bytes);

	gigantic_give();
	scene("1 GB page, 64 reads of 64 kB", &gigantic, 64, 8, 64 * KB, false);
	if (!gigantic_take())
		die("cannot take the 1 GB page again");
	cma_give();
	scene("CMA, 64 reads of 64 kB", &cma, 64, 8, 64 * KB, false);
	scene("CMA, 512 reads of 16 kB", &cma, 512, 8, 16 * KB, false);
	hot = true;
	scene("CMA, 64 reads of 64 kB, hot", &cma, 64, 8, 64 * KB, false);
	cached = true;
	scene("CMA, 64 reads of 64 kB, hot, page cache", &cma, 64, 8, 64 * KB, false);
	hot = false;
	scene("CMA, 64 reads of 64 kB, page cache", &cma, 64, 8, 64 * KB, false);
	cached = false;
	scene("CMA, 8 registering 64 kB", &cma, 8, 8, 64 * KB, true);
	munmap(ballast, bytes);

	block_setup();
	scene("memory block, 64 reads of 64 kB", &movable, 64, 8, 64 * KB, false);
	return 0;
}
