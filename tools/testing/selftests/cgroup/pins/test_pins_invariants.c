// SPDX-License-Identifier: GPL-2.0
/*
 * The invariants of the pins controller, each with its name, where they are hard
 * to keep: several owners, unpins in other cgroups and contexts than the pins,
 * memory that changes while pinned, and races.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <linux/mman.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pins_util.h"
#include "../../../../../mm/gup_test.h"

/* I1 once */

static void once_per_cgroup(void)
{
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_ANON, 0);
	struct pin p[100];
	int i;

	for (i = 0; i < ARRAY_SIZE(p); i++) {
		check_eq(pin(&p[i], SOURCE_URING, &m), 0);
		check_eq(pins_current(cg), m.len);
	}
	for (i = 0; i < ARRAY_SIZE(p); i++) {
		check_eq(pins_current(cg), m.len);
		unpin(&p[i]);
	}
	check_eq(pins_current(cg), 0);
}

/* All sources pin the same memfd, and unpin it one after the other. */
static void all_sources(bool backwards)
{
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_MEMFD, 0);
	struct pin p[NR_SOURCES];
	int i, nr = 0;

	for (i = 0; i < SOURCE_GUP_FAST; i++)
		if (!source_missing(i))
			check_eq(pin(&p[nr++], i, &m), 0);
	if (nr < 2)
		skip("only one source");
	for (i = 0; i < nr; i++) {
		check_eq(pins_current(cg), m.len);
		unpin(&p[backwards ? nr - 1 - i : i]);
	}
	check_reaches(cg, 0);
}

static void all_sources_forwards(void)
{
	all_sources(false);
}

static void all_sources_backwards(void)
{
	all_sources(true);
}

static void pieces_of_thp(void)
{
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_THP, SZ_2M);
	struct pin p[8];
	int i;

	for (i = 0; i < ARRAY_SIZE(p); i++) {
		check_eq(pin_part(&p[i], SOURCE_URING, &m, i * SZ_64K,
				  PAGE_SIZE), 0);
		check_eq(pins_current(cg), SZ_2M);
	}
	for (i = 0; i < ARRAY_SIZE(p); i++) {
		check_eq(pins_current(cg), SZ_2M);
		unpin(&p[i]);
	}
	check_eq(pins_current(cg), 0);
}

/* One registration that contains every page several times. */
static void twice_in_a_request(void)
{
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_MEMFD, PAGES(8));
	char *both = mem_reserve(2 * m.len, PAGE_SIZE);
	struct iovec iov[3] = {
		{ both, 2 * m.len }, { both + 100, PAGE_SIZE }, { both, m.len },
	};
	int ring = uring_setup(), i;

	for (i = 0; i < 2; i++)
		check(mmap(both + i * m.len, m.len, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_FIXED, m.fd, 0) != MAP_FAILED);
	set_max(cg, m.len);
	check_eq(uring_register(ring, IORING_REGISTER_BUFFERS, iov, 3), 0);
	check_eq(pins_current(cg), m.len);
	check_eq(uring_register(ring, IORING_UNREGISTER_BUFFERS, NULL, 0), 0);
	check_eq(pins_current(cg), 0);
	check_eq(pins_peak(cg), m.len);
}

/* io_uring pins all pages of a huge folio, then drops all but one. */
static void coalesced_buffers(void)
{
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_THP, 2 * SZ_2M);
	struct iovec iov[] = {
		{ m.addr, m.len },
		{ m.addr + SZ_2M - SZ_64K, 2 * SZ_64K },
		{ m.addr + 3 * PAGE_SIZE + 5, SZ_2M + SZ_64K },
		{ m.addr + SZ_64K, SZ_64K },
	}, none = {};
	struct io_uring_rsrc_update2 update = { .nr = 1 };
	int ring = uring_setup(), i;

	check_eq(uring_register(ring, IORING_REGISTER_BUFFERS, iov,
				ARRAY_SIZE(iov)), 0);
	for (i = 0; i < ARRAY_SIZE(iov); i++) {
		check_eq(pins_current(cg), i < 3 ? m.len : SZ_2M);
		update.offset = i;
		update.data = (uintptr_t)&none;
		check_eq(uring_register(ring, IORING_REGISTER_BUFFERS_UPDATE,
					&update, sizeof(update)), 1);
	}
	check_reaches(cg, 0);
	check_eq(pins_stat(cg, "unpins"), pins_stat(cg, "pins"));
}

static void shared_by_cgroups(void)
{
	char *top = cg_make("a"), *cg[2], name[16];
	struct mem m = mem_get(MEM_MEMFD, 0);
	struct pin p[2];
	int i;

	for (i = 0; i < 2; i++) {
		snprintf(name, sizeof(name), "a/%d", i);
		cg[i] = enter_new(name);
		check_eq(pin(&p[i], SOURCE_URING, &m), 0);
	}
	check_eq(pins_current(cg[0]), m.len);
	check_eq(pins_current(cg[1]), m.len);
	check_eq(pins_current(top), 2 * m.len);
	for (i = 0; i < 2; i++) {
		enter(cg[i]);
		unpin(&p[i]);
		check_eq(pins_current(cg[i]), 0);
		check_eq(pins_current(top), (1 - i) * m.len);
	}
}

/* I2 zero */

/* Three overlapping buffers (a bit for each page) are unpinned in every order. */
static void any_order(void)
{
	static const struct {
		int first, nr;
	} part[3] = { { 0, 16 }, { 4, 8 }, { 7, 1 } };
	static const int order[6][3] = {
		{ 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 },
		{ 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 },
	};
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_ANON, PAGES(16));
	struct pin p[3];
	int o, i, j, held;

	for (o = 0; o < 6; o++) {
		for (i = 0; i < 3; i++)
			check_eq(pin_part(&p[i], SOURCE_URING, &m,
					  PAGES(part[i].first),
					  PAGES(part[i].nr)), 0);
		for (i = 0; i < 3; i++) {
			unpin(&p[order[o][i]]);
			held = 0;
			for (j = i + 1; j < 3; j++)
				held |= ((1 << part[order[o][j]].nr) - 1) <<
					part[order[o][j]].first;
			check_eq(pins_current(cg),
				 PAGES(__builtin_popcount(held)));
		}
	}
}

/* A process that pins in that cgroup by every means and then waits. */
static pid_t pinning_process(const char *cg, int *nr)
{
	struct baton ready = baton_make();
	struct pin p[NR_SOURCES];
	struct mem m;
	int source;
	pid_t pid;

	pid = test_fork();
	if (!pid) {
		enter(cg);
		for (source = 0; source < SOURCE_GUP; source++) {
			if (source_missing(source))
				continue;
			m = mem_get(MEM_MEMFD, 0);
			check_eq(pin(&p[source], source, &m), 0);
		}
		m = mem_get(mem_huge(), SZ_2M);
		check_eq(pin(&p[0], SOURCE_URING, &m), 0);
		baton_pass(&ready);
		pause();
	}
	baton_take(&ready);
	*nr = 0;
	for (source = 0; source < SOURCE_GUP; source++)
		*nr += !source_missing(source);
	return pid;
}

