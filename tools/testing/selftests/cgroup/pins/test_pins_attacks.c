// SPDX-License-Identifier: GPL-2.0
/*
 * The pins controller against malicious tenants: who pin without being charged,
 * get others charged, refused or delayed, or leave something
 * behind. Each test names the invariant that it attacks.
 *
 * Attacks that cannot be prevented are listed, with their bounds, in "What it does not
 * prevent" of Documentation/admin-guide/cgroup-pins.rst. Here it is tested that they
 * stay within their bounds.
 *
 * Copyright (C) 2026 the pins authors
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pins_util.h"

/* A page fault that lasts until the test ends it. userfaultfd stands for all that can
 * hold up a fault, as FUSE servers do, which anybody may run.
 */
static int page_hold(void *page)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { (uintptr_t)page, PAGE_SIZE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int uffd = syscall(__NR_userfaultfd, O_CLOEXEC);

	if (uffd < 0)
		skip("no userfaultfd: %s", strerror(errno));
	check(!ioctl(uffd, UFFDIO_API, &api));
	check(!ioctl(uffd, UFFDIO_REGISTER, &reg));
	return uffd;
}

static void page_wanted(int uffd)
{
	struct uffd_msg msg;

	check(read(uffd, &msg, sizeof(msg)) == sizeof(msg));
}

static void page_comes(int uffd, void *page)
{
	struct uffdio_zeropage zero = {
		.range = { (uintptr_t)page, PAGE_SIZE },
	};

	check(!ioctl(uffd, UFFDIO_ZEROPAGE, &zero));
}

/* A process in the middle of a request: it waits for the last of its pages. */
struct stall {
	pid_t pid;
	struct baton stalled, go;
	int result[2];
};

static int stall_result;

static void *pin_and_stall(void *m)
{
	static struct pin p;

	stall_result = pin(&p, SOURCE_URING, m);
	return NULL;
}

/* A thread makes a request for memory, all of which is there but the last page. */
static void __noreturn stall_at_end(struct stall *s, const struct mem *m,
				    void *(*request)(void *), void *arg)
{
	char *last = m->addr + m->len - PAGE_SIZE;
	pthread_t thread;
	int uffd;

	check(!madvise(m->addr, m->len - PAGE_SIZE, MADV_POPULATE_WRITE));
	uffd = page_hold(last);
	check_eq(pthread_create(&thread, NULL, request, arg), 0);
	page_wanted(uffd);
	baton_pass(&s->stalled);
	baton_take(&s->go);
	page_comes(uffd, last);
	check_eq(pthread_join(thread, NULL), 0);
	check(write(s->result[1], &stall_result, sizeof(int)) == sizeof(int));
	for (;;)
		pause();
}

static void __noreturn stalling(struct stall *s, size_t len)
{
	struct mem m = mem_get(MEM_UNTOUCHED, len);

	stall_at_end(s, &m, pin_and_stall, &m);
}

static struct stall stall_begin(const char *cg, size_t len)
{
	struct stall s = { .stalled = baton_make(), .go = baton_make() };

	need_source(SOURCE_URING);
	check(!pipe(s.result));
	s.pid = test_fork();
	if (!s.pid) {
		enter(cg);
		stalling(&s, len);
	}
	baton_take(&s.stalled);
	return s;
}

/* Returns what the request did, whose process then keeps what it got. */
static int stall_end(struct stall *s)
{
	int ret;

	baton_pass(&s->go);
	check(read(s->result[0], &ret, sizeof(ret)) == sizeof(ret));
	return ret;
}

static void stall_kill(struct stall *s)
{
	check_eq(kill(s->pid, SIGKILL), 0);
	check_eq(reap(s->pid), 128 + SIGKILL);
}

/* Pin without being charged */

static struct mem attacked;
static char *home;

static void *read_other(void *pid)
{
	char byte;
	struct iovec to = { &byte, 1 }, from = { attacked.addr, 1 };

	process_vm_readv((long)pid, &to, 1, &from, 1, 0);
	return NULL;
}

/* The memory of a process that is gone, kept by somebody who is stuck while
 * reading it, has no owner any more. A mapping of it in iommufd can be pinned.
 */
static void owner_is_gone(void)
{
	char *a = cg_make("a"), *b = cg_make("b");
	struct baton stuck = baton_make(), gone = baton_make();
	struct baton done = baton_make();
	struct mem m = mem_get(MEM_ANON, 0);
	pthread_t reader;
	pid_t victim;
	struct pin p;
	int uffd;

	need_source(SOURCE_IOMMUFD);
	check_eq(iommufd_open(&p), 0);
	victim = test_fork();
	if (!victim) {
		long self = getpid();

		enter(a);
		check_eq(iommufd_map(&p, &m, 0, m.len), 0);
		attacked = mem_get(MEM_UNTOUCHED, PAGE_SIZE);
		uffd = page_hold(attacked.addr);
		if (test_fork()) {
			baton_take(&stuck);
			_exit(0);
		}
		enter(b);
		check_eq(pthread_create(&reader, NULL, read_other,
					(void *)self), 0);
		page_wanted(uffd);
		baton_pass(&stuck);
		baton_take(&gone);
		check_eq(iommufd_attach(&p), 0);
		baton_pass(&done);
		for (;;)
			pause();
	}
	check_eq(reap(victim), 0);
	baton_pass(&gone);
	baton_take(&done);
	check_eq(pins_current(a) + pins_current(b), m.len);
}

static int share_mm(void *cg)
{
	struct pin p;

	enter(cg);
	check_eq(pin(&p, SOURCE_URING, &attacked), 0);
	check_eq(pins_current(cg), attacked.len);
	check_eq(pins_current(home), 0);
	set_max(cg, 0);
	check_eq(pin_part(&p, SOURCE_URING, &attacked, 0, PAGE_SIZE), 0);
	unpin(&p);
	return 0;
}

/* A process without memory of its own: vfork() that does not exec. */
static void shared_mm(void)
{
	char *b = cg_make("b"), *stack;
	pid_t pid;

	home = enter_new("a");
	set_max(home, 0);
	attacked = mem_get(MEM_ANON, 0);
	stack = mem_get(MEM_ANON, SZ_64K).addr;
	pid = clone(share_mm, stack + SZ_64K, CLONE_VM | SIGCHLD, b);
	check(pid > 0);
	check_eq(reap(pid), 0);
	check_reaches(b, 0);
}

static void *pin_in_thread(void *cg)
{
	struct pin p;

	check_eq(cg_enter_current_thread(cg), 0);
	check_eq(pin_part(&p, SOURCE_URING, &attacked, 0, PAGES(2)), -ENOMEM);
	check_eq(pin_part(&p, SOURCE_URING, &attacked, 0, PAGES(1)), 0);
	check_eq(pins_current(home), PAGES(1));
	unpin(&p);
	return NULL;
}

static void threaded_cgroup(void)
{
	char *threads;
	pthread_t t;

	home = enter_new("a");
	threads = cg_name(home, "threads");
	check_eq(cg_create(threads), 0);
	check_eq(cg_write(threads, "cgroup.type", "threaded"), 0);
	set_max(home, PAGES(1));
	attacked = mem_get(MEM_ANON, 0);
	check_eq(pthread_create(&t, NULL, pin_in_thread, threads), 0);
	check_eq(pthread_join(t, NULL), 0);
	check_eq(pins_current(home), 0);
	check(cg_write(home, "cgroup.subtree_control", "+pins"));
}

