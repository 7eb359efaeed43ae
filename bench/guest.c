// SPDX-License-Identifier: GPL-2.0
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <rdma/ib_user_ioctl_verbs.h>
#include <rdma/ib_user_verbs.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

/* mm/gup_test.h, include/linux/mm_types.h */
struct gup_test {
	uint64_t get_delta_usec;
	uint64_t put_delta_usec;
	uint64_t addr;
	uint64_t size;
	uint32_t nr_pages_per_call;
	uint32_t gup_flags;
	uint32_t test_flags;
	uint32_t which_pages[8];
};

struct pin_longterm_test {
	uint64_t addr;
	uint64_t size;
	uint32_t flags;
};

#define PIN_FAST_BENCHMARK	_IOWR('g', 2, struct gup_test)
#define PIN_LONGTERM_BENCHMARK	_IOWR('g', 3, struct gup_test)
#define PIN_LONGTERM_TEST_START	_IOW('g', 7, struct pin_longterm_test)
#define PIN_LONGTERM_TEST_STOP	_IO('g', 8)
#define FOLL_WRITE		(1 << 0)
#define FOLL_LONGTERM		(1 << 8)

static FILE *records;
static int gup_fd = -1;

uint64_t clock_cost;

void die(const char *fmt, ...)
{
	va_list ap;

	printf("bench: ");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	exit(1);
}

void note(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
}

void record(const char *fmt, ...)
{
	va_list ap;

	fputc('{', records);
	va_start(ap, fmt);
	vfprintf(records, fmt, ap);
	va_end(ap);
	fputs("}\n", records);
	fflush(records);
}

uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

void settle(unsigned int seconds)
{
	sleep(seconds);
}

uint64_t background(void)
{
	struct dirent *entry;
	uint64_t ns, sum = 0;
	char path[300];
	DIR *dir = opendir("/proc");
	FILE *f;

	while ((entry = readdir(dir))) {
		if (!isdigit(entry->d_name[0]) || atoi(entry->d_name) == getpid())
			continue;
		snprintf(path, sizeof(path), "/proc/%s/schedstat", entry->d_name);
		f = fopen(path, "r");
		if (!f)
			continue;
		if (fscanf(f, "%lu", &ns) == 1)
			sum += ns;
		fclose(f);
	}
	closedir(dir);
	return sum;
}

bool try_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	bool done;

	if (fd < 0)
		return false;
	done = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return done;
}

void write_file(const char *path, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (!try_write(path, text))
		die("cannot write \"%s\" to %s: %m", text, path);
}

uint64_t read_number(const char *path, const char *key)
{
	char text[4096], *at = text;
	int fd = open(path, O_RDONLY);
	ssize_t len;

	if (fd < 0)
		die("cannot open %s: %m", path);
	len = read(fd, text, sizeof(text) - 1);
	if (len < 0)
		die("cannot read %s: %m", path);
	close(fd);
	text[len] = '\0';
	if (key) {
		at = strstr(text, key);
		if (!at)
			die("%s says nothing of %s", path, key);
		at += strlen(key);
	}
	return strtoull(at, NULL, 10);
}

static void time_the_clock(void)
{
	uint64_t start, least = ~0ULL;
	int i, rep;

	for (rep = 0; rep < 20; rep++) {
		start = now();
		for (i = 0; i < 100; i++)
			now();
		start = now() - start;
		if (start < least)
			least = start;
	}
	clock_cost = least / 101;
}