static void ended_by(int sig)
{
	char *cg = cg_make("a");
	pid_t pid;
	int nr;

	need_source(SOURCE_URING);
	pid = pinning_process(cg, &nr);
	check_eq(pins_current(cg), SZ_2M + nr * SZ_64K);
	check_eq(kill(pid, sig), 0);
	check_eq(reap(pid), 128 + sig);
	check_reaches(cg, 0);
	check_eq(pins_stat(cg, "unpins"), pins_stat(cg, "pins"));
}

static void ended_by_term(void)
{
	ended_by(SIGTERM);
}

static void ended_by_kill(void)
{
	ended_by(SIGKILL);
}

static void cgroup_killed(void)
{
	char *cg = cg_make("a");
	int nr;

	need_source(SOURCE_URING);
	pinning_process(cg, &nr);
	pinning_process(cg, &nr);
	check_eq(cg_write(cg, "cgroup.kill", "1"), 0);
	check_reaches(cg, 0);
}

static void ring_closed(void)
{
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_THP, 0);
	struct pin p;

	check_eq(pin(&p, SOURCE_URING, &m), 0);
	check_eq(pins_current(cg), m.len);
	unpin_by_close(&p);
	check_reaches(cg, 0);
}

static void rings_share_buffers(void)
{
	struct io_uring_clone_buffers clone = {};
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_ANON, 0);
	int ring = uring_setup(), ret;
	struct pin p;

	check_eq(pin(&p, SOURCE_URING, &m), 0);
	clone.src_fd = p.fd;
	ret = uring_register(ring, IORING_REGISTER_CLONE_BUFFERS, &clone, 1);
	if (ret)
		skip("no cloning of buffers: %s", strerror(-ret));
	check_eq(pins_current(cg), m.len);
	unpin(&p);
	check_eq(pins_current(cg), m.len);
	check_eq(uring_register(ring, IORING_UNREGISTER_BUFFERS, NULL, 0), 0);
	check_eq(pins_current(cg), 0);
}

static void unmapped_while_pinned(void)
{
	static const int kinds[] = { MEM_ANON, MEM_HUGETLB, MEM_SHMEM, MEM_THP };
	char *cg = enter_new("a");
	struct pin p[ARRAY_SIZE(kinds)];
	long held = 0;
	struct mem m;
	int i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		m = mem_get(kinds[i], 0);
		check_eq(pin(&p[i], SOURCE_URING, &m), 0);
		check_eq(munmap(m.addr, m.len), 0);
		held += m.len;
	}
	check_eq(pins_current(cg), held);
	for (i = 0; i < ARRAY_SIZE(kinds); i++)
		unpin(&p[i]);
	check_reaches(cg, 0);
}

/* A partly unmapped huge folio could be split or freed, were it not pinned. */
static void thp_in_pieces(void)
{
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_THP, 2 * SZ_2M);
	struct pin p, q;

	check_eq(pin_part(&p, SOURCE_URING, &m, SZ_64K, PAGE_SIZE), 0);
	check_eq(pin_part(&q, SOURCE_URING, &m, SZ_2M, SZ_2M), 0);
	check_eq(munmap(m.addr, SZ_2M / 2), 0);
	check_eq(madvise(m.addr + SZ_2M, SZ_2M / 2, MADV_DONTNEED), 0);
	check_eq(madvise(m.addr + SZ_2M, SZ_2M, MADV_FREE), 0);
	check_eq(pins_current(cg), 2 * SZ_2M);
	unpin(&q);
	check_eq(pins_current(cg), SZ_2M);
	unpin(&p);
	check_eq(pins_current(cg), 0);
}

/* Pinned pages are replaced in the mapping, and the new ones are pinned as well. */
static void replaced_while_pinned(void)
{
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_ANON, 0);
	struct pin p, q;

	check_eq(pin(&p, SOURCE_URING, &m), 0);
	check_eq(madvise(m.addr, m.len, MADV_DONTNEED), 0);
	check_eq(pin(&q, SOURCE_URING, &m), 0);
	check_eq(pins_current(cg), 2 * m.len);
	unpin(&p);
	check_eq(pins_current(cg), m.len);
	unpin(&q);
	check_eq(pins_current(cg), 0);
}

static void moved_while_pinned(void)
{
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_ANON, 0);
	struct pin p, q;
	char *to = mem_reserve(m.len, PAGE_SIZE);

	check_eq(pin(&p, SOURCE_URING, &m), 0);
	m.addr = mremap(m.addr, m.len, m.len, MREMAP_MAYMOVE | MREMAP_FIXED,
			to);
	check(m.addr == to);
	check_eq(pin(&q, SOURCE_URING, &m), 0);
	check_eq(pins_current(cg), m.len);
	unpin(&p);
	unpin(&q);
	check_eq(pins_current(cg), 0);
}

/* The file loses its pages, the pins do not. */
static void hole_punched(void)
{
	static const int kinds[] = { MEM_MEMFD, MEM_HUGETLB_FD };
	char *cg = enter_new("a");
	struct pin p, q;
	struct mem m;
	int i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		m = mem_get(kinds[i], 0);
		check_eq(pin(&p, SOURCE_URING, &m), 0);
		check_eq(fallocate(m.fd, FALLOC_FL_PUNCH_HOLE |
				   FALLOC_FL_KEEP_SIZE, 0, m.len), 0);
		check_eq(pins_current(cg), m.len);
		check_eq(pin(&q, SOURCE_URING, &m), 0);
		check_eq(pins_current(cg), 2 * m.len);
		unpin(&p);
		check_eq(pins_current(cg), m.len);
		unpin(&q);
		check_eq(pins_current(cg), 0);
	}
}

/* What tries to move or split memory must leave pinned folios and charges. */
static void shaken(void)
{
	static const struct {
		const char *path, *text;
	} shakers[] = {
		{ "/proc/sys/vm/compact_memory", "1" },
		{ "/proc/sys/vm/drop_caches", "3" },
		{ "/sys/kernel/debug/split_huge_pages", "1" },
	};
	char *cg = enter_new("a");
	struct mem small = mem_get(MEM_ANON, 0), huge = mem_get(MEM_THP, SZ_2M);
	struct pin p, q;
	int i;

	check_eq(pin(&p, SOURCE_URING, &small), 0);
	check_eq(pin_part(&q, SOURCE_URING, &huge, 0, PAGE_SIZE), 0);
	for (i = 0; i < ARRAY_SIZE(shakers); i++)
		write_text(shakers[i].path, (char *)shakers[i].text, 1);
	madvise(small.addr, small.len, MADV_PAGEOUT);
	check_eq(pins_current(cg), small.len + SZ_2M);
	check_eq(mem_folio(huge.addr), SZ_2M);
	unpin(&p);
	unpin(&q);
	check_eq(pins_current(cg), 0);
}

