// SPDX-License-Identifier: GPL-2.0
/*
 * A storm: tasks of several cgroups pin and unpin at random, by all that pins,
 * memory of their own and memory that they share. Meanwhile it is unmapped,
 * split, collapsed, merged, swapped out, migrated and forked, memory blocks go
 * offline and online, limits jump, pins are taken back and used again, tasks are
 * killed, and cgroups are removed below them. When the storm is over, nothing may
 * be left of it.
 *
 * usage: test_pins_storm [SECONDS [SEED]]
 * A seed makes each process do the same again, but not at the same time.
 *
 * Copyright (C) 2026 the pins authors
 */
#define _GNU_SOURCE

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pins_util.h"

#define PINNERS		6
#define CGROUPS		5
#define MAPS		6	/* of each pinner */
#define HELD		24	/* pins of each pinner */
#define MAP_LEN		(2 * SZ_2M)

#define MEMORY		"/sys/devices/system/memory"
#define KSM		"/sys/kernel/mm/ksm"
#define KHUGEPAGED	"/sys/kernel/mm/transparent_hugepage/khugepaged"
#define HUGETLB		"/sys/kernel/mm/hugepages/hugepages-2048kB"
#define SWAPS		8	/* ramdisks, which are small */

static unsigned int seconds = 30, seed;

/* The results, shared by all processes */
static struct {
	atomic_long pins, refused, failed, unpins, changes, forks, execs, io;
	atomic_long offlined, not_offlined, shakes, uses;
	long kills, removed;
} *count;

/* Seen by all cgroups */
static struct mem shared[4];
static int nr_shared;

static unsigned int some(unsigned int *seed, unsigned int n)
{
	return rand_r(seed) % n;
}

/* The pinners */

static struct mem maps[MAPS];
static struct pin held[HELD];
static bool holds[HELD];
static char *place[HELD];	/* what a ring has registered, which it may read into */

/* Unlike mem_get(), does not insist on the size of folios. */
static void map_anew(unsigned int *seed, struct mem *m)
{
	static const int kinds[] = {
		MEM_ANON, MEM_ANON, MEM_THP, MEM_THP, MEM_MTHP, MEM_SHMEM,
		MEM_MEMFD,
	};
	int kind = kinds[some(seed, ARRAY_SIZE(kinds))], i;

	if (m->addr) {
		/* Whatever is mapped there by then is not to be read into. */
		for (i = 0; i < HELD; i++)
			if (place[i] >= m->addr && place[i] < m->addr + m->len)
				place[i] = NULL;
		munmap(m->addr, m->len);
		if (m->fd >= 0)
			close(m->fd);
	}
	*m = (struct mem){ .kind = &mem_kinds[kind], .len = MAP_LEN, .fd = -1 };
	if (kind == MEM_MEMFD) {
		m->fd = memfd_create("storm", MFD_ALLOW_SEALING);
		check(m->fd >= 0 && !ftruncate(m->fd, m->len));
		check(!fcntl(m->fd, F_ADD_SEALS, F_SEAL_SHRINK));
	}
	m->addr = mmap(mem_reserve(m->len, SZ_2M), m->len,
		       PROT_READ | PROT_WRITE,
		       m->kind->map_flags | MAP_FIXED, m->fd, 0);
	check(m->addr != MAP_FAILED);
	if (some(seed, 2))
		madvise(m->addr, m->len, m->kind->advice ?: MADV_MERGEABLE);
}

static struct mem *any_map(unsigned int *seed)
{
	if (nr_shared && !some(seed, 3))
		return &shared[some(seed, nr_shared)];
	return &maps[some(seed, MAPS)];
}

static size_t any_range(unsigned int *seed, struct mem *m, size_t *off)
{
	size_t pages = m->len / PAGE_SIZE, nr;

	nr = 1 + some(seed, some(seed, 8) ? 16 : pages);
	*off = PAGES(some(seed, pages - nr + 1));
	if (m->kind->folio >= SZ_2M && m->kind->memfd_flags) {
		*off &= ~(SZ_2M - 1);
		return SZ_2M;
	}
	return PAGES(nr);
}