/* The cgroup that the task is in once all pages are pinned is charged. */
static void moved_in_a_request(void)
{
	char *top = cg_make("a"), *from = cg_make("a/b"), *to = cg_make("a/c");
	struct stall s = stall_begin(from, SZ_64K);

	set_max(to, SZ_64K - PAGE_SIZE);
	check_eq(cg_enter(to, s.pid), 0);
	check_eq(stall_end(&s), -ENOMEM);
	check_eq(pins_events_local(to), 1);
	check_reaches(top, 0);
	stall_kill(&s);

	s = stall_begin(from, SZ_64K);
	set_max(to, SZ_64K);
	check_eq(cg_enter(to, s.pid), 0);
	check_eq(cg_destroy(from), 0);
	check_eq(stall_end(&s), 0);
	check_eq(pins_current(to), SZ_64K);
	check_eq(pins_current(top), SZ_64K);
	stall_kill(&s);
	check_reaches(top, 0);
}

/* The pins of a request are not charged until all of its pages are pinned. Then
 * the limit applies.
 */
static void unpaid_while_stalled(void)
{
	char *cg = cg_make("a");
	struct stall s;
	long before;

	before = pages_pinned();
	s = stall_begin(cg, SZ_2M);
	check(pages_pinned() - before <= SZ_2M / PAGE_SIZE);
	/* With this limit at the beginning, the request would have failed at once. */
	set_max(cg, 0);
	check_eq(pins_current(cg), 0);
	check_eq(stall_end(&s), -ENOMEM);
	check_eq(pins_current(cg), 0);
	check_eq(pins_events(cg), 1);
	stall_kill(&s);
}

/* One byte in each of many huge pages keeps all of them from moving. */
static void byte_in_each(void)
{
	enum { NR = 16 };
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_THP, NR * SZ_2M);
	int ring = uring_setup(), i;
	struct iovec iov[NR];

	for (i = 0; i < NR; i++)
		iov[i] = (struct iovec){ m.addr + i * SZ_2M + i * 5000, 1 };
	set_max(cg, NR * SZ_2M - PAGE_SIZE);
	check_eq(uring_register(ring, IORING_REGISTER_BUFFERS, iov, NR),
		 -ENOMEM);
	check_reaches(cg, 0);
	set_max(cg, NR * SZ_2M);
	check_eq(uring_register(ring, IORING_REGISTER_BUFFERS, iov, NR), 0);
	check_eq(pins_current(cg), NR * SZ_2M);
	check_eq(uring_register(ring, IORING_UNREGISTER_BUFFERS, NULL, 0), 0);
	check_eq(pins_current(cg), 0);
}

/* MADV_NOHUGEPAGE on an existing huge page changes nothing. */
static void advised_too_late(void)
{
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_THP, SZ_2M);
	struct pin p;

	check(!madvise(m.addr, m.len, MADV_NOHUGEPAGE));
	check_eq(pin_part(&p, SOURCE_URING, &m, 0, PAGE_SIZE), 0);
	check_eq(pins_current(cg), SZ_2M);
	check_eq(pins_stat(cg, "anon"), SZ_2M);
	check_eq(pins_stat(cg, "pins") - pins_stat(cg, "unpins"), 1);
	unpin(&p);
	check_eq(pins_current(cg), 0);
}

/* MADV_NOHUGEPAGE or PR_SET_THP_DISABLE before the first touch prevents huge pages. */
static void advised_in_time(void)
{
	char *cg = enter_new("a");
	struct mem m = { .kind = &mem_kinds[MEM_ANON], .len = SZ_2M, .fd = -1 };
	bool forbid;
	struct pin p;

	need_thp();
	for (forbid = false;; forbid = true) {
		m.addr = mem_reserve(SZ_2M, SZ_2M);
		check(mmap(m.addr, m.len, PROT_READ | PROT_WRITE, MAP_PRIVATE |
			   MAP_ANONYMOUS | MAP_FIXED, -1, 0) == m.addr);
		check(!madvise(m.addr, m.len, MADV_HUGEPAGE));
		if (forbid)
			check(!prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
		else
			check(!madvise(m.addr, m.len, MADV_NOHUGEPAGE));
		memset(m.addr, 1, m.len);
		check_eq(pin_part(&p, SOURCE_URING, &m, 0, PAGE_SIZE), 0);
		check_eq(pins_current(cg), PAGE_SIZE);
		unpin(&p);
		if (forbid)
			break;
	}
}

/* The same page, so many times in a row. */
static struct mem map_over_and_over(const struct mem *page, int nr)
{
	struct mem range = { .kind = page->kind, .len = PAGES(nr) };
	int i;

	range.addr = mem_reserve(range.len, PAGE_SIZE);
	for (i = 0; i < nr; i++)
		check(mmap(range.addr + PAGES(i), PAGE_SIZE,
			   PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			   page->fd, 0) != MAP_FAILED);
	return range;
}

static atomic_bool mapped_enough;

static void *map_and_unmap(void *range)
{
	const struct mem *m = range;

	while (!mapped_enough) {
		check(!madvise(m->addr, m->len, MADV_POPULATE_READ));
		check(!madvise(m->addr, m->len, MADV_DONTNEED));
	}
	return NULL;
}

/* The references of mappings look like pins where there are 1024 of them. Here
 * more come and go all the time, while one pin stays and another comes and goes.
 */
static void mapped_and_unmapped(void)
{
	enum { NR = 2500, ROUNDS = 250 };
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_MEMFD, PAGE_SIZE), range;
	struct pin held, p;
	pthread_t mapper;
	int i;

	range = map_over_and_over(&m, NR);
	check_eq(pin(&held, SOURCE_URING, &m), 0);
	check_eq(pthread_create(&mapper, NULL, map_and_unmap, &range), 0);
	for (i = 0; i < ROUNDS; i++) {
		check_eq(pin(&p, i % 2 ? SOURCE_PBUF : SOURCE_URING, &m), 0);
		unpin(&p);
		check_eq(pins_current(cg), PAGE_SIZE);
	}
	mapped_enough = true;
	check_eq(pthread_join(mapper, NULL), 0);
	check(!madvise(range.addr, range.len, MADV_POPULATE_READ));
	check_eq(pins_current(cg), PAGE_SIZE);
	unpin(&held);
	check_reaches(cg, 0);
}

/* The same page a thousand times in a request, and in many thousand buffers. */
static void same_page_all_over(void)
{
	enum { NR = 16384 };
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_MEMFD, PAGE_SIZE), range;
	struct iovec *iov = calloc(NR, sizeof(*iov));
	int ring = uring_setup(), i;
	struct pin p;

	for (i = 0; i < NR; i++)
		iov[i] = (struct iovec){ m.addr + i % PAGE_SIZE, 1 };
	set_max(cg, PAGE_SIZE);
	range = map_over_and_over(&m, 1000);
	check_eq(pin(&p, SOURCE_URING, &range), 0);
	check_eq(uring_register(ring, IORING_REGISTER_BUFFERS, iov, NR), 0);
	check_eq(pins_current(cg), PAGE_SIZE);
	check_eq(pins_peak(cg), PAGE_SIZE);
	check_eq(pins_stat(cg, "pins"), 1000 + NR);
	check_eq(uring_register(ring, IORING_UNREGISTER_BUFFERS, NULL, 0), 0);
	check_eq(pins_current(cg), PAGE_SIZE);
	unpin(&p);
	check_eq(pins_current(cg), 0);
	check_eq(pins_stat(cg, "unpins"), 1000 + NR);
}