/* In the reference count of a small folio a pin is 1024 references: a thousand
 * mappings must not be mistaken for a pin.
 */
static void mapped_often(void)
{
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_MEMFD, PAGE_SIZE);
	struct pin p;
	int i;

	for (i = 0; i < 1500; i++)
		check(mmap(NULL, PAGE_SIZE, PROT_READ,
			   MAP_SHARED | MAP_POPULATE, m.fd, 0) != MAP_FAILED);
	check_eq(pin(&p, SOURCE_URING, &m), 0);
	check_eq(pins_current(cg), PAGE_SIZE);
	unpin(&p);
	check_eq(pins_current(cg), 0);
}

/* References from a pipe cannot be told from pins. The charge may stay while
 * they are there and after, but must go when the page is freed or pinned again.
 */
static void referenced_often(bool freed)
{
	char *b = cg_make("b"), *a = enter_new("a");
	struct mem m = mem_get(MEM_ANON, PAGE_SIZE);
	struct iovec iov = { m.addr, 1 };
	struct baton pipes[6];
	int i, refs = 0;
	struct pin p;

	check_eq(pin(&p, SOURCE_URING, &m), 0);
	for (i = 0; i < ARRAY_SIZE(pipes); i++) {
		pipes[i] = baton_make();
		check(fcntl(pipes[i].fd[1], F_SETPIPE_SZ, 1 << 20) > 0);
		while (vmsplice(pipes[i].fd[1], &iov, 1,
				SPLICE_F_NONBLOCK) == 1)
			refs++;
	}
	check(refs > 1024);
	check_eq(pins_current(a), PAGE_SIZE);
	unpin(&p);
	for (i = 0; i < ARRAY_SIZE(pipes); i++) {
		close(pipes[i].fd[0]);
		close(pipes[i].fd[1]);
	}
	if (freed) {
		check_eq(munmap(m.addr, m.len), 0);
	} else {
		enter(b);
		check_eq(pin(&p, SOURCE_URING, &m), 0);
		check_eq(pins_current(b), PAGE_SIZE);
	}
	check_reaches(a, 0);
}

static void referenced_and_freed(void)
{
	referenced_often(true);
}

static void referenced_and_pinned(void)
{
	referenced_often(false);
}

/* Pins of the root cgroup may keep the charge of another cgroup. They are released
 * as one array, which begins with a page that nobody else has pinned.
 */
static void kept_by_uncharged_pins(void)
{
	struct pin early, late;
	struct mem m;
	char *a;

	need_source(SOURCE_GUP);
	a = enter_new("a");
	m = mem_get(MEM_THP, 2 * SZ_2M);
	check(mmap(m.addr + SZ_2M, SZ_64K, PROT_READ | PROT_WRITE, MAP_FIXED |
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == m.addr + SZ_2M);
	enter_root();
	check_eq(pin_part(&early, SOURCE_GUP, &m, SZ_2M - SZ_64K, 2 * SZ_64K),
		 0);
	enter(a);
	check_eq(pin_part(&late, SOURCE_URING, &m, SZ_2M, SZ_64K), 0);
	check_eq(pins_current(a), SZ_64K);
	unpin(&late);
	unpin(&early);
	check_eq(pins_current(a), 0);
}

static void forked_while_pinned(void)
{
	static const int kinds[] = { MEM_ANON, MEM_SHMEM, MEM_THP };
	char *cg = enter_new("a");
	struct baton forked, wrote;
	struct pin p, q;
	struct mem m;
	pid_t pid;
	int i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		m = mem_get(kinds[i], 0);
		check_eq(pin(&p, SOURCE_URING, &m), 0);
		forked = baton_make();
		wrote = baton_make();
		pid = test_fork();
		if (!pid) {
			memset(m.addr, 2, m.len);
			baton_pass(&forked);
			baton_take(&wrote);
			_exit(0);
		}
		baton_take(&forked);
		memset(m.addr, 3, m.len);
		check_eq(pins_current(cg), m.len);
		/* It is still the parent's memory that is pinned */
		check_eq(pin(&q, SOURCE_URING, &m), 0);
		check_eq(pins_current(cg), m.len);
		unpin(&q);
		baton_pass(&wrote);
		check_eq(reap(pid), 0);
		check_eq(pins_current(cg), m.len);
		/* The child has closed the ring that it inherited */
		unpin(&p);
		check_reaches(cg, 0);
	}
}

/* A process that pins and then becomes another program, till the end of @end. */
static pid_t exec_program(int ring_flags, struct baton *end)
{
	struct baton ready = baton_make();
	struct mem m;
	struct pin p;
	pid_t pid;

	*end = baton_make();
	pid = test_fork();
	if (!pid) {
		m = mem_get(MEM_ANON, 0);
		check_eq(pin(&p, SOURCE_URING, &m), 0);
		check_eq(fcntl(p.fd, F_SETFD, ring_flags), 0);
		check_eq(dup2(end->fd[0], 0), 0);
		check_eq(dup2(ready.fd[1], 1), 1);
		check_eq(close(end->fd[1]), 0);
		execlp("sh", "sh", "-c", "echo; exec cat", NULL);
		_exit(1);
	}
	baton_take(&ready);
	return pid;
}

/* A ring outlives the memory of the program that made it, unless it is told. */
static void exec_while_pinned(void)
{
	char *cg = enter_new("a");
	struct baton end;
	pid_t pid;

	pid = exec_program(0, &end);
	check_eq(pins_current(cg), SZ_64K);
	check_eq(close(end.fd[1]), 0);
	check_eq(reap(pid), 0);
	check_reaches(cg, 0);

	pid = exec_program(FD_CLOEXEC, &end);
	check_reaches(cg, 0);
	check_eq(close(end.fd[1]), 0);
	check_eq(reap(pid), 0);
}

static void removed_cgroup(void)
{
	char *top = cg_make("a"), *cg = enter_new("a/b");
	struct mem m = mem_get(MEM_THP, SZ_2M), n = mem_get(MEM_ANON, 0);
	struct pin p, q;

	check_eq(pin(&p, SOURCE_URING, &m), 0);
	check_eq(pin(&q, SOURCE_URING, &n), 0);
	enter_root();
	check_eq(cg_destroy(cg), 0);
	check_eq(pins_dying(top), 1);
	check_eq(pins_current(top), SZ_2M + SZ_64K);
	check_eq(pins_stat(top, "anon"), SZ_2M + SZ_64K);
	unpin(&p);
	check_eq(pins_current(top), SZ_64K);
	unpin(&q);
	check_eq(pins_current(top), 0);
	check_eq(pins_stat(top, "anon"), 0);
	check_eq(pins_stat(top, "unpins"), pins_stat(top, "pins"));
}