static void pin_something(unsigned int *seed, struct pin *p, bool *got, char **at)
{
	struct mem *m = any_map(seed);
	/* Not gup_test: to close it while another one pins frees that one's pages */
	int source = some(seed, SOURCE_GUP), ret;
	size_t off, len;

	len = any_range(seed, m, &off);
	if (source_missing(source) || !source_takes(source, m->kind))
		return;
	if (source == SOURCE_PBUF) {
		/* The most that a buffer ring can have */
		len = PAGE_SIZE << some(seed, 6);
		if (off + len > m->len)
			off = m->len - len;
	}
	ret = pin_part(p, source, m, off, len);
	switch (-ret) {
	case 0:
		*got = true;
		*at = source == SOURCE_URING ? m->addr + off : NULL;
		count->pins++;
		break;
	case ENOMEM:
		count->refused++;
		break;
	/* Pages could not be allocated or migrated for a while */
	case EFAULT:
	case EBUSY:
	case EAGAIN:
	case EINTR:
		count->failed++;
		break;
	default:
		pins_check_eq(ret, 0, pin_sources[source].name, __FILE__,
			      __LINE__);
	}
}

static void change_something(unsigned int *seed)
{
	static const int advice[] = {
		MADV_DONTNEED, MADV_FREE, MADV_PAGEOUT, MADV_COLD,
		MADV_MERGEABLE, MADV_UNMERGEABLE, MADV_HUGEPAGE,
		MADV_NOHUGEPAGE, MADV_POPULATE_WRITE, MADV_REMOVE,
		MADV_COLLAPSE,
	};
	struct mem *m = &maps[some(seed, MAPS)];
	unsigned long nodes = 1 + some(seed, 3), all = 3;
	size_t off, len = any_range(seed, m, &off);
	char *addr = m->addr + off;

	count->changes++;
	switch (some(seed, 8)) {
	case 0:
		map_anew(seed, m);
		break;
	case 1:
		memset(addr, some(seed, 2), len);
		break;
	case 2:
		mprotect(addr, len, PROT_READ);
		mprotect(m->addr, m->len, PROT_READ | PROT_WRITE);
		break;
	case 3:
		syscall(SYS_mbind, addr, len, MPOL_BIND, &nodes, 8,
			MPOL_MF_MOVE);
		break;
	case 4:
		if (!some(seed, 8))
			syscall(SYS_migrate_pages, 0, 8, &all, &nodes);
		break;
	default:
		madvise(addr, len, advice[some(seed, ARRAY_SIZE(advice))]);
	}
}

/* A child with the same memory and the same files, for a while. */
static void fork_something(unsigned int *seed)
{
	struct mem *m = &maps[some(seed, MAPS)];
	size_t off, len = any_range(seed, m, &off);
	bool exec = !some(seed, 6);
	int wait = some(seed, 20000);
	pid_t pid;

	pid = fork();
	if (pid < 0)
		return;
	if (pid) {
		count->forks++;
		return;
	}
	if (exec) {
		count->execs++;
		execlp("sleep", "sleep", "0.02", NULL);
		_exit(0);
	}
	memset(m->addr + off, 3, len);
	usleep(wait);
	_exit(0);
}

/* A ring reads into some of its buffer, whose pins may have been taken back. */
static void use(unsigned int *seed, const struct pin *p, char *at)
{
	static int zero = -1;
	size_t pages = p->len / PAGE_SIZE, off = some(seed, pages);
	size_t len = PAGES(1 + some(seed, pages - off));
	int ret;

	if (zero < 0)
		zero = open("/dev/zero", O_RDONLY);
	ret = uring_read(p->fd, zero, at + PAGES(off), len);
	count->uses++;
	switch (-ret) {
	/* What was unmapped meanwhile, or does not fit */
	case EFAULT:
	case ENOMEM:
	/* Pages could not be migrated for a while */
	case EBUSY:
	case EAGAIN:
	case EINTR:
		break;
	default:
		/* Less if there was a signal */
		check(ret > 0 && ret <= (int)len && !(ret % PAGE_SIZE));
	}
}

static void do_io(unsigned int *seed)
{
	static int dev = -1;
	struct mem *m = any_map(seed);
	size_t off;

	if (dev < 0)
		dev = open("/dev/nullb0", O_RDWR | O_DIRECT);
	any_range(seed, m, &off);
	if (dev < 0)
		return;
	count->io++;
	if (some(seed, 2))
		(void)!pread(dev, m->addr + off, PAGE_SIZE, 0);
	else
		(void)!pwrite(dev, m->addr + off, PAGE_SIZE, 0);
}