/* What refers to memory but does not pin it for long is never charged. */
static void pinned_by_other_means(void)
{
	char *cg = enter_new("a"), path[64];
	struct mem m = mem_get(MEM_ANON, 0), n = mem_get(MEM_MEMFD, 0);
	struct iovec local = { m.addr, m.len }, remote = { n.addr, n.len };
	struct baton pipe = baton_make(), end = baton_make();
	pid_t pid;
	int fd;

	set_max(cg, 0);
	pid = test_fork();
	if (!pid) {
		baton_take(&end);
		_exit(0);
	}
	check(process_vm_writev(pid, &local, 1, &remote, 1, 0) == m.len);
	check(process_vm_readv(pid, &local, 1, &remote, 1, 0) == m.len);
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	fd = open(path, O_RDWR);
	check(fd >= 0);
	check(pwrite(fd, m.addr, m.len, (uintptr_t)m.addr) == m.len);
	check(pread(fd, m.addr, m.len, (uintptr_t)n.addr) == n.len);
	local.iov_len = PAGES(4);
	check(vmsplice(pipe.fd[1], &local, 1, SPLICE_F_GIFT) == PAGES(4));
	check(vmsplice(pipe.fd[1], &remote, 1, SPLICE_F_NONBLOCK) > 0);
	check(!mlock(m.addr, m.len));
	check_eq(pins_current(cg), 0);
	check_eq(pins_peak(cg), 0);
	check_eq(pins_events(cg), 0);
	baton_pass(&end);
	check_eq(reap(pid), 0);
}

/* Get others charged */

static void send_fd(int sock, int fd)
{
	char data[CMSG_SPACE(sizeof(int))] = {}, byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = data, .msg_controllen = sizeof(data),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	check(sendmsg(sock, &msg, 0) == 1);
}

static int receive_fd(int sock)
{
	char data[CMSG_SPACE(sizeof(int))] = {}, byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = data, .msg_controllen = sizeof(data),
	};
	int fd;

	check(recvmsg(sock, &msg, 0) == 1);
	check(CMSG_FIRSTHDR(&msg));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(int));
	return fd;
}

/* A file with pins in it is sent to somebody else, and the sender goes away. */
static void fd_passed_on(void)
{
	static const int sources[] = {
		SOURCE_RDMA, SOURCE_IOMMUFD, SOURCE_XDP, SOURCE_UDMABUF,
	};
	char *b, *a, *top;
	int i, nr = 0, sock[2], fd;
	struct pin p;
	struct mem m;
	pid_t pid;

	b = enter_new("b");
	set_max(b, 0);
	top = cg_make("a");
	check_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, sock), 0);
	for (i = 0; i < ARRAY_SIZE(sources); i++) {
		if (source_missing(sources[i]))
			continue;
		nr++;
		a = cg_make("a/sender");
		pid = test_fork();
		if (!pid) {
			enter(a);
			m = mem_get(MEM_MEMFD, 0);
			check_eq(pin(&p, sources[i], &m), 0);
			send_fd(sock[1], p.fd);
			_exit(0);
		}
		fd = receive_fd(sock[0]);
		check_eq(reap(pid), 0);
		check_eq(pins_current(a), SZ_64K);
		check_eq(pins_current(b), 0);
		check_eq(cg_destroy(a), 0);
		check_eq(pins_current(top), SZ_64K);
		check(!close(fd));
		check_reaches(top, 0);
		check_eq(pins_current(b), 0);
	}
	if (!nr)
		skip("no source whose files can be sent");
	check_eq(pins_events(b), 0);
}

/* Two cgroups with a ring between them: who registers, pays. */
static void ring_of_two(void)
{
	char *b = cg_make("b"), *a = enter_new("a");
	struct mem m = mem_get(MEM_ANON, 0);
	struct iovec iov[2] = { { m.addr, PAGES(4) }, { m.addr, PAGES(4) } };
	struct io_uring_rsrc_update2 update = { .nr = 1, .offset = 1 };
	int ring = uring_setup();
	pid_t pid;

	check_eq(uring_register(ring, IORING_REGISTER_BUFFERS, iov, 2), 0);
	pid = test_fork();
	if (!pid) {
		enter(b);
		memset(m.addr, 1, m.len);
		iov[0] = (struct iovec){ m.addr + PAGES(8), PAGES(2) };
		update.data = (uintptr_t)&iov[0];
		set_max(b, PAGES(1));
		check_eq(uring_register(ring, IORING_REGISTER_BUFFERS_UPDATE,
					&update, sizeof(update)), -ENOMEM);
		set_max(b, PAGES(2));
		check_eq(uring_register(ring, IORING_REGISTER_BUFFERS_UPDATE,
					&update, sizeof(update)), 1);
		_exit(0);
	}
	check_eq(reap(pid), 0);
	check_eq(pins_current(a), PAGES(4));
	check_eq(pins_current(b), PAGES(2));
	check_eq(pins_events(a), 0);
	check_eq(close(ring), 0);
	check_reaches(a, 0);
	check_reaches(b, 0);
}

static struct pin to_clone;
static struct baton cloned_go;

static int clone_and_wait(void *cg)
{
	struct io_uring_clone_buffers clone = { .src_fd = to_clone.fd };
	int ring;

	enter(cg);
	ring = uring_setup();
	if (uring_register(ring, IORING_REGISTER_CLONE_BUFFERS, &clone, 1))
		return KSFT_SKIP;
	check(!close(to_clone.fd));
	baton_take(&cloned_go);
	return 0;
}

/*
 * Cloned buffers are no new pins: the first owner stays charged until both are gone.
 * Later kernels clone only what belongs to the same address space.
 */
static void cloned_by_another(void)
{
	char *b = cg_make("b"), *a = enter_new("a"), *stack;
	struct mem m = mem_get(MEM_ANON, 0);
	pid_t pid;

	cloned_go = baton_make();
	check_eq(pin(&to_clone, SOURCE_URING, &m), 0);
	set_max(b, 0);
	stack = mem_get(MEM_ANON, SZ_64K).addr;
	pid = clone(clone_and_wait, stack + SZ_64K, CLONE_VM | SIGCHLD, b);
	check(pid > 0);
	check_eq(close(to_clone.fd), 0);
	baton_pass(&cloned_go);
	if (reap(pid) == KSFT_SKIP)
		skip("no cloning of buffers");
	check_reaches(a, 0);
	check_eq(pins_peak(b), 0);
}

/* A neighbour shares memory with us, pins it and lets go of it, by every means
 * and in both orders. Our charge stays, and in a full cgroup so does our right
 * to pin again.
 */