/* Every pin of a page by another cgroup, of which all but one are gone. */
static void fifty_owners(void)
{
	char *top = cg_make("a"), *cg[50], name[16];
	struct mem m = mem_get(MEM_MEMFD, PAGE_SIZE);
	struct pin p[ARRAY_SIZE(cg)];
	int i, nr = ARRAY_SIZE(cg);

	for (i = 0; i < nr; i++) {
		snprintf(name, sizeof(name), "a/%d", i);
		cg[i] = enter_new(name);
		check_eq(pin(&p[i], SOURCE_URING, &m), 0);
		check_eq(pins_current(cg[i]), PAGE_SIZE);
	}
	enter(cg[0]);
	for (i = 1; i < nr; i++)
		check_eq(cg_destroy(cg[i]), 0);
	check_eq(pins_current(top), PAGES(nr));
	for (i = nr - 1; i >= 0; i--) {
		unpin(&p[i * 7 % nr]);
		check_eq(pins_current(top), PAGES(i));
	}
	check_eq(pins_current(cg[0]), 0);
}

static void disabled_and_enabled(void)
{
	char *top = cg_make("a"), *cg = enter_new("a/b");
	struct mem m = mem_get(MEM_ANON, 0);
	struct pin p, q;

	check_eq(pin(&p, SOURCE_URING, &m), 0);
	check_eq(cg_write(top, "cgroup.subtree_control", "-pins"), 0);
	check_eq(pins_current(top), m.len);
	check_eq(cg_write(top, "cgroup.subtree_control", "+pins"), 0);
	check_eq(pins_current(cg), 0);
	check_eq(pin(&q, SOURCE_URING, &m), 0);
	check_eq(pins_current(cg), m.len);
	unpin(&p);
	unpin(&q);
	check_eq(pins_current(cg), 0);
	check_eq(pins_current(top), 0);
}

static void moved_task(void)
{
	char *b = cg_make("b"), *a = enter_new("a");
	struct mem m = mem_get(MEM_ANON, 0);
	struct pin p, q;

	check_eq(pin(&p, SOURCE_URING, &m), 0);
	enter(b);
	check_eq(pins_current(a), m.len);
	check_eq(pins_current(b), 0);
	/* In another cgroup the same memory is charged again */
	check_eq(pin(&q, SOURCE_URING, &m), 0);
	check_eq(pins_current(b), m.len);
	unpin(&q);
	check_eq(pins_current(a), m.len);
	check_eq(pins_current(b), 0);
	unpin(&p);
	check_eq(pins_current(a), 0);
}

/* I3 whole */

static void refused_registration(void)
{
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_ANON, PAGES(12));
	struct iovec iov[3] = {
		{ m.addr, PAGES(4) },
		{ m.addr + PAGES(4), PAGES(4) },
		{ m.addr + PAGES(8), PAGES(4) },
	};
	int ring = uring_setup();

	set_max(cg, PAGES(11));
	check_eq(uring_register(ring, IORING_REGISTER_BUFFERS, iov, 3),
		 -ENOMEM);
	check_reaches(cg, 0);
	check_eq(pins_events(cg), 1);
	set_max(cg, PAGES(12));
	check_eq(uring_register(ring, IORING_REGISTER_BUFFERS, iov, 3), 0);
	check_eq(pins_current(cg), PAGES(12));
}

static void refused_huge_page(void)
{
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_THP, 2 * SZ_2M);
	struct pin p, q;

	set_max(cg, SZ_2M + SZ_64K);
	check_eq(pin_part(&p, SOURCE_URING, &m, SZ_2M - PAGE_SIZE,
			  2 * PAGE_SIZE), -ENOMEM);
	check_eq(pins_current(cg), 0);
	check_eq(pin_part(&p, SOURCE_URING, &m, 0, PAGE_SIZE), 0);
	check_eq(pin_part(&q, SOURCE_URING, &m, SZ_2M, PAGE_SIZE), -ENOMEM);
	check_eq(pins_current(cg), SZ_2M);
	unpin(&p);
	check_eq(pins_current(cg), 0);
}

static void refused_by_ancestor(void)
{
	char *top = cg_make("a"), *cg = enter_new("a/b");
	struct mem m = mem_get(MEM_ANON, PAGES(8));
	struct pin p, q;

	set_max(top, PAGES(7));
	check_eq(pin_part(&p, SOURCE_URING, &m, 0, PAGES(3)), 0);
	check_eq(pin(&q, SOURCE_URING, &m), -ENOMEM);
	check_eq(pins_current(cg), PAGES(3));
	check_eq(pins_current(top), PAGES(3));
	check_eq(pins_stat(cg, "anon"), PAGES(3));
	unpin(&p);
	check_eq(pins_current(top), 0);
	check_eq(pins_stat(cg, "pins"), pins_stat(cg, "unpins"));
}

/* The first allocation of a request fails, the second, and so on, until it has
 * no more. What others have pinned makes it need lists of owners. Not through
 * udmabuf: in 6.12 it forgets folios that are pinned and not yet in its list,
 * so that they stay pinned for good, with or without this controller.
 */
static void allocation_fails(void)
{
	static const int sources[] = { SOURCE_URING, SOURCE_XDP };
	char *b = cg_make("b"), *a = enter_new("a");
	int fd = fail_setup(), source, i, n, ret;
	struct pin p, other;
	struct mem m;
	bool failed;

	for (i = 0; i < 2 * ARRAY_SIZE(sources); i++) {
		source = sources[i / 2];
		if (source_missing(source))
			continue;
		if (cg_has(a, "pins.steer"))
			check_eq(cg_write(a, "pins.steer", i % 2 ? "block" : "zone"), 0);
		for (n = 1, failed = true; failed; n++) {
			/* New pages, of which the map has seen none */
			m = mem_get(MEM_MEMFD, 8 * SZ_64K);
			enter(b);
			check_eq(pin_part(&other, SOURCE_URING, &m, 0, SZ_64K),
				 0);
			enter(a);
			fail_nth(fd, n);
			ret = pin(&p, source, &m);
			failed = !cg_read_long_fd(fd);
			fail_nth(fd, 0);
			if (!ret) {
				check_eq(pins_current(a), m.len);
				unpin(&p);
			}
			/* AF_XDP unpins in a worker, which does not know the owner */
			check_reaches(pins_top, SZ_64K);
			unpin(&other);
			check_reaches(pins_top, 0);
			close(m.fd);
		}
		check_eq(ret, 0);
	}
}