/* Enters one of the cgroups, which may be about to be removed. */
static void enter_some(unsigned int *seed)
{
	char name[16], *cg;
	int ret;

	do {
		snprintf(name, sizeof(name), "a/%d", some(seed, CGROUPS));
		cg = cg_name(pins_top, name);
		ret = cg_enter_current(cg);
		free(cg);
		if (ret)
			usleep(1000);
	} while (ret);
}

static void __noreturn pinning(unsigned int seed)
{
	int i;

	signal(SIGCHLD, SIG_IGN);
	enter_some(&seed);
	for (i = 0; i < MAPS; i++)
		map_anew(&seed, &maps[i]);
	for (;;) {
		i = some(&seed, HELD);
		switch (some(&seed, 24)) {
		case 0:
			fork_something(&seed);
			break;
		case 1:
			enter_some(&seed);
			break;
		case 2:
			do_io(&seed);
			break;
		case 3 ... 5:
			change_something(&seed);
			break;
		default:
			if (!holds[i]) {
				pin_something(&seed, &held[i], &holds[i], &place[i]);
				break;
			}
			if (place[i] && some(&seed, 4)) {
				use(&seed, &held[i], place[i]);
				break;
			}
			if (some(&seed, 2))
				unpin(&held[i]);
			else
				unpin_by_close(&held[i]);
			holds[i] = false;
			count->unpins++;
		}
	}
}

/* The processes that move, split and swap the memory of all */

static void interrupted(int sig)
{
}

/*
 * Splitting by debugfs looks at struct pages that offlining may be taking away
 * (VM_BUG_ON_PAGE() in split_huge_pages_all()): not at the same time.
 */
static int struct_pages = -1;

static void struct_pages_lock(short type)
{
	struct flock lock = { .l_type = type };

	check(!fcntl(struct_pages, F_SETLKW, &lock));
}

static int memory_blocks(int *block, int most)
{
	struct dirent *entry;
	DIR *dir = opendir(MEMORY);
	int nr = 0;

	while (dir && nr < most && (entry = readdir(dir)))
		if (sscanf(entry->d_name, "memory%d", &block[nr]) == 1)
			nr++;
	if (dir)
		closedir(dir);
	return nr;
}

static int block_write(int block, char *state)
{
	char path[64];

	snprintf(path, sizeof(path), MEMORY "/memory%d", block);
	return cg_write(path, "state", state);
}

/* Offlining tries until it succeeds or is interrupted. */
static void __noreturn offlining(unsigned int seed)
{
	struct itimerval soon = { .it_value.tv_sec = 2 }, never = { };
	struct sigaction sa = { .sa_handler = interrupted };
	int block[512], nr = memory_blocks(block, ARRAY_SIZE(block)), i, failed;

	sigaction(SIGALRM, &sa, NULL);
	while (nr) {
		i = some(&seed, nr);
		struct_pages_lock(F_WRLCK);
		setitimer(ITIMER_REAL, &soon, NULL);
		failed = block_write(block[i], "offline");
		setitimer(ITIMER_REAL, &never, NULL);
		struct_pages_lock(F_UNLCK);
		if (failed) {
			count->not_offlined++;
		} else {
			count->offlined++;
			usleep(some(&seed, 100000));
		}
		while (block_write(block[i], some(&seed, 2) ? "online_kernel" :
				   "online_movable") && errno == EINTR)
			;
		usleep(some(&seed, 200000));
	}
	for (;;)
		pause();
}

static void __noreturn shaking(unsigned int seed)
{
	enum { COMPACT, DROP, SPLIT };
	static const struct {
		const char *dir, *file, *text;
	} shakers[] = {
		[COMPACT] = { "/proc/sys/vm", "compact_memory", "1" },
		[DROP] = { "/proc/sys/vm", "drop_caches", "3" },
		[SPLIT] = { "/sys/kernel/debug", "split_huge_pages", "1" },
	};
	const char *dir;
	int i;

	for (;;) {
		i = some(&seed, ARRAY_SIZE(shakers));
		dir = shakers[i].dir;
		if (i == SPLIT)
			struct_pages_lock(F_WRLCK);
		cg_write(dir, shakers[i].file, (char *)shakers[i].text);
		if (i == SPLIT)
			struct_pages_lock(F_UNLCK);
		count->shakes++;
		usleep(some(&seed, 1000000));
	}
}