static void neighbour_lets_go(int by)
{
	char *b = cg_make("b"), *a = enter_new("a");
	struct mem m = mem_get(MEM_MEMFD, 0);
	struct pin ours, again, theirs[2];
	int order, i;

	need_source(by);
	set_max(a, m.len);
	for (order = 0; order < 2; order++) {
		for (i = 0; i < 2; i++) {
			if (order == i) {
				enter(a);
				check_eq(pin(&ours, SOURCE_URING, &m), 0);
			}
			enter(b);
			check_eq(pin(&theirs[i], by, &m), 0);
		}
		unpin(&theirs[0]);
		unpin_by_close(&theirs[1]);
		check_reaches(b, 0);
		check_eq(pins_current(a), m.len);
		enter(a);
		check_eq(pin(&again, SOURCE_URING, &m), 0);
		unpin(&again);
		unpin(&ours);
		check_eq(pins_current(a), 0);
	}
	check_eq(pins_events(a), 0);
}

static void neighbour_lets_go_of_ring(void)
{
	neighbour_lets_go(SOURCE_URING);
}

static void neighbour_lets_go_of_rdma(void)
{
	neighbour_lets_go(SOURCE_RDMA);
}

static void neighbour_lets_go_of_iommufd(void)
{
	neighbour_lets_go(SOURCE_IOMMUFD);
}

static void neighbour_lets_go_of_xdp(void)
{
	neighbour_lets_go(SOURCE_XDP);
}

static void neighbour_lets_go_of_udmabuf(void)
{
	neighbour_lets_go(SOURCE_UDMABUF);
}

/* References that are not pins, to memory that somebody else has pinned. */
static void neighbour_refers_to_it(void)
{
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_MEMFD, PAGES(2));
	struct baton go = baton_make(), ready = baton_make();
	struct iovec iov = { m.addr, 1 };
	struct baton pipes[3];
	struct pin p;
	pid_t pid;
	int i;

	check_eq(pin(&p, SOURCE_URING, &m), 0);
	pid = test_fork();
	if (!pid) {
		enter_root();
		close(p.fd);
		for (i = 0; i < ARRAY_SIZE(pipes); i++) {
			pipes[i] = baton_make();
			check(fcntl(pipes[i].fd[1], F_SETPIPE_SZ, 1 << 20) > 0);
			while (vmsplice(pipes[i].fd[1], &iov, 1,
					SPLICE_F_NONBLOCK) == 1)
				;
		}
		baton_pass(&ready);
		baton_take(&go);
		_exit(0);
	}
	baton_take(&ready);
	check_eq(pins_current(cg), PAGES(2));
	unpin(&p);
	/* At most the page with the references stays charged while they last */
	check(pins_current(cg) <= PAGES(1));
	set_max(cg, pins_current(cg));
	if (pins_current(cg)) {
		check_eq(pin_part(&p, SOURCE_URING, &m, 0, PAGES(1)), 0);
		unpin(&p);
	}
	baton_pass(&go);
	check_eq(reap(pid), 0);
	/* When they go, so does the charge, without another pin or a free. */
	check_reaches(cg, 0);
}

/* Get others refused or delayed */

/* Two others come and go meanwhile, so that a refusal has to be looked at once
 * more, alone.
 */
static void sibling_goes_on(const char *cg)
{
	struct mem m = mem_get(MEM_ANON, PAGES(500));
	pid_t others[2];
	struct pin p;
	int i;

	enter(cg);
	set_max(cg, PAGES(10));
	for (i = 0; i < ARRAY_SIZE(others); i++) {
		others[i] = test_fork();
		while (!others[i]) {
			check_eq(pin_part(&p, SOURCE_URING, &m, 0, PAGES(1)),
				 0);
			unpin(&p);
		}
	}
	for (i = 0; i < 20; i++) {
		check_eq(pin(&p, SOURCE_URING, &m), -ENOMEM);
		check_eq(pin_part(&p, SOURCE_URING, &m, 0, PAGES(6)), 0);
		unpin(&p);
	}
	check_eq(pins_events_local(cg), 20);
	for (i = 0; i < ARRAY_SIZE(others); i++) {
		check_eq(kill(others[i], SIGKILL), 0);
		check_eq(reap(others[i]), 128 + SIGKILL);
	}
}

/* If the request that is stuck held anything that others need, they would never
 * get it.
 */
static void stalled_beside(void)
{
	char *top = cg_make("a"), *cg = cg_make("a/b");
	struct stall s = stall_begin(cg, SZ_2M);

	sibling_goes_on(cg_make("a/c"));
	check_eq(stall_end(&s), 0);
	check_eq(pins_current(cg), SZ_2M);
	stall_kill(&s);
	check_reaches(top, 0);
}

static void killed_while_stalled(void)
{
	char *top = cg_make("a"), *cg = cg_make("a/b");
	struct stall s = stall_begin(cg, SZ_2M);

	stall_kill(&s);
	check_reaches(top, 0);
	sibling_goes_on(cg_make("a/c"));
}

static void frozen_while_stalled(void)
{
	char *top = cg_make("a"), *cg = cg_make("a/b");
	struct stall s = stall_begin(cg, SZ_2M);

	check_eq(cg_write(cg, "cgroup.freeze", "1"), 0);
	sibling_goes_on(cg_make("a/c"));
	check_eq(cg_write(cg, "cgroup.freeze", "0"), 0);
	check_eq(stall_end(&s), 0);
	check_eq(cg_write(cg, "cgroup.freeze", "1"), 0);
	check_eq(pins_current(cg), SZ_2M);
	/* A frozen process dies like any other */
	stall_kill(&s);
	check_reaches(top, 0);
}

/* While a limit changes all the time, usage never exceeds its highest value. */
static void limit_jumps(void)
{
	const long step = PAGES(16);
	char *cg = enter_new("a");
	struct baton ready = baton_make();
	unsigned int seed = 1;
	struct mem m;
	struct pin p;
	pid_t pid[4];
	int i, ret;

	set_max(cg, 0);
	for (i = 0; i < ARRAY_SIZE(pid); i++) {
		pid[i] = test_fork();
		if (pid[i])
			continue;
		m = mem_get(MEM_ANON, step);
		baton_pass(&ready);
		for (;;) {
			ret = pin(&p, SOURCE_URING, &m);
			if (!ret)
				unpin(&p);
			else
				check_eq(ret, -ENOMEM);
		}
	}
	for (i = 0; i < ARRAY_SIZE(pid); i++)
		baton_take(&ready);
	for (i = 0; i < 400; i++) {
		set_max(cg, rand_r(&seed) % 4 * step);
		check(pins_current(cg) <= 3 * step);
	}
	for (i = 0; i < ARRAY_SIZE(pid); i++) {
		check_eq(kill(pid[i], SIGKILL), 0);
		check_eq(reap(pid[i]), 128 + SIGKILL);
	}
	check_reaches(cg, 0);
	check(pins_peak(cg) <= 3 * step);
	check_eq(pins_stat(cg, "unpins"), pins_stat(cg, "pins"));
}