void guest_setup(void)
{
	static const struct {
		const char *path, *value;
	} quiet[] = {
		{ "/proc/sys/vm/stat_interval", "100000" },
		{ "/proc/sys/vm/dirty_writeback_centisecs", "0" },
		{ "/proc/sys/vm/compaction_proactiveness", "0" },
		{ "/proc/sys/kernel/randomize_va_space", "0" },
		{ "/sys/kernel/mm/transparent_hugepage/enabled", "madvise" },
		{ "/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs",
		  "4000000000" },
	};
	const char *path = getenv("BENCH_RECORDS");
	struct utsname uts;
	size_t i;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!path)
		die("this changes the machine it runs on: start it with bench/run");
	/* Behind those of the boots before */
	records = fopen(path, "a");
	if (!records)
		die("cannot open %s: %m", path);

	for (i = 0; i < ARRAY_SIZE(quiet); i++)
		try_write(quiet[i].path, quiet[i].value);

	uname(&uts);
	record("\"release\": \"%s\", \"memory\": %llu", uts.release,
	       (unsigned long long)read_number("/proc/meminfo", "MemTotal:") * 1024);

	gup_fd = open("/sys/kernel/debug/gup_test", O_RDWR);
	if (gup_fd < 0)
		die("no gup_test: %m");
	time_the_clock();
}

/* Pages that are just being migrated are waited for. */
static void pfns_of(const void *p, uint64_t *pfns, size_t nr)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	off_t at = (uintptr_t)p / PAGE * sizeof(*pfns);
	ssize_t got;

	while (nr) {
		got = pread(fd, pfns, nr * sizeof(*pfns), at);
		if (got <= 0)
			die("cannot read pagemap: %m");
		at += got;
		for (; got > 0; got -= sizeof(*pfns), nr--, pfns++) {
			if (*pfns >> 62 == 1) {
				at -= got;
				sched_yield();
				break;
			}
			if (!(*pfns >> 63))
				die("a page is not there");
			*pfns &= (1ULL << 55) - 1;
		}
	}
	close(fd);
}

uint64_t pfn_of(const void *p)
{
	uint64_t pfn;

	pfns_of(p, &pfn, 1);
	return pfn;
}

static char *map_anon(size_t bytes, int flags)
{
	char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	if (p == MAP_FAILED)
		die("cannot map %zu MB: %m", bytes / MB);
	/* A child that shares it would make the pins break sharing first. */
	madvise(p, bytes, MADV_DONTFORK);
	return p;
}

static void fault_in(char *p, size_t bytes)
{
	if (madvise(p, bytes, MADV_POPULATE_WRITE))
		die("cannot fault in %zu MB: %m", bytes / MB);
}

char *map_small(size_t bytes)
{
	char *p = map_anon(bytes, 0);

	madvise(p, bytes, MADV_NOHUGEPAGE);
	fault_in(p, bytes);
	return p;
}

/* Is each 2 MB of it one piece of physical memory? */
static void check_huge(const char *p, size_t bytes)
{
	const char *end = p + bytes;

	for (; p < end; p += HUGE)
		if (pfn_of(p) % (HUGE / PAGE) ||
		    pfn_of(p + HUGE - PAGE) != pfn_of(p) + HUGE / PAGE - 1)
			die("no huge page at %p", p);
}

char *map_thp(size_t bytes)
{
	char *p = map_anon(bytes + HUGE, 0);

	p += HUGE - (uintptr_t)p % HUGE;
	madvise(p, bytes, MADV_HUGEPAGE);
	fault_in(p, bytes);
	check_huge(p, bytes);
	return p;
}

char *map_hugetlb(size_t bytes)
{
	static size_t reserved;
	char *p;

	reserved += bytes / HUGE;
	write_file("/proc/sys/vm/nr_hugepages", "%zu", reserved);
	p = map_anon(bytes, MAP_HUGETLB);
	fault_in(p, bytes);
	check_huge(p, bytes);
	return p;
}

void unmap(char *p, size_t bytes)
{
	munmap(p, bytes);
}