static void online_again(void)
{
	int block[512], nr = memory_blocks(block, ARRAY_SIZE(block));

	while (nr--)
		block_write(block[nr], "online");
}

/* The storm itself */

static pid_t start(void (*fn)(unsigned int), unsigned int seed)
{
	pid_t pid = test_fork();

	if (!pid)
		fn(seed);
	return pid;
}

static pid_t start_pinner(int nr, unsigned int seed)
{
	pid_t pid = test_fork();

	if (!pid)
		pinning(seed);
	return pid;
}

/* Nothing but a kill may end a process of the storm. */
static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	check_eq(reap(pid), 128 + SIGKILL);
}

static void share(int kind, size_t len)
{
	if (kind == MEM_HUGETLB_FD && cg_read_long(HUGETLB, "free_hugepages") <
				      (long)(len / SZ_2M))
		return;
	shared[nr_shared++] = mem_get(kind, len);
}

static char *cg_nr(int nr)
{
	char name[16];

	snprintf(name, sizeof(name), "a/%d", nr);
	return cg_name(pins_top, name);
}

static void stir(unsigned int *seed, const char *top, pid_t *pinner)
{
	static const long limits[] = { 0, 100, 1000, 10000, 100000 };
	static char *const waits[] = { "0", "1000", "max", "inherit" };
	static char *const sizes[] = { "64k", "2M", "16M", "1G" };
	char *cg = cg_nr(some(seed, CGROUPS));
	int i = some(seed, PINNERS), status;

	switch (some(seed, 14)) {
	case 0 ... 1:
		end(pinner[i]);
		count->kills++;
		pinner[i] = start_pinner(i, rand_r(seed));
		break;
	case 2:
		/* Kills its tasks; their pins may outlive the cgroup */
		check_eq(cg_destroy(cg), 0);
		check_eq(cg_create(cg), 0);
		count->removed++;
		for (i = 0; i < PINNERS; i++) {
			if (waitpid(pinner[i], &status, WNOHANG) != pinner[i])
				continue;
			check(WIFSIGNALED(status));
			check_eq(WTERMSIG(status), SIGKILL);
			count->kills++;
			pinner[i] = start_pinner(i, rand_r(seed));
		}
		break;
	case 3 ... 4:
		set_max(some(seed, 4) ? cg : top,
			PAGES(limits[some(seed, ARRAY_SIZE(limits))]));
		break;
	case 5:
		check_eq(cg_write(some(seed, 2) ? cg : top, "pins.max", "max"),
			 0);
		break;
	case 6:
		if (cg_has(cg, "pins.steer"))
			check_eq(cg_write(cg, "pins.steer",
					  some(seed, 2) ? "block" : "zone"), 0);
		break;
	case 7:
		if (cg_has(cg, "pins.wait.max"))
			check_eq(cg_write(some(seed, 2) ? cg : top, "pins.wait.max",
					  waits[some(seed, ARRAY_SIZE(waits))]), 0);
		break;
	case 8:
		if (cg_has(cg, "pins.revoke"))
			check_eq(cg_write(some(seed, 4) ? cg : top, "pins.revoke",
					  some(seed, 4) ? "idle" : "never"), 0);
		break;
	case 9 ... 11:
		/* There may be less. */
		if (cg_has(cg, "pins.reclaim") &&
		    cg_write(some(seed, 2) ? cg : top, "pins.reclaim",
			     sizes[some(seed, ARRAY_SIZE(sizes))]))
			check_eq(errno, EAGAIN);
		break;
	default:
		check(pins_current(cg) >= 0 && pins_current(top) >= 0);
		check(pins_peak(cg) >= 0 && pins_stat(cg, "anon") >= 0);
	}
	free(cg);
}