/* Replacing a buffer in a full cgroup fails, and leaves the old one. */
static void replaced_when_full(void)
{
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_ANON, PAGES(8));
	struct iovec old = { m.addr, PAGES(4) }, new = { m.addr + PAGES(2), PAGES(4) };
	struct io_uring_rsrc_update2 update = {
		.nr = 1, .data = (uintptr_t)&new,
	};
	int ring = uring_setup();

	set_max(cg, PAGES(5));
	check_eq(uring_register(ring, IORING_REGISTER_BUFFERS, &old, 1), 0);
	check_eq(uring_register(ring, IORING_REGISTER_BUFFERS_UPDATE, &update,
				sizeof(update)), -ENOMEM);
	check_eq(pins_current(cg), PAGES(4));
	set_max(cg, PAGES(6));
	check_eq(uring_register(ring, IORING_REGISTER_BUFFERS_UPDATE, &update,
				sizeof(update)), 1);
	check_reaches(cg, PAGES(4));
	check_eq(uring_register(ring, IORING_UNREGISTER_BUFFERS, NULL, 0), 0);
	check_eq(pins_current(cg), 0);
}

/* An update that is refused half way has replaced some, and says how many. */
static void replaced_in_part(void)
{
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_ANON, PAGES(16));
	struct iovec old[3], new[3];
	struct io_uring_rsrc_update2 update = { .data = (uintptr_t)new };
	int ring = uring_setup(), i;

	for (i = 0; i < 3; i++) {
		old[i] = (struct iovec){ m.addr + PAGES(i), PAGES(1) };
		new[i] = (struct iovec){ m.addr + PAGES(4 + 4 * i), PAGES(4) };
	}
	check_eq(uring_register(ring, IORING_REGISTER_BUFFERS, old, 3), 0);
	set_max(cg, PAGES(3 + 4));
	update.nr = 3;
	check_eq(uring_register(ring, IORING_REGISTER_BUFFERS_UPDATE, &update,
				sizeof(update)), 1);
	check_reaches(cg, PAGES(4 + 1 + 1));
	update.offset = 1;
	update.nr = 2;
	update.data = (uintptr_t)&new[1];
	check_eq(uring_register(ring, IORING_REGISTER_BUFFERS_UPDATE, &update,
				sizeof(update)), -ENOMEM);
	check_reaches(cg, PAGES(4 + 1 + 1));
	check_eq(uring_register(ring, IORING_UNREGISTER_BUFFERS, NULL, 0), 0);
	check_eq(pins_current(cg), 0);
}

/* Any number of files may have reset the peak; each keeps its own. */
static void many_peaks(void)
{
	enum { NR = 400 };
	struct rlimit files = { NR + 100, NR + 100 };
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_ANON, PAGES(8));
	static int fd[NR];
	struct pin p;
	int i;

	if (setrlimit(RLIMIT_NOFILE, &files))
		skip("no %d files", NR);
	for (i = 0; i < NR; i++) {
		fd[i] = cg_open(cg, "pins.peak", O_RDWR);
		check(fd[i] >= 0);
		check(write(fd[i], "1", 1) == 1);
		if (i == NR / 2) {
			check_eq(pin(&p, SOURCE_URING, &m), 0);
			unpin(&p);
		}
	}
	for (i = 0; i < NR; i++) {
		check_eq(cg_read_long_fd(fd[i]), i > NR / 2 ? 0 : m.len);
		check(!close(fd[i]));
	}
	check_eq(pins_peak(cg), m.len);
}

/* Leave something behind */

/* Requests that make no sense fail, and leave nothing behind. */
static void nonsense(void)
{
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_MEMFD, 0);
	const size_t lengths[] = { 0, m.len + PAGE_SIZE, SZ_1G + 1, -1UL / 2,
				   -1UL };
	const struct iovec bad[] = {
		{ m.addr, 0 }, { NULL, 1 }, { m.addr, SZ_1G + 1 },
		{ m.addr, m.len + 1 }, { m.addr, -1UL }, { m.addr - 1, 2 },
		{ (void *)-1UL, 2 }, { (void *)(-1UL - PAGE_SIZE), 1 },
		{ (void *)(-1UL << 47), SZ_64K },
	};
	struct iovec iov[2] = { { m.addr, m.len } };
	int ring = uring_setup(), source, i;
	struct pin p;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		iov[1] = bad[i];
		check(uring_register(ring, IORING_REGISTER_BUFFERS, iov, 2) <
		      0);
		check_reaches(cg, 0);
	}
	check(uring_register(ring, IORING_REGISTER_BUFFERS, iov, 0) < 0);
	check(uring_register(ring, IORING_REGISTER_BUFFERS, iov, 1 << 14 | 1) <
	      0);
	check(uring_register(ring, IORING_REGISTER_BUFFERS, iov, -1U) < 0);
	for (source = 0; source < SOURCE_GUP; source++) {
		if (source_missing(source))
			continue;
		for (i = 0; i < ARRAY_SIZE(lengths); i++)
			check(pin_part(&p, source, &m, 0, lengths[i]) < 0);
	}
	check_reaches(cg, 0);
	check_eq(pins_events(cg), 0);
	/* But a sparse buffer table is a valid request */
	iov[1] = (struct iovec){ };
	check_eq(uring_register(ring, IORING_REGISTER_BUFFERS, iov, 2), 0);
	check_eq(pins_current(cg), m.len);
}

/* The memory of a ring, registered with that ring, as long as it lives. */
static void ring_pins_itself(void)
{
	struct io_uring_params params = { };
	char *cg = enter_new("a");
	struct iovec iov;
	int ring, ret;

	ring = syscall(__NR_io_uring_setup, 512, &params);
	check(ring >= 0);
	iov.iov_len = params.sq_entries * sizeof(struct io_uring_sqe);
	iov.iov_base = mmap(NULL, iov.iov_len, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQES);
	check(iov.iov_base != MAP_FAILED);
	ret = uring_register(ring, IORING_REGISTER_BUFFERS, &iov, 1);
	if (ret)
		skip("can't register a ring's memory: %s", strerror(-ret));
	check(pins_current(cg) >= (long)iov.iov_len);
	check(!munmap(iov.iov_base, iov.iov_len));
	check(!close(ring));
	check_reaches(cg, 0);
}

static int sqpoll_ring(void)
{
	struct io_uring_params params = { .flags = IORING_SETUP_SQPOLL };
	int ring = syscall(__NR_io_uring_setup, 4, &params);

	if (ring < 0)
		skip("no SQPOLL: %s", strerror(errno));
	return ring;
}

/* A ring with a thread of the kernel's, which moves and dies with its task. */
static void thread_of_a_ring(void)
{
	char *b = cg_make("b"), *a = enter_new("a");
	struct baton ready = baton_make();
	struct iovec iov[2] = { };
	struct io_uring_rsrc_update2 update = {
		.offset = 1, .nr = 1, .data = (uintptr_t)&iov[1],
	};
	struct mem m;
	int ring;
	pid_t pid;

	pid = test_fork();
	if (!pid) {
		m = mem_get(MEM_ANON, 0);
		ring = sqpoll_ring();
		iov[0] = (struct iovec){ m.addr, PAGES(4) };
		check_eq(uring_register(ring, IORING_REGISTER_BUFFERS, iov, 2),
			 0);
		enter(b);
		iov[1] = (struct iovec){ m.addr + PAGES(4), PAGES(8) };
		check_eq(uring_register(ring, IORING_REGISTER_BUFFERS_UPDATE,
					&update, sizeof(update)), 1);
		baton_pass(&ready);
		for (;;)
			pause();
	}
	baton_take(&ready);
	check_eq(pins_current(a), PAGES(4));
	check_eq(pins_current(b), PAGES(8));
	check_eq(kill(pid, SIGKILL), 0);
	check_eq(reap(pid), 128 + SIGKILL);
	check_reaches(a, 0);
	check_reaches(b, 0);
}