/* A fixed sequence: every kernel gets the same questions. */
static uint64_t pseudo_random(void)
{
	static uint64_t x = 88172645463325252ULL;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

#define ZONE_NORMAL	(4 * GB / PAGE)	/* its first page frame */

struct place {
	uint64_t pfn;
	char *at;
};

static int by_pfn(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	return x->pfn < y->pfn ? -1 : x->pfn > y->pfn;
}

/* Of each block keep the page in its middle, or the one nearest behind it. */
static size_t one_per_block(struct place *place, size_t nr, uint64_t pages)
{
	uint64_t block, last = ~0ULL;
	size_t i, kept = 0;

	qsort(place, nr, sizeof(*place), by_pfn);
	for (i = 0; i < nr; i++) {
		block = place[i].pfn / pages;
		if (block == last || place[i].pfn % pages < pages / 2)
			continue;
		last = block;
		place[kept++] = place[i];
	}
	return kept;
}

size_t map_apart(char **p, size_t donor_bytes, size_t max_pages, size_t block)
{
	size_t i, j, nr, missed = 0, nr_donor = donor_bytes / PAGE;
	struct place *place = calloc(nr_donor, sizeof(*place)), swap;
	uint64_t *pfns = calloc(nr_donor, sizeof(*pfns));
	char *donor = map_small(donor_bytes);

	pfns_of(donor, pfns, nr_donor);
	for (i = nr = 0; i < nr_donor; i++)
		/* What is freed to another zone is not the next to come */
		if (pfns[i] >= ZONE_NORMAL)
			place[nr++] = (struct place){ pfns[i], donor + i * PAGE };
	if (block)
		nr = one_per_block(place, nr, block / PAGE);
	if (max_pages > nr)
		max_pages = nr;
	for (i = 0; i < max_pages; i++) {
		j = i + pseudo_random() % (nr - i);
		swap = place[i];
		place[i] = place[j];
		place[j] = swap;
	}

	/*
	 * The page that was freed last is the first to be handed out again, so
	 * giving one back and touching a new one moves it. A page table that
	 * comes between takes another's, so allocate those first.
	 */
	*p = map_small(max_pages * PAGE);
	madvise(*p, max_pages * PAGE, MADV_DONTNEED);
	for (i = 0; i < max_pages; i++) {
		madvise(place[i].at, PAGE, MADV_DONTNEED);
		(*p)[i * PAGE] = 1;
	}
	pfns_of(*p, pfns, max_pages);
	for (i = 0; i < max_pages; i++)
		missed += pfns[i] != place[i].pfn;
	if (missed > max_pages / 100)
		die("%zu of %zu pages lie elsewhere", missed, max_pages);

	munmap(donor, donor_bytes);
	free(place);
	free(pfns);
	return max_pages;
}

static void nothing(int signal)
{
	(void)signal;
}

bool memory_block_set(unsigned int block, const char *state)
{
	struct itimerval limit = { .it_value.tv_sec = 2 }, none = {};
	char path[80];
	bool done;

	snprintf(path, sizeof(path), "/sys/devices/system/memory/memory%u/state", block);
	/* Going offline takes until it succeeds or a signal comes. */
	sigaction(SIGALRM, &(struct sigaction) { .sa_handler = nothing }, NULL);
	setitimer(ITIMER_REAL, &limit, NULL);
	done = try_write(path, state);
	setitimer(ITIMER_REAL, &none, NULL);
	return done;
}

static int compare_us(const void *a, const void *b)
{
	uint32_t x = *(uint32_t *)a, y = *(uint32_t *)b;

	return x < y ? -1 : x > y;
}

void sort_us(uint32_t *us, size_t nr)
{
	qsort(us, nr, sizeof(*us), compare_us);
}

static char pins_dir[256];

bool pins_supported(void)
{
	char text[1024] = "";
	int fd = open(CGROUP_ROOT "/cgroup.controllers", O_RDONLY);

	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		die("cannot read cgroup.controllers: %m");
	close(fd);
	return strstr(text, "pins");
}

void pins_enter(unsigned int depth, uint64_t max)
{
	char path[300];

	strcpy(pins_dir, CGROUP_ROOT);
	while (depth--) {
		snprintf(path, sizeof(path), "%s/cgroup.subtree_control", pins_dir);
		write_file(path, "+pins");
		strcat(pins_dir, "/bench");
		if (mkdir(pins_dir, 0755))
			die("cannot make %s: %m", pins_dir);
		snprintf(path, sizeof(path), "%s/pins.max", pins_dir);
		write_file(path, "%llu", (unsigned long long)max);
	}
	snprintf(path, sizeof(path), "%s/cgroup.procs", pins_dir);
	write_file(path, "0");
}

void pins_revoke_idle(void)
{
	char path[320];

	snprintf(path, sizeof(path), "%s/pins.revoke", pins_dir);
	write_file(path, "idle");
}

void pins_step_out(void)
{
	write_file(CGROUP_ROOT "/cgroup.procs", "0");
}

void pins_leave(void)
{
	pins_step_out();
	while (strcmp(pins_dir, CGROUP_ROOT)) {
		if (rmdir(pins_dir))
			die("cannot remove %s: %m", pins_dir);
		*strrchr(pins_dir, '/') = '\0';
	}
	write_file(CGROUP_ROOT "/cgroup.subtree_control", "-pins");
}

uint64_t pins_current(void)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/pins.current", pins_dir);
	return read_number(path, NULL);
}