/* I4 fair */

static void exact_limit(void)
{
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_ANON, PAGES(10));
	struct pin p, q, r;

	set_max(cg, PAGES(8));
	check_eq(pin_part(&p, SOURCE_URING, &m, 0, PAGES(9)), -ENOMEM);
	check_eq(pin_part(&p, SOURCE_URING, &m, 0, PAGES(8)), 0);
	check_eq(pins_current(cg), PAGES(8));

	/* Full: nothing new, all of the old */
	check_eq(pin_part(&q, SOURCE_URING, &m, PAGES(8), PAGES(1)), -ENOMEM);
	check_eq(pin_part(&q, SOURCE_URING, &m, PAGES(7), PAGES(2)), -ENOMEM);
	check_eq(pin_part(&q, SOURCE_URING, &m, 0, PAGES(8)), 0);
	check_eq(pin_part(&r, SOURCE_URING, &m, PAGES(3), PAGES(1)), 0);
	unpin(&q);
	unpin(&r);

	/* Only what is new in a request counts */
	set_max(cg, PAGES(9));
	check_eq(pin_part(&q, SOURCE_URING, &m, PAGES(1), PAGES(9)), -ENOMEM);
	check_eq(pin_part(&q, SOURCE_URING, &m, PAGES(1), PAGES(8)), 0);
	check_eq(pins_current(cg), PAGES(9));
	unpin(&p);
	check_eq(pins_current(cg), PAGES(8));
	unpin(&q);
	check_eq(pins_current(cg), 0);
}

static void repin_by_all_sources(void)
{
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_MEMFD, 0);
	struct pin p, q;
	int i;

	set_max(cg, m.len);
	check_eq(pin(&p, SOURCE_URING, &m), 0);
	for (i = 0; i < NR_SOURCES; i++) {
		if (source_missing(i))
			continue;
		check_eq(pin(&q, i, &m), 0);
		check_eq(pins_current(cg), m.len);
		unpin(&q);
	}
	set_max(cg, 0);
	check_eq(pin(&q, SOURCE_URING, &m), 0);
	unpin(&q);
	unpin(&p);
	check_reaches(cg, 0);
	check_eq(pins_events(cg), 0);
}

/* I5 short */

#define IN_FLIGHT	16

/* A block device that ends its requests in the timer's interrupt, so late that
 * they are in flight when io_submit() returns; soft for a softirq at once.
 */
static int slow_device(bool soft)
{
	int fd;

	if (!soft)
		return slow_disk(100000000);
	fd = open("/dev/nullb0", O_RDWR | O_DIRECT);
	if (fd < 0)
		skip("no /dev/nullb0");
	return fd;
}

/* Direct I/O with the first pages of m as one request each. */
static aio_context_t io_start(int fd, const struct mem *m, int op)
{
	struct iocb cb[IN_FLIGHT] = {}, *cbs[IN_FLIGHT];
	aio_context_t ctx = 0;
	int i;

	check_eq(syscall(SYS_io_setup, IN_FLIGHT, &ctx), 0);
	for (i = 0; i < IN_FLIGHT; i++) {
		cb[i].aio_lio_opcode = op;
		cb[i].aio_fildes = fd;
		cb[i].aio_buf = (uintptr_t)m->addr + PAGES(i);
		cb[i].aio_nbytes = PAGE_SIZE;
		cb[i].aio_offset = PAGES(i);
		cbs[i] = &cb[i];
	}
	check_eq(syscall(SYS_io_submit, ctx, IN_FLIGHT, cbs), IN_FLIGHT);
	return ctx;
}

static void io_finish(aio_context_t ctx)
{
	struct io_event done[IN_FLIGHT];
	int i, ret;

	/* The teardown of a ring may interrupt its task */
	do {
		ret = syscall(SYS_io_getevents, ctx, IN_FLIGHT, IN_FLIGHT,
			      done, NULL);
	} while (ret < 0 && errno == EINTR);
	check_eq(ret, IN_FLIGHT);
	for (i = 0; i < IN_FLIGHT; i++)
		check_eq(done[i].res, PAGE_SIZE);
	check_eq(syscall(SYS_io_destroy, ctx), 0);
}

/* Everything that pins or refers to pages for a short while. */
static void use_shortly(const struct mem *m, int dev)
{
	struct gup_test gup = {
		.addr = (uintptr_t)m->addr,
		.size = PAGES(IN_FLIGHT),
		.nr_pages_per_call = IN_FLIGHT,
		.gup_flags = 1,		/* FOLL_WRITE */
	};
	static const unsigned int cmds[] = {
		PIN_FAST_BENCHMARK, PIN_BASIC_TEST, GUP_FAST_BENCHMARK,
	};
	int gup_fd = open("/sys/kernel/debug/gup_test", O_RDWR), i;
	struct iovec iov = { m->addr, PAGES(IN_FLIGHT) };
	struct baton pipe = baton_make();

	for (i = 0; gup_fd >= 0 && i < ARRAY_SIZE(cmds); i++)
		check_eq(ioctl(gup_fd, cmds[i], &gup), 0);
	check(pread(dev, m->addr, PAGES(IN_FLIGHT), 0) == PAGES(IN_FLIGHT));
	check(pwrite(dev, m->addr, PAGES(IN_FLIGHT), 0) == PAGES(IN_FLIGHT));
	io_finish(io_start(dev, m, IOCB_CMD_PREAD));
	io_finish(io_start(dev, m, IOCB_CMD_PWRITE));
	check(vmsplice(pipe.fd[1], &iov, 1, SPLICE_F_NONBLOCK) > 0);
	close(pipe.fd[0]);
	close(pipe.fd[1]);
	if (gup_fd >= 0)
		close(gup_fd);
}

static void short_term_is_free(void)
{
	const int kinds[] = { MEM_ANON, MEM_MEMFD, mem_huge() };
	char *cg = enter_new("a");
	int dev = slow_device(true), i;
	struct mem m;
	struct pin p;
	long peak;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		m = mem_get(kinds[i], 0);
		peak = pins_peak(cg);
		set_max(cg, 0);
		use_shortly(&m, dev);
		check_eq(pins_current(cg), 0);
		check_eq(pins_peak(cg), peak);
		check_eq(cg_write(cg, "pins.max", "max"), 0);
		check_eq(pin(&p, SOURCE_URING, &m), 0);
		use_shortly(&m, dev);
		check_eq(pins_current(cg), m.len);
		unpin(&p);
		check_eq(pins_current(cg), 0);
	}
	check_eq(pins_stat(cg, "unpins"), pins_stat(cg, "pins"));
	check_eq(pins_events(cg), 0);
}