/* A removed cgroup stays as long as a pin of it does. One ring can hold very
 * many, and each costs its ancestors a page: no more of them than the limit has
 * pages.
 */
static void many_removed(void)
{
	enum { NR = 50 };
	char *top = cg_make("a"), *cg, name[16];
	struct mem m = mem_get(MEM_ANON, PAGES(NR + 1));
	static struct iovec iov[NR + 1];
	struct io_uring_rsrc_update2 update = { .nr = 1 };
	int ring, i;

	need_source(SOURCE_URING);
	ring = uring_setup();
	check_eq(uring_register(ring, IORING_REGISTER_BUFFERS, iov, NR + 1), 0);
	set_max(top, PAGES(NR));
	for (i = 0; i <= NR; i++) {
		snprintf(name, sizeof(name), "a/%d", i);
		cg = cg_make(name);
		enter(cg);
		iov[0] = (struct iovec){ m.addr + PAGES(i), PAGE_SIZE };
		update.offset = i;
		update.data = (uintptr_t)&iov[0];
		check_eq(uring_register(ring, IORING_REGISTER_BUFFERS_UPDATE,
					&update, sizeof(update)),
			 i < NR ? 1 : -ENOMEM);
		enter_root();
		check_eq(cg_destroy(cg), 0);
		free(cg);
	}
	check_eq(pins_current(top), PAGES(NR));
	/* The last one may take a moment */
	for (i = 0; i < 500 && pins_dying(top) != NR; i++)
		usleep(10000);
	check_eq(pins_dying(top), NR);
	check_eq(close(ring), 0);
	check_reaches(top, 0);
}

/* Very many cgroups pin the same memory, so that its lists of owners are long.
 * Ours is among them, comes and goes, and is always exactly charged.
 */
static void crowd_of_owners(void)
{
	enum { NR = 60 };
	char *top = cg_make("a"), *ours = cg_make("ours"), *cg, name[16];
	struct mem m = mem_get(MEM_MEMFD, PAGES(4));
	static struct pin p[NR];
	struct pin q;
	int i;

	need_source(SOURCE_URING);
	for (i = 0; i < NR; i++) {
		snprintf(name, sizeof(name), "a/%d", i);
		cg = cg_make(name);
		enter(cg);
		free(cg);
		check_eq(pin(&p[i], SOURCE_URING, &m), 0);
		enter(ours);
		set_max(ours, m.len);
		check_eq(pin(&q, SOURCE_URING, &m), 0);
		check_eq(pins_current(ours), m.len);
		unpin(&q);
		check_eq(pins_current(ours), 0);
		check_eq(pins_current(top), (i + 1) * m.len);
	}
	check_eq(pin(&q, SOURCE_URING, &m), 0);
	enter_root();
	for (i = 0; i < NR; i++)
		unpin_by_close(&p[i * 7 % NR]);
	unpin(&q);
	check_reaches(top, 0);
	check_reaches(ours, 0);
	check_eq(pins_events(ours), 0);
}

/* Very many cgroups have pinned a page of a buffer, and one all of it. Who pins it as
 * well pays for his own records, not for lists as long as the longest.
 */
static void crowd_on_one_page(void)
{
	enum { NR = 300, PIECE = 64 };	/* of a list, in bytes */
	static struct iovec iov[NR];
	struct io_uring_rsrc_update2 update = { .nr = 1 };
	char *crowd = cg_make("a"), *victim = cg_make("b"), name[16], *cg;
	struct mem m = mem_get(MEM_MEMFD, 16UL << 20);
	long slab, pages = m.len / PAGE_SIZE;
	struct pin all, p;
	int ring, i;
	pid_t pid;

	need_source(SOURCE_URING);
	need_memory_controller();
	ring = uring_setup();
	check_eq(uring_register(ring, IORING_REGISTER_BUFFERS, iov, NR), 0);
	for (i = 0; i < NR; i++) {
		snprintf(name, sizeof(name), "a/%d", i);
		cg = cg_make(name);
		enter(cg);
		free(cg);
		iov[0] = (struct iovec){ m.addr + m.len - PAGE_SIZE, PAGE_SIZE };
		update.offset = i;
		update.data = (uintptr_t)&iov[0];
		check_eq(uring_register(ring, IORING_REGISTER_BUFFERS_UPDATE,
					&update, sizeof(update)), 1);
	}
	check_eq(pin(&all, SOURCE_URING, &m), 0);
	pid = test_fork();
	if (!pid) {
		enter(victim);
		slab = cg_read_key_long(victim, "memory.stat", "slab ");
		check_eq(pin(&p, SOURCE_URING, &m), 0);
		check_eq(pins_current(victim), m.len);
		sleep(3);	/* until it shows */
		/* A debug kernel takes several times as much. Lists as long as the
		 * longest would be 4 kB each.
		 */
		check(cg_read_key_long(victim, "memory.stat", "slab ") - slab <
		      8 * pages * PIECE);
		unpin(&p);
		check_eq(pins_current(victim), 0);
		_exit(0);
	}
	i = reap(pid);
	enter_root();
	unpin(&all);
	check_eq(close(ring), 0);
	check_reaches(crowd, 0);
	cg_write(victim, "memory.reclaim", "16M");
	sleep(1);	/* until the worker has freed the leaves that it paid for */
	cg_destroy(victim);
	cg_write(pins_top, "cgroup.subtree_control", "-memory");
	cg_write(pins_root, "cgroup.subtree_control", "-memory");
	check_eq(i, 0);
}

/* A tenant with hardly any CPU time is in the middle of a request nearly always. Its
 * sibling pins many times meanwhile.
 */
static void throttled_beside(void)
{
	char *top = cg_make("a"), *slow = cg_make("a/slow"), *cg = cg_make("a/b");
	struct mem m = mem_get(MEM_ANON, PAGES(1));
	atomic_int *done;
	struct pin p;
	pid_t pid;
	int i;

	need_source(SOURCE_URING);
	if (cg_write(pins_root, "cgroup.subtree_control", "+cpu") ||
	    cg_write(pins_top, "cgroup.subtree_control", "+cpu") ||
	    cg_write(top, "cgroup.subtree_control", "+cpu"))
		skip("no cpu controller");
	set_max(top, 64UL << 20);
	done = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(done != MAP_FAILED);
	pid = test_fork();
	if (!pid) {
		m = mem_get(MEM_ANON, 48UL << 20);
		enter(slow);
		check_eq(cg_write(slow, "cpu.max", "2000 500000"), 0);
		for (;;) {
			check_eq(pin(&p, SOURCE_URING, &m), 0);
			unpin(&p);
			atomic_fetch_add(done, 1);
		}
	}
	while (!pins_stat(slow, "pins") && !atomic_load(done))
		usleep(1000);
	i = atomic_load(done);
	enter(cg);
	for (int n = 0; n < 400; n++) {
		check_eq(pin(&p, SOURCE_URING, &m), 0);
		unpin(&p);
	}
	check(atomic_load(done) - i < 100);
	check_eq(cg_write(slow, "cpu.max", "max"), 0);
	check_eq(kill(pid, SIGKILL), 0);
	check_eq(reap(pid), 128 + SIGKILL);
	check_reaches(top, 0);
	enter_root();
	cg_write(top, "cgroup.subtree_control", "-cpu");
	cg_write(pins_top, "cgroup.subtree_control", "-cpu");
	cg_write(pins_root, "cgroup.subtree_control", "-cpu");
}