void gup_cycle(enum gup_how how, char *p, size_t bytes, unsigned int per_call,
	       struct gup_cost *cost)
{
	struct gup_test gup = {
		.addr = (uintptr_t)p,
		.size = bytes,
		.nr_pages_per_call = per_call,
		.gup_flags = FOLL_WRITE,
	};
	unsigned long cmd = PIN_FAST_BENCHMARK;
	uint64_t start;

	if (how == GUP_LONG)
		cmd = PIN_LONGTERM_BENCHMARK;
	else if (how == GUP_LONG_FAST)
		gup.gup_flags |= FOLL_LONGTERM;

	start = now();
	if (ioctl(gup_fd, cmd, &gup))
		die("gup_test: %m");
	cost->call = now() - start - clock_cost;
	if (gup.size != bytes)
		die("gup_test pinned %zu kB of %zu kB", (size_t)gup.size / 1024,
		    bytes / 1024);
	cost->pin = gup.get_delta_usec * 1000;
	cost->unpin = gup.put_delta_usec * 1000;
}

void gup_hold(char *p, size_t bytes)
{
	struct pin_longterm_test hold = {
		.addr = (uintptr_t)p,
		.size = bytes,
		.flags = 1,		/* for writing */
	};

	if (ioctl(gup_fd, PIN_LONGTERM_TEST_START, &hold))
		die("cannot pin %zu MB: %m", bytes / MB);
}

void gup_release(void)
{
	ioctl(gup_fd, PIN_LONGTERM_TEST_STOP);
}

int uring_open(void)
{
	struct io_uring_params params = {};
	int fd = syscall(__NR_io_uring_setup, 8, &params);

	if (fd < 0)
		die("no io_uring: %m");
	return fd;
}

static void *uring_map(struct uring_queue *q, int i, off_t offset, size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, q->fd, offset);

	if (at == MAP_FAILED)
		die("cannot map a ring: %m");
	q->mappings[i] = (struct mapping){ at, bytes };
	return at;
}

void uring_queue_open(struct uring_queue *q)
{
	struct io_uring_params params = {};
	char *sq, *cq;

	q->fd = syscall(__NR_io_uring_setup, 8, &params);
	if (q->fd < 0)
		die("no io_uring: %m");
	sq = uring_map(q, 0, IORING_OFF_SQ_RING,
		       params.sq_off.array + params.sq_entries * sizeof(int));
	cq = uring_map(q, 1, IORING_OFF_CQ_RING,
		       params.cq_off.cqes + params.cq_entries * sizeof(*q->cqes));
	q->sqes = uring_map(q, 2, IORING_OFF_SQES, params.sq_entries * sizeof(*q->sqes));
	q->sq_tail = (void *)(sq + params.sq_off.tail);
	q->sq_array = (void *)(sq + params.sq_off.array);
	q->cq_head = (void *)(cq + params.cq_off.head);
	q->mask = params.cq_entries - 1;
	q->cqes = (void *)(cq + params.cq_off.cqes);
}