static void in_flight_keeps_charge(void)
{
	const int kinds[] = { MEM_ANON, mem_huge() };
	char *cg = enter_new("a");
	int dev = slow_device(false), i;
	aio_context_t io;
	struct mem m;
	struct pin p;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		m = mem_get(kinds[i], 0);
		io = io_start(dev, &m, IOCB_CMD_PWRITE);
		check_eq(pins_current(cg), 0);
		check_eq(pin(&p, SOURCE_URING, &m), 0);
		io_finish(io);
		check_eq(pins_current(cg), m.len);
		io_finish(io_start(dev, &m, IOCB_CMD_PREAD));
		check_eq(pins_current(cg), m.len);
		unpin(&p);
		check_eq(pins_current(cg), 0);
	}
}

/* I6 anywhere */

/* The long-term pin goes while I/O still holds the pages. Where the two cannot
 * be told apart it is the end of the I/O that uncharges.
 */
static void last_pin_goes_in(bool softirq)
{
	const int kinds[] = { MEM_ANON, MEM_MEMFD, mem_huge() };
	char *cg = enter_new("a");
	int dev = slow_device(softirq), i;
	aio_context_t io;
	struct mem m;
	struct pin p;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		m = mem_get(kinds[i], 0);
		check_eq(pin(&p, SOURCE_URING, &m), 0);
		io = io_start(dev, &m, IOCB_CMD_PWRITE);
		unpin(&p);
		io_finish(io);
		check_reaches(cg, 0);
	}
	check_eq(pins_stat(cg, "unpins"), pins_stat(cg, "pins"));
}

static void last_pin_goes_in_softirq(void)
{
	last_pin_goes_in(true);
}

static void last_pin_goes_in_timer(void)
{
	last_pin_goes_in(false);
}

static void removed_and_in_timer(void)
{
	char *top = cg_make("a"), *cg = enter_new("a/b");
	struct mem m = mem_get(MEM_ANON, 0);
	int dev = slow_device(false);
	aio_context_t io;
	struct pin p;

	check_eq(pin(&p, SOURCE_URING, &m), 0);
	io = io_start(dev, &m, IOCB_CMD_PWRITE);
	enter_root();
	check_eq(cg_destroy(cg), 0);
	unpin(&p);
	check_eq(munmap(m.addr, m.len), 0);
	io_finish(io);
	check_reaches(top, 0);
}

/* I7 no ghost */

static void reused_memory(void)
{
	static const int kinds[] = { MEM_ANON, MEM_HUGETLB, MEM_THP };
	char *b = cg_make("b"), *a = enter_new("a");
	struct pin p, q;
	struct mem m;
	int i;

	for (i = 0; i < 3 * ARRAY_SIZE(kinds); i++) {
		enter(a);
		m = mem_get(kinds[i % ARRAY_SIZE(kinds)], 0);
		check_eq(pin(&p, SOURCE_URING, &m), 0);
		check_eq(munmap(m.addr, m.len), 0);
		unpin(&p);

		/* The allocator reuses first what was freed last */
		enter(b);
		m = mem_get(kinds[i % ARRAY_SIZE(kinds)], 0);
		check_eq(pin(&q, SOURCE_URING, &m), 0);
		check_eq(pins_current(a), 0);
		check_eq(pins_current(b), m.len);
		unpin(&q);
		check_eq(munmap(m.addr, m.len), 0);
		check_eq(pins_current(b), 0);
	}
}

/* Device DAX in pages of 4 kB, which the page allocator never sees. */

#define ND	"/sys/bus/nd/"

static char dax[32];		/* the device that is made, such as dax0.0 */

static bool nd_write(char *file, char *text)
{
	char line[64];

	snprintf(line, sizeof(line), "%s\n", text);
	return !cg_write(ND, file, line);
}

static bool dax_write(const char *attr, char *text)
{
	char file[64];

	snprintf(file, sizeof(file), "devices/%s/%s", dax, attr);
	return nd_write(file, text);
}

/* Erases the superblock that makes the memory a device DAX. */
static void erase_dax(void)
{
	static char zero[16 << 10];
	int fd;

	nd_write("drivers/dax_pmem/unbind", dax);
	dax_write("namespace", "");
	nd_write("devices/namespace0.0/force_raw", "1");
	nd_write("drivers/nd_pmem/bind", "namespace0.0");
	fd = open("/dev/pmem0", O_WRONLY | O_SYNC);
	if (fd >= 0) {
		check(write(fd, zero, sizeof(zero)) == sizeof(zero));
		close(fd);
	}
	nd_write("drivers/nd_pmem/unbind", "namespace0.0");
	nd_write("devices/namespace0.0/force_raw", "0");
	check(nd_write("drivers/nd_pmem/bind", "namespace0.0"));
	check(!access("/dev/pmem0", F_OK));
}

static bool make_dax(void)
{
	char uuid[37] = "";
	int fd;

	fd = open("/proc/sys/kernel/random/uuid", O_RDONLY);
	check(fd >= 0 && read(fd, uuid, 36) == 36 && !close(fd));
	check(!cg_read(ND "devices/region0", "dax_seed", dax, sizeof(dax)));
	dax[strcspn(dax, "\n")] = 0;
	return dax_write("mode", "ram") && dax_write("align", "4096") &&
	       dax_write("uuid", uuid) && dax_write("namespace", "namespace0.0") &&
	       nd_write("drivers/dax_pmem/bind", dax);
}

/* Many references look like a pin and keep the record. @until: drop them, too */
static void device_memory(bool until)
{
	char *cg = cg_make("a");
	struct mem m = { .kind = &mem_kinds[MEM_DAX], .len = PAGE_SIZE };
	struct iovec iov;
	struct pin p;
	pid_t pid;
	int i, ret;

	need_source(SOURCE_URING);
	if (access("/dev/pmem0", F_OK) ||
	    !nd_write("drivers/nd_pmem/unbind", "namespace0.0"))
		skip("no persistent memory");
	if (!make_dax()) {
		erase_dax();
		skip("no device DAX");
	}
	pid = test_fork();
	if (!pid) {
		struct baton pipes[40];
		glob_t found;

		enter(cg);
		check(!glob("/dev/dax*", 0, NULL, &found));
		m.fd = open(found.gl_pathv[0], O_RDWR);
		check(m.fd >= 0);
		m.addr = mmap(NULL, SZ_2M, PROT_READ | PROT_WRITE, MAP_SHARED, m.fd, 0);
		check(m.addr != MAP_FAILED);
		m.addr[0] = 1;
		check_eq(pin(&p, SOURCE_URING, &m), 0);
		check_eq(pins_current(cg), PAGE_SIZE);
		check_stat(cg, "device", PAGE_SIZE);
		iov = (struct iovec){ m.addr, 1 };
		for (i = 0; i < ARRAY_SIZE(pipes); i++) {
			pipes[i] = baton_make();
			while (vmsplice(pipes[i].fd[1], &iov, 1, SPLICE_F_NONBLOCK) == 1)
				;
		}
		unpin(&p);
		if (until) {
			for (i = 0; i < ARRAY_SIZE(pipes); i++)
				check(!close(pipes[i].fd[0]) && !close(pipes[i].fd[1]));
			check_reaches(cg, 0);
		}
		_exit(0);
	}
	ret = reap(pid);
	erase_dax();
	check_eq(ret, 0);
	check_reaches(cg, 0);
}