/* A page in every leaf of the map, so that the map is as large as it gets. Who
 * pins pays for it: it counts as kernel memory of his memory cgroup.
 */
static void map_is_paid_for(void)
{
	/* Leaves have 32 slots of 8 bytes, and some may begin in between */
	enum { NR = 512, LEAF = 192 };
	const long apart = 2 * SZ_64K;
	struct iovec *iov = calloc(NR, sizeof(*iov));
	char *cg = cg_make("a"), text[16];
	struct mem m;
	long slab, grown = 0;
	pid_t pid;
	int ring, i;

	need_source(SOURCE_URING);
	need_memory_controller();
	pid = test_fork();
	if (!pid) {
		enter(cg);
		ring = uring_setup();
		m = mem_get(MEM_ANON, NR * apart);
		for (i = 0; i < NR; i++)
			iov[i] = (struct iovec){ m.addr + i * apart, 1 };
		/* What others have left in the map goes after a while, and so
		 * few pages show after a while.
		 */
		for (i = 0; i < 5 && grown < NR * LEAF; i++) {
			sleep(3);
			slab = cg_read_key_long(cg, "memory.stat", "slab ");
			check_eq(uring_register(ring, IORING_REGISTER_BUFFERS,
						iov, NR), 0);
			sleep(3);
			grown = cg_read_key_long(cg, "memory.stat", "slab ") -
				slab;
			check_eq(uring_register(ring,
						IORING_UNREGISTER_BUFFERS,
						NULL, 0), 0);
		}
		check(grown >= NR * LEAF);
		_exit(0);
	}
	i = reap(pid);
	snprintf(text, sizeof(text), "%lu", NR * apart);
	cg_write(cg, "memory.reclaim", text);
	cg_destroy(cg);
	cg_write(pins_top, "cgroup.subtree_control", "-memory");
	cg_write(pins_root, "cgroup.subtree_control", "-memory");
	check_eq(i, 0);
}

/* Each new cgroup, with its statistics per CPU, is charged to the memory controller. */
static void cgroups_are_paid_for(void)
{
	/* Two counters of 8 bytes for each line of pins.stat */
	enum { NR = 100, STAT = 2 * 8 * 18 };
	char *cg = cg_make("a"), *me, *child, name[16];
	long percpu, slab;
	pid_t pid;
	int i;

	need_memory_controller();
	me = cg_make("a/me");
	pid = test_fork();
	if (!pid) {
		enter(me);
		sleep(3);
		percpu = cg_read_key_long(cg, "memory.stat", "percpu ");
		slab = cg_read_key_long(cg, "memory.stat", "slab ");
		for (i = 0; i < NR; i++) {
			snprintf(name, sizeof(name), "a/%d", i);
			free(cg_make(name));
		}
		sleep(3);
		check(cg_read_key_long(cg, "memory.stat", "percpu ") - percpu >=
		      NR * STAT * sysconf(_SC_NPROCESSORS_ONLN));
		check(cg_read_key_long(cg, "memory.stat", "slab ") - slab >= NR * 512);
		_exit(0);
	}
	pid = reap(pid);
	for (i = 0; i < NR; i++) {
		snprintf(name, sizeof(name), "a/%d", i);
		child = cg_name(pins_top, name);
		cg_destroy(child);
		free(child);
	}
	cg_destroy(me);
	cg_destroy(cg);
	cg_write(pins_top, "cgroup.subtree_control", "-memory");
	cg_write(pins_root, "cgroup.subtree_control", "-memory");
	check_eq(pid, 0);
}

/* How often CPUs have interrupted others to run something there */
static long calls(void)
{
	char line[4096], *p, *end;
	long nr, sum = -1;
	FILE *f;

	f = fopen("/proc/interrupts", "r");
	check(f);
	while (fgets(line, sizeof(line), f)) {
		p = strchr(line, ':');
		if (!p || !strstr(p, "Function call interrupts"))
			continue;
		for (sum = 0, p++; nr = strtol(p, &end, 10), end != p; p = end)
			sum += nr;
	}
	fclose(f);
	if (sum < 0)
		skip("no function call interrupts are counted");
	return sum;
}

/*
 * A static key in the kernel says whether any cgroup uses a file. Switching
 * it patches the code, and interrupts all CPUs several times. Nobody who
 * may write the file can cause that again and again.
 */
static void toggled(char *file, char *on, char *off)
{
	enum { NR = 200 };
	char *cg = cg_make("a");
	long before;
	int i;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		skip("only one CPU");
	if (!cg_has(cg, file))
		skip("the kernel does not have the file");
	before = calls();
	for (i = 0; i < NR; i++) {
		check_eq(cg_write(cg, file, on), 0);
		check_eq(cg_write(cg, file, off), 0);
	}
	i = calls() - before;
	ksft_print_msg("%d calls\n", i);
	check(i < NR);
}

static void steer_is_toggled(void)
{
	toggled("pins.steer", "block", "zone");
}

static void wait_max_is_toggled(void)
{
	toggled("pins.wait.max", "1000", "inherit");
}

/* One allocation of a request fails after the other. The memory is all there,
 * so that none is GUP's: the map needs leaves for small and for huge folios, and
 * room in a list of four owners for one more. Whatever fails, it is ENOMEM.
 */
static void short_of_memory(void)
{
	struct mem shared, small, huge;
	char *top = cg_make("a"), *ours, *cg[4], name[16];
	int fd, ring, n, i, ret;
	struct iovec iov[3];
	struct pin p[4];
	bool failed = true;

	ours = enter_new("ours");
	fd = fail_setup();
	ring = uring_setup();
	for (i = 0; i < ARRAY_SIZE(cg); i++) {
		snprintf(name, sizeof(name), "a/%d", i);
		cg[i] = cg_make(name);
	}
	for (n = 1; failed; n++) {
		shared = mem_get(MEM_MEMFD, PAGES(2));
		small = mem_get(MEM_ANON, SZ_64K);
		huge = mem_get(MEM_THP, SZ_2M);
		for (i = 0; i < ARRAY_SIZE(cg); i++) {
			enter(cg[i]);
			check_eq(pin(&p[i], SOURCE_URING, &shared), 0);
		}
		enter(ours);
		iov[0] = (struct iovec){ shared.addr, shared.len };
		iov[1] = (struct iovec){ small.addr, small.len };
		iov[2] = (struct iovec){ huge.addr, huge.len };
		fail_nth(fd, n);
		ret = uring_register(ring, IORING_REGISTER_BUFFERS, iov, 3);
		failed = !cg_read_long_fd(fd);
		fail_nth(fd, 0);
		if (ret) {
			check_eq(ret, -ENOMEM);
			check(failed);
		} else {
			check_eq(pins_current(ours), shared.len + small.len +
				 huge.len);
			check_eq(uring_register(ring,
						IORING_UNREGISTER_BUFFERS,
						NULL, 0), 0);
		}
		check_reaches(ours, 0);
		check_eq(pins_current(top), 4 * shared.len);
		for (i = 0; i < ARRAY_SIZE(cg); i++) {
			enter(cg[i]);
			unpin(&p[i]);
		}
		check_eq(pins_current(top), 0);
		check(!munmap(shared.addr, shared.len) && !close(shared.fd));
		check(!munmap(small.addr, small.len));
		check(!munmap(huge.addr, huge.len));
	}
	check_eq(pins_events(ours), 0);
	check_eq(pins_stat(ours, "unpins"), pins_stat(ours, "pins"));
}