/* The ring goes with its last mapping. */
void uring_queue_close(struct uring_queue *q)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(q->mappings); i++)
		unmap(q->mappings[i].at, q->mappings[i].bytes);
	close(q->fd);
}

void uring_read_fixed(struct uring_queue *q, int fd, void *addr, size_t len)
{
	unsigned int head = *q->cq_head;

	q->sqes[0] = (struct io_uring_sqe) {
		.opcode = IORING_OP_READ_FIXED, .fd = fd, .addr = (uintptr_t)addr,
		.len = len,
	};
	q->sq_array[*q->sq_tail % 8] = 0;
	__atomic_store_n(q->sq_tail, *q->sq_tail + 1, __ATOMIC_RELEASE);
	if (syscall(__NR_io_uring_enter, q->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1 ||
	    q->cqes[head & q->mask].res != (int)len)
		die("cannot read into a buffer");
	__atomic_store_n(q->cq_head, head + 1, __ATOMIC_RELEASE);
}

bool uring_try_register(int fd, struct iovec *iov, unsigned int nr)
{
	return !syscall(__NR_io_uring_register, fd, IORING_REGISTER_BUFFERS, iov, nr);
}

void uring_register(int fd, struct iovec *iov, unsigned int nr)
{
	if (!uring_try_register(fd, iov, nr))
		die("cannot register %u buffers: %m", nr);
}

void uring_unregister(int fd)
{
	if (syscall(__NR_io_uring_register, fd, IORING_UNREGISTER_BUFFERS, NULL, 0))
		die("cannot unregister buffers: %m");
}

/* One command of the write() interface; returns what the answer begins with */
static uint32_t verbs(int fd, int command, void *cmd, size_t len, int answer_len)
{
	uint32_t answer[16] = {}, request[32];
	struct ib_uverbs_cmd_hdr hdr = {
		.command = command,
		.in_words = (sizeof(hdr) + len) / 4,
		.out_words = answer_len / 4,
	};

	*(uint64_t *)cmd = (uintptr_t)answer;
	memcpy(request, &hdr, sizeof(hdr));
	memcpy((char *)request + sizeof(hdr), cmd, len);
	if (write(fd, request, sizeof(hdr) + len) < 0)
		die("uverbs command %d: %m", command);
	return answer[0];
}

static uint32_t rdma_pd;

int rdma_open(void)
{
	struct ib_uverbs_get_context context = {};
	struct ib_uverbs_alloc_pd pd = {};
	int fd = open("/dev/infiniband/uverbs0", O_RDWR);

	if (fd < 0 && !system("rdma link add bench type rxe netdev lo"))
		fd = open("/dev/infiniband/uverbs0", O_RDWR);
	if (fd < 0)
		die("no RDMA: %m");
	/* The file of asynchronous events */
	close(verbs(fd, IB_USER_VERBS_CMD_GET_CONTEXT, &context, sizeof(context),
		    sizeof(struct ib_uverbs_get_context_resp)));
	rdma_pd = verbs(fd, IB_USER_VERBS_CMD_ALLOC_PD, &pd, sizeof(pd),
			sizeof(struct ib_uverbs_alloc_pd_resp));
	return fd;
}

void rdma_register(int fd, const struct iovec *iov, unsigned int nr)
{
	while (nr--) {
		struct ib_uverbs_reg_mr mr = {
			.start = (uintptr_t)iov[nr].iov_base,
			.hca_va = (uintptr_t)iov[nr].iov_base,
			.length = iov[nr].iov_len,
			.pd_handle = rdma_pd,
			.access_flags = IB_UVERBS_ACCESS_LOCAL_WRITE,
		};

		verbs(fd, IB_USER_VERBS_CMD_REG_MR, &mr, sizeof(mr),
		      sizeof(struct ib_uverbs_reg_mr_resp));
	}
}