static void device_memory_is_released(void)
{
	device_memory(true);
}

static void device_goes(void)
{
	device_memory(false);
}

/* I8 free when unused */

static void controller_off(void)
{
	if (cg_write(pins_top, "cgroup.subtree_control", "-pins") ||
	    cg_write(pins_root, "cgroup.subtree_control", "-pins"))
		skip("somebody else uses the controller");
}

static void controller_on(void)
{
	check_eq(cg_write(pins_root, "cgroup.subtree_control", "+pins"), 0);
	check_eq(cg_write(pins_top, "cgroup.subtree_control", "+pins"), 0);
}

static void pinned_before_any_cgroup(void)
{
	const int kinds[] = { MEM_ANON, mem_huge() };
	struct pin early[2], late;
	struct mem m[2];
	char *cg;
	int i;

	cg = enter_new("a");
	controller_off();
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		m[i] = mem_get(kinds[i], 0);
		check_eq(pin(&early[i], SOURCE_URING, &m[i]), 0);
	}
	controller_on();
	check_eq(pins_current(cg), 0);
	check_eq(pins_current(pins_top), 0);

	/* The early pins stay uncharged, and do not affect the charge of others */
	unpin(&early[0]);
	check_eq(pins_current(cg), 0);
	check_eq(pin(&late, SOURCE_URING, &m[1]), 0);
	check_eq(pins_current(cg), m[1].len);
	unpin(&early[1]);
	check_eq(pins_current(cg), m[1].len);
	unpin(&late);
	check_eq(pins_current(cg), 0);
	check_eq(pins_current(pins_top), 0);
	check_eq(pins_peak(cg), m[1].len);
}

/* I9 sticky */

static void closed_elsewhere(void)
{
	char *b = cg_make("b"), *a = enter_new("a");
	struct mem m = mem_get(MEM_ANON, 0), n = mem_get(MEM_ANON, SZ_64K / 2);
	struct baton go = baton_make();
	struct pin p, q;
	pid_t pid;

	check_eq(pin(&p, SOURCE_URING, &m), 0);
	pid = test_fork();
	if (!pid) {
		enter(b);
		check_eq(pin(&q, SOURCE_URING, &n), 0);
		baton_take(&go);
		unpin(&p);
		check_reaches(a, 0);
		check_eq(pins_current(b), n.len);
		_exit(0);
	}
	check_eq(close(p.fd), 0);
	check_eq(pins_current(a), m.len);
	baton_pass(&go);
	check_eq(reap(pid), 0);
	check_reaches(b, 0);
	check_eq(pins_current(a), 0);
}

/* A new cgroup of the same name, maybe of the same id, is not the old one. */
static void removed_and_made_again(void)
{
	char *top = cg_make("a"), *cg = enter_new("a/b");
	struct mem m = mem_get(MEM_ANON, 0), n = mem_get(MEM_ANON, SZ_64K / 2);
	struct pin p, q;

	check_eq(pin(&p, SOURCE_URING, &m), 0);
	enter_root();
	check_eq(cg_destroy(cg), 0);
	enter(cg_make("a/b"));
	check_eq(pin(&q, SOURCE_URING, &n), 0);
	check_eq(pins_current(top), m.len + n.len);
	unpin(&p);
	check_eq(pins_current(cg), n.len);
	check_eq(pins_current(top), n.len);
	unpin(&q);
	check_eq(pins_current(top), 0);
}

/* Each of two owners of the same memory gives back its own. */
static void own_task_gives_back_own(void)
{
	char *a = cg_make("a"), *b = enter_new("b");
	struct mem m = mem_get(MEM_MEMFD, 0);
	struct pin p, q;
	int i, first;

	for (i = 0; i < SOURCE_GUP; i++) {
		if (source_missing(i) || !(pin_sources[i].can & CAN_NAME))
			continue;
		for (first = 0; first < 2; first++) {
			enter(a);
			check_eq(pin(&p, i, &m), 0);
			enter(b);
			check_eq(pin(&q, i, &m), 0);
			if (first)
				enter(a);
			unpin(first ? &p : &q);
			check_eq(pins_current(a), first ? 0 : m.len);
			check_eq(pins_current(b), first ? m.len : 0);
			enter(first ? b : a);
			unpin(first ? &q : &p);
			check_eq(pins_current(a), 0);
			check_eq(pins_current(b), 0);
		}
	}
}

/* A ring of a killed process ends in a worker, which has no cgroup. */
static void killed_owner_gives_back_own(void)
{
	char *cg[2] = { cg_make("a"), cg_make("b") };
	struct mem m = mem_get(MEM_MEMFD, 0);
	struct baton ready = baton_make();
	struct pin p;
	pid_t pid[2];
	int round, i;

	need_source(SOURCE_URING);
	for (round = 0; round < 2; round++) {
		for (i = 0; i < 2; i++) {
			pid[i] = test_fork();
			if (!pid[i]) {
				enter(cg[i]);
				check_eq(pin(&p, SOURCE_URING, &m), 0);
				baton_pass(&ready);
				pause();
			}
			baton_take(&ready);
		}
		check_eq(kill(pid[round], SIGKILL), 0);
		reap(pid[round]);
		check_reaches(cg[round], 0);
		check_eq(pins_current(cg[1 - round]), m.len);
		check_eq(kill(pid[1 - round], SIGKILL), 0);
		reap(pid[1 - round]);
		check_reaches(cg[1 - round], 0);
	}
}

/* Each unpin releases exactly one owner, though not always the one that unpinned. */
static void total_is_exact(void)
{
	char *top = cg_make("a"), *cg[3], name[16];
	struct mem m = mem_get(MEM_MEMFD, 0);
	struct pin p[3][SOURCE_GUP];
	long held = 3 * m.len;
	int i, j, nr = 0;

	for (i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "a/%d", i);
		cg[i] = enter_new(name);
		for (nr = 0, j = 0; j < SOURCE_GUP; j++)
			if (!source_missing(j))
				check_eq(pin(&p[i][nr++], j, &m), 0);
	}
	check_eq(pins_current(top), held);
	enter_root();
	for (j = 0; j < nr; j++)
		for (i = 0; i < 3; i++)
			unpin_by_close(&p[i][j]);
	check_reaches(top, 0);
	for (i = 0; i < 3; i++)
		check_eq(pins_current(cg[i]), 0);
}