static void storm(void)
{
	time_t until = time(NULL) + seconds;
	char *top = cg_make("a"), *cg;
	pid_t pinner[PINNERS], shaker[2];
	unsigned int next = seed;
	int i;

	need_source(SOURCE_URING);
	alarm(seconds + 600);
	share(MEM_MEMFD, MAP_LEN);
	share(MEM_SHMEM, MAP_LEN);
	share(MEM_HUGETLB_FD, MAP_LEN);
	/* Keep static keys from being switched all the time: not tested here */
	cg = cg_make("b");
	if (cg_has(cg, "pins.steer"))
		check_eq(cg_write(cg, "pins.steer", "block"), 0);
	if (cg_has(cg, "pins.wait.max"))
		check_eq(cg_write(cg, "pins.wait.max", "max"), 0);
	if (cg_has(cg, "pins.revoke"))
		check_eq(cg_write(cg, "pins.revoke", "idle"), 0);
	for (i = 0; i < CGROUPS; i++) {
		cg = cg_nr(i);
		check_eq(cg_write(top, "cgroup.subtree_control", "+pins"), 0);
		check_eq(cg_create(cg), 0);
		free(cg);
	}
	struct_pages = memfd_create("struct pages", 0);
	check(struct_pages >= 0);
	for (i = 0; i < PINNERS; i++)
		pinner[i] = start_pinner(i, rand_r(&next));
	shaker[0] = start(offlining, rand_r(&next));
	shaker[1] = start(shaking, rand_r(&next));
	while (time(NULL) < until) {
		stir(&next, top, pinner);
		usleep(some(&next, 100000));
	}
	for (i = 0; i < PINNERS; i++)
		end(pinner[i]);
	for (i = 0; i < ARRAY_SIZE(shaker); i++)
		end(shaker[i]);

	/* Children of theirs still run for a moment */
	check_reaches(top, 0);
	check_eq(pins_stat(top, "unpins"), pins_stat(top, "pins"));
	ksft_print_msg("%ld pins, %ld refused, %ld failed, %ld unpins\n",
		       count->pins, count->refused, count->failed,
		       count->unpins);
	ksft_print_msg("%ld changes, %ld forks, %ld execs, %ld direct I/O\n",
		       count->changes, count->forks, count->execs, count->io);
	ksft_print_msg("%ld uses of buffers, %ld pages taken back, %ld pinned again\n",
		       count->uses, pins_stat(top, "revoked"), pins_stat(top, "repinned"));
	ksft_print_msg("%ld killed, %ld cgroups removed, %ld blocks offline, %ld not, %ld shakes\n",
		       count->kills, count->removed, count->offlined,
		       count->not_offlined, count->shakes);
}

/* Swap, KSM and khugepaged, for the time of the storm */

static void swap_name(char *name, size_t len, int nr)
{
	snprintf(name, len, "/dev/ram%d", 2 + nr);
}

static void disturb(void)
{
	char command[80], name[16];
	int i, swaps = 0;

	for (i = 0; i < SWAPS; i++) {
		swap_name(name, sizeof(name), i);
		snprintf(command, sizeof(command), "mkswap -q %s >/dev/null",
			 name);
		swaps += !system(command) && !swapon(name, 0);
	}
	if (!swaps)
		ksft_print_msg("no swap\n");
	cg_write(KSM, "sleep_millisecs", "10");
	cg_write(KSM, "pages_to_scan", "200");
	if (cg_write(KSM, "run", "1"))
		ksft_print_msg("no KSM\n");
	cg_write(KHUGEPAGED, "scan_sleep_millisecs", "100");
	if (access(MEMORY "/block_size_bytes", R_OK))
		ksft_print_msg("no memory blocks\n");
}

static void calm(void)
{
	char name[16];
	int i;

	cg_write(KSM, "run", "2");
	cg_write(KSM, "run", "0");
	cg_write(KSM, "sleep_millisecs", "20");
	cg_write(KSM, "pages_to_scan", "100");
	cg_write(KHUGEPAGED, "scan_sleep_millisecs", "10000");
	for (i = 0; i < SWAPS; i++) {
		swap_name(name, sizeof(name), i);
		swapoff(name);
	}
	online_again();
}

int main(int argc, char **argv)
{
	static char name[80];

	seed = time(NULL);
	if (argc > 1)
		seconds = strtoul(argv[1], NULL, 0);
	if (argc > 2)
		seed = strtoul(argv[2], NULL, 0);
	pins_setup(1);
	ksft_print_msg("to do this again: test_pins_storm %u %u\n", seconds,
		       seed);
	count = mmap(NULL, sizeof(*count), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (count == MAP_FAILED)
		ksft_exit_fail_perror("mmap");
	disturb();
	snprintf(name, sizeof(name),
		 "I2 zero, I7 no ghost: nothing is left of a storm");
	pins_test(name, storm);
	calm();
	pins_finish();
}