/* A ring with an idle buffer, whose lock is held by who registers another one */

struct stuck {
	int ring;
	struct mem m;
};

static void *update_and_stall(void *arg)
{
	struct stuck *stuck = arg;
	struct iovec iov = { stuck->m.addr, stuck->m.len };
	struct io_uring_rsrc_update2 update = {
		.offset = 1, .nr = 1, .data = (uintptr_t)&iov,
	};

	stall_result = uring_register(stuck->ring, IORING_REGISTER_BUFFERS_UPDATE, &update,
				      sizeof(update));
	return NULL;
}

static void __noreturn getting_stuck(struct stall *s)
{
	struct mem idle = mem_get(MEM_ANON, SZ_64K);
	struct iovec iov[2] = { { idle.addr, idle.len } };
	struct io_uring_rsrc_register reg = { .nr = 2, .data = (uintptr_t)iov };
	struct stuck stuck = { .ring = uring_setup(), .m = mem_get(MEM_UNTOUCHED, SZ_64K) };

	check_eq(uring_register(stuck.ring, IORING_REGISTER_BUFFERS2, &reg, sizeof(reg)), 0);
	stall_at_end(s, &stuck.m, update_and_stall, &stuck);
}

/* What it cannot give back nobody waits for, and nothing else is lost. */
static void ring_is_stuck(void)
{
	struct stall s = { .stalled = baton_make(), .go = baton_make() };
	char *parent = cg_make("p"), *cg = cg_make("p/a"), *other;
	struct pin p;
	struct mem m;

	need_source(SOURCE_URING);
	if (!cg_has(cg, "pins.revoke"))
		skip("no pins.revoke");
	other = cg_make("p/b");
	check_eq(cg_write(cg, "pins.revoke", "idle"), 0);
	set_max(parent, 2 * SZ_64K);
	check(!pipe(s.result));
	s.pid = test_fork();
	if (!s.pid) {
		enter(cg);
		getting_stuck(&s);
	}
	baton_take(&s.stalled);
	check(cg_write(cg, "pins.reclaim", "64k") && errno == EAGAIN);
	set_max(cg, PAGE_SIZE);
	check_eq(cg_write(cg, "pins.max", "max"), 0);
	check(pins_current(cg) >= SZ_64K);
	enter(other);
	m = mem_get(MEM_ANON, 2 * SZ_64K);
	check_eq(pin(&p, SOURCE_URING, &m), -ENOMEM);
	check_eq(pins_stat(cg, "revoked"), 0);

	check_eq(stall_end(&s), 1);
	check_eq(pin(&p, SOURCE_URING, &m), 0);
	check_reaches(cg, 0);
	check_eq(pins_current(other), 2 * SZ_64K);
	unpin(&p);
}

static const struct pins_test tests[] = {
	{ "I9 sticky: memory of an exited process is charged to the task that pins it",
	  owner_is_gone },
	{ "I9 sticky: a process that shares another's memory pays itself",
	  shared_mm },
	{ "I3 whole: threads in a threaded cgroup pay where their process does",
	  threaded_cgroup },
	{ "I1 once: a task that moves in a request pays once, where it then is",
	  moved_in_a_request },
	{ "I3 whole: uncharged pins are those of one request, and only until it ends",
	  unpaid_while_stalled },
	{ "I1 once: a byte in each of many huge pages is paid for as all of them",
	  byte_in_each },
	{ "I1 once: to advise against huge pages once they are there changes nothing",
	  advised_too_late },
	{ "I1 once: small pages are charged if it is done before, or forbidden",
	  advised_in_time },
	{ "I1 once: thousands of mappings that come and go are not mistaken for pins",
	  mapped_and_unmapped },
	{ "I1 once: the same page a thousand times in a request, and in thousands of buffers",
	  same_page_all_over },
	{ "I5 short: /proc/pid/mem, process_vm_writev, vmsplice, mlock are not charged",
	  pinned_by_other_means },
	{ "I9 sticky: who gets a file with pins does not get the charge",
	  fd_passed_on },
	{ "I9 sticky: of two cgroups with a ring between them, each pays its own",
	  ring_of_two },
	{ "I9 sticky: buffers that another cgroup clones stay with who pinned them",
	  cloned_by_another },
	{ "I9 sticky: a neighbour's ring over our memory does not take our charge",
	  neighbour_lets_go_of_ring },
	{ "I9 sticky: nor does its RDMA region", neighbour_lets_go_of_rdma },
	{ "I9 sticky: nor does its iommufd", neighbour_lets_go_of_iommufd },
	{ "I9 sticky: nor does its AF_XDP socket", neighbour_lets_go_of_xdp },
	{ "I9 sticky: nor does its udmabuf", neighbour_lets_go_of_udmabuf },
	{ "I2 zero: a neighbour's references keep the charge of no other page",
	  neighbour_refers_to_it },
	{ "I4 fair: a request that is stuck in a fault holds up no sibling",
	  stalled_beside },
	{ "I2 zero: a request killed when it is stuck leaves nothing",
	  killed_while_stalled },
	{ "I4 fair: a request that is frozen when it is stuck holds up no sibling",
	  frozen_while_stalled },
	{ "I3 whole: a limit that jumps about lets in no more than its highest value",
	  limit_jumps },
	{ "I3 whole: a buffer replaced in a full cgroup stays",
	  replaced_when_full },
	{ "I3 whole: an update refused half way tells how many buffers it has replaced",
	  replaced_in_part },
	{ "pins.peak: hundreds of files reset it, each keeps its own",
	  many_peaks },
	{ "I3 whole: requests of no sense or size fail and leave nothing",
	  nonsense },
	{ "I2 zero: a ring that pins its own memory can go", ring_pins_itself },
	{ "I9 sticky: a ring with a thread pays where its task is, and goes with it",
	  thread_of_a_ring },
	{ "I2 zero: a ring keeps no more removed cgroups than its limit has pages",
	  many_removed },
	{ "I1 once: a crowd of owners of the same memory, and one that comes and goes",
	  crowd_of_owners },
	{ "I11 own cost: pinning what many others pin only costs one's own records",
	  crowd_on_one_page },
	{ "I4 fair: a sibling without CPU time holds up nobody", throttled_beside },
	{ "I3 whole: whichever allocation of a request fails, it is ENOMEM",
	  short_of_memory },
	{ "The memory of the map is paid for by who pins", map_is_paid_for },
	{ "The memory of a cgroup is paid for by who makes it", cgroups_are_paid_for },
	{ "I4 fair: a ring that is stuck with its lock holds up nobody who wants its pins",
	  ring_is_stuck },
	{ "pins.steer, written again and again, interrupts nobody", steer_is_toggled },
	{ "pins.wait.max, written again and again, interrupts nobody",
	  wait_max_is_toggled },
};

int main(void)
{
	pins_run(tests, ARRAY_SIZE(tests));
}