/* Memory of another process is charged to its cgroup, whoever pins it. */
static void other_process_pays(void)
{
	char *a = cg_make("a"), *b = enter_new("b");
	struct mem m = mem_get(MEM_ANON, 0);
	struct baton go = baton_make(), done = baton_make();
	struct pin p;
	pid_t pid;

	need_source(SOURCE_IOMMUFD);
	check_eq(iommufd_open(&p), 0);
	/* The mapping is this process's, the domain comes from another one */
	check_eq(iommufd_map(&p, &m, 0, m.len), 0);
	check_eq(pins_current(b), 0);
	pid = test_fork();
	if (!pid) {
		enter(a);
		check_eq(iommufd_attach(&p), 0);
		baton_pass(&done);
		baton_take(&go);
		_exit(0);
	}
	baton_take(&done);
	check_eq(pins_current(a), 0);
	check_eq(pins_current(b), m.len);
	baton_pass(&go);
	check_eq(reap(pid), 0);
	check_eq(pins_current(b), m.len);

	/* The limit of the charged cgroup applies */
	check_eq(close(p.fd), 0);
	check_reaches(b, 0);
	set_max(b, m.len - PAGE_SIZE);
	check_eq(iommufd_open(&p), 0);
	check_eq(iommufd_map(&p, &m, 0, m.len), 0);
	pid = test_fork();
	if (!pid) {
		enter(a);
		check_eq(iommufd_attach(&p), -ENOMEM);
		_exit(0);
	}
	check_eq(reap(pid), 0);
	check_eq(pins_current(b), 0);
	check_eq(pins_events_local(b), 1);
	check_eq(pins_events_local(a), 0);
}

static const struct pins_test tests[] = {
	{ "I1 once: a hundred rings over the same buffer charge it once",
	  once_per_cgroup },
	{ "I1 once: all sources on one buffer charge it once, till the last leaves",
	  all_sources_forwards },
	{ "I1 once: the same when the last goes first", all_sources_backwards },
	{ "I1 once: pieces of a huge page charge all of it, once",
	  pieces_of_thp },
	{ "I1 once: a page that comes up again in its request is charged once",
	  twice_in_a_request },
	{ "I1 once: buffers that io_uring coalesces keep their folios charged",
	  coalesced_buffers },
	{ "I1 once: two cgroups are charged once each for what they share",
	  shared_by_cgroups },
	{ "I2 zero: overlapping buffers go in any order", any_order },
	{ "I2 zero: a process that ends gives all back", ended_by_term },
	{ "I2 zero: a process that is killed gives all back", ended_by_kill },
	{ "I2 zero: a cgroup that is killed gives all back", cgroup_killed },
	{ "I2 zero: a closed ring gives its buffers back", ring_closed },
	{ "I2 zero: buffers cloned to another ring stay charged till both are gone",
	  rings_share_buffers },
	{ "I2 zero: memory unmapped while pinned stays charged till unpinned",
	  unmapped_while_pinned },
	{ "I2 zero: huge pages unmapped in part stay charged till unpinned",
	  thp_in_pieces },
	{ "I2 zero: pages replaced while pinned are charged beside the new",
	  replaced_while_pinned },
	{ "I2 zero: a mapping moved while pinned is the same memory",
	  moved_while_pinned },
	{ "I2 zero: a hole punched below a pin leaves it charged till unpinned",
	  hole_punched },
	{ "I2 zero: compaction, reclaim and splitting leave the charge",
	  shaken },
	{ "I2 zero: a page mapped a thousand times is given back",
	  mapped_often },
	{ "I2 zero: a page referenced a thousand times is given back when freed",
	  referenced_and_freed },
	{ "I2 zero: or when another cgroup pins it", referenced_and_pinned },
	{ "I2 zero: a charge that uncharged pins have kept goes with them",
	  kept_by_uncharged_pins },
	{ "I2 zero: fork while pinned, child and parent write",
	  forked_while_pinned },
	{ "I2 zero: exec while pinned", exec_while_pinned },
	{ "I2 zero: a removed cgroup keeps its charge until the last pin is gone",
	  removed_cgroup },
	{ "I2 zero: fifty cgroups pin a page, go, and give it back",
	  fifty_owners },
	{ "I2 zero: the controller turned off and on while memory is pinned",
	  disabled_and_enabled },
	{ "I3 whole: a registration of which the last buffer is refused holds none",
	  refused_registration },
	{ "I3 whole: a huge page without room leaves what was there",
	  refused_huge_page },
	{ "I3 whole: a refusal by an ancestor leaves nothing below it",
	  refused_by_ancestor },
	{ "I3 whole: whichever allocation of a request fails, nothing is left",
	  allocation_fails },
	{ "I4 fair: what fits exactly is let in, one page more is not, re-pins are free",
	  exact_limit },
	{ "I4 fair: in a full cgroup every source can pin again what is pinned",
	  repin_by_all_sources },
	{ "I5 short: direct I/O, vmsplice and short pins are neither charged nor uncharge",
	  short_term_is_free },
	{ "I5 short: I/O in flight before and after a pin leaves its charge",
	  in_flight_keeps_charge },
	{ "I6 anywhere: the last pin may go in a softirq",
	  last_pin_goes_in_softirq },
	{ "I6 anywhere: the last pin may go in a timer's interrupt",
	  last_pin_goes_in_timer },
	{ "I6 anywhere: even of a removed cgroup and freed memory",
	  removed_and_in_timer },
	{ "I7 no ghost: memory freed by one cgroup is new in another",
	  reused_memory },
	{ "I7 no ghost: a record of device memory goes when its last reference does",
	  device_memory_is_released },
	{ "I7 no ghost: at the latest, it goes with the device", device_goes },
	{ "I8 free when unused: pins made before there was a cgroup are never charged",
	  pinned_before_any_cgroup },
	{ "I9 sticky: a task that moves leaves its charge where it was made",
	  moved_task },
	{ "I9 sticky: a ring closed by another cgroup uncharges its own",
	  closed_elsewhere },
	{ "I9 sticky: a cgroup made anew does not inherit charges",
	  removed_and_made_again },
	{ "I9 sticky: each owner of shared memory gives back its own",
	  own_task_gives_back_own },
	{ "I9 sticky: so does a killed owner, whose ring ends in a worker",
	  killed_owner_gives_back_own },
	{ "I9 sticky: three owners in all sources, closed by none of them, come to zero",
	  total_is_exact },
	{ "I9 sticky: memory of another process is charged to its cgroup",
	  other_process_pays },
};

int main(void)
{
	pins_run(tests, ARRAY_SIZE(tests));
}
