// SPDX-License-Identifier: GPL-2.0
/*
 * Pins that give way: pins.revoke, pins.reclaim. A buffer that is registered with io_uring
 * loses its pins while no request uses it, and has them again when one does.
 *
 * Copyright (C) 2026 the pins authors
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "pins_util.h"

#define LEN	(2 * SZ_2M)

/* A ring with room for a few requests, used one by one */
struct ring {
	int fd;
	unsigned int *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
};

static struct ring ring;
static int file = -1;

static struct ring ring_make(void)
{
	struct io_uring_params p = { };
	struct ring r;
	char *sq, *cq;

	r.fd = syscall(__NR_io_uring_setup, 8, &p);
	if (r.fd < 0)
		skip("no io_uring: %s", strerror(errno));
	sq = mmap(NULL, p.sq_off.array + p.sq_entries * sizeof(int), PROT_READ | PROT_WRITE,
		  MAP_SHARED, r.fd, IORING_OFF_SQ_RING);
	cq = mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof(*r.cqes),
		  PROT_READ | PROT_WRITE, MAP_SHARED, r.fd, IORING_OFF_CQ_RING);
	r.sqes = mmap(NULL, p.sq_entries * sizeof(*r.sqes), PROT_READ | PROT_WRITE,
		      MAP_SHARED, r.fd, IORING_OFF_SQES);
	check(sq != MAP_FAILED && cq != MAP_FAILED && r.sqes != MAP_FAILED);
	r.sq_tail = (void *)(sq + p.sq_off.tail);
	r.sq_mask = (void *)(sq + p.sq_off.ring_mask);
	r.sq_array = (void *)(sq + p.sq_off.array);
	r.cq_head = (void *)(cq + p.cq_off.head);
	r.cq_tail = (void *)(cq + p.cq_off.tail);
	r.cq_mask = (void *)(cq + p.cq_off.ring_mask);
	r.cqes = (void *)(cq + p.cq_off.cqes);
	return r;
}

static void submit(struct ring *r, int op, int fd, void *addr, size_t len, off_t off,
		   int index, unsigned int flags)
{
	unsigned int tail = *r->sq_tail, i = tail & *r->sq_mask;

	r->sqes[i] = (struct io_uring_sqe) {
		.opcode = op, .fd = fd, .addr = (uintptr_t)addr, .len = len, .off = off,
		.buf_index = index, .flags = flags,
	};
	r->sq_array[i] = i;
	__atomic_store_n(r->sq_tail, tail + 1, __ATOMIC_RELEASE);
	check_eq(syscall(__NR_io_uring_enter, r->fd, 1, 0, 0, NULL, 0), 1);
}

/* The next completion: its result, and where it is from */
static int complete(struct ring *r, __u64 *user_data)
{
	unsigned int head = *r->cq_head;
	int res;

	while (head == __atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE))
		check(syscall(__NR_io_uring_enter, r->fd, 0, 1, IORING_ENTER_GETEVENTS,
			      NULL, 0) >= 0);
	res = r->cqes[head & *r->cq_mask].res;
	if (user_data)
		*user_data = r->cqes[head & *r->cq_mask].user_data;
	__atomic_store_n(r->cq_head, head + 1, __ATOMIC_RELEASE);
	return res;
}

static bool has_completion(struct ring *r)
{
	return *r->cq_head != __atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE);
}

/* What page i of the file holds */
static char content(size_t i)
{
	return i % 251 + 1;
}

static void file_make(void)
{
	char page[PAGE_SIZE];
	size_t i;

	file = memfd_create("pins", 0);
	check(file >= 0);
	for (i = 0; i < LEN / PAGE_SIZE; i++) {
		memset(page, content(i), PAGE_SIZE);
		check_eq(write(file, page, PAGE_SIZE), PAGE_SIZE);
	}
}

static int read_fixed(struct ring *r, char *addr, size_t len, off_t off, int index)
{
	submit(r, IORING_OP_READ_FIXED, file, addr, len, off, index, 0);
	return complete(r, NULL);
}

static void check_content(const char *addr, size_t len, off_t off)
{
	size_t i;

	for (i = 0; i < len; i += PAGE_SIZE)
		check(addr[i] == content((off + i) / PAGE_SIZE) &&
		      addr[i + PAGE_SIZE - 1] == content((off + i) / PAGE_SIZE));
}

static void revoke(const char *cg, const char *what)
{
	if (!cg_has(cg, "pins.revoke"))
		skip("no pins.revoke");
	check_eq(cg_write(cg, "pins.revoke", (char *)what), 0);
}

/* Returns 0 or an errno. */
static int reclaim(const char *cg, long bytes)
{
	char text[32];

	snprintf(text, sizeof(text), "%ld", bytes);
	return cg_write(cg, "pins.reclaim", text) ? errno : 0;
}

/* Aligned to what is pinned in one piece */
static struct mem memory(size_t len)
{
	struct mem m = { .kind = &mem_kinds[MEM_ANON], .len = len, .fd = -1 };

	m.addr = mmap(mem_reserve(len, SZ_2M), len, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	check(m.addr != MAP_FAILED);
	check(!madvise(m.addr, len, MADV_NOHUGEPAGE) || errno == EINVAL);
	check(!madvise(m.addr, len, MADV_POPULATE_WRITE));
	return m;
}

/* A buffer of anonymous memory, registered in a cgroup with that knob */
static struct mem buffer(char *cg, const char *knob)
{
	struct mem m = memory(LEN);
	struct iovec iov = { m.addr, m.len };

	revoke(cg, knob);
	ring = ring_make();
	file_make();
	check_eq(uring_register(ring.fd, IORING_REGISTER_BUFFERS, &iov, 1), 0);
	check_eq(pins_current(cg), LEN);
	return m;
}

static void comes_back(void)
{
	char *cg = enter_new("a");
	struct mem m = buffer(cg, "idle");

	check_eq(pins_stat(cg, "revocable"), LEN);
	check_eq(reclaim(cg, LEN), 0);
	check_eq(pins_current(cg), 0);
	check_eq(pins_stat(cg, "revocable"), 0);
	check_eq(pins_stat(cg, "revoked"), LEN / PAGE_SIZE);
	check_eq(cg_read_key_long(cg, "pins.events", "revoked "), 1);
	check(!has_completion(&ring));

	/* Only what is needed, in steps of 2 MB */
	check_eq(read_fixed(&ring, m.addr, PAGE_SIZE, 0, 0), PAGE_SIZE);
	check_content(m.addr, PAGE_SIZE, 0);
	check(pins_current(cg) >= PAGE_SIZE && pins_current(cg) <= (long)SZ_2M);
	check_eq(pins_stat(cg, "repinned"), pins_current(cg) / PAGE_SIZE);
	check_eq(read_fixed(&ring, m.addr, LEN, 0, 0), LEN);
	check_content(m.addr, LEN, 0);
	check_eq(pins_current(cg), LEN);

	check_eq(reclaim(cg, LEN), 0);
	check_eq(pins_current(cg), 0);
	check_eq(read_fixed(&ring, m.addr + SZ_2M, SZ_64K, SZ_2M, 0), SZ_64K);
	check_content(m.addr + SZ_2M, SZ_64K, SZ_2M);
	check_eq(uring_register(ring.fd, IORING_UNREGISTER_BUFFERS, NULL, 0), 0);
	check_reaches(cg, 0);
	check_eq(pins_stat(cg, "pins"), pins_stat(cg, "unpins"));
}

static void never(void)
{
	char *cg = enter_new("a");
	struct mem m = buffer(cg, "never");

	check_eq(pins_stat(cg, "revocable"), 0);
	check_eq(reclaim(cg, PAGE_SIZE), EAGAIN);
	check_eq(pins_current(cg), LEN);
	check_eq(pins_stat(cg, "revoked"), 0);
	check_eq(read_fixed(&ring, m.addr, LEN, 0, 0), LEN);
	check_content(m.addr, LEN, 0);
}

static void bad_values(void)
{
	char *cg = enter_new("a");

	buffer(cg, "idle");
	check(cg_write(cg, "pins.revoke", "always") && errno == EINVAL);
	check(cg_write(cg, "pins.revoke", "") && errno == EINVAL);
	check(cg_write(cg, "pins.reclaim", "max") && errno == EINVAL);
	check(cg_write(cg, "pins.reclaim", "-1") && errno == EINVAL);
	check_eq(cg_read_strcmp(cg, "pins.revoke", "idle\n"), 0);
	check_eq(pins_current(cg), LEN);
	/* More than there is: all of it goes. */
	check_eq(reclaim(cg, 2 * LEN), EAGAIN);
	check_eq(pins_current(cg), 0);
}

/* A full cgroup: who asks for more gets what was not used for longest. */
static void makes_room(void)
{
	char *cg = enter_new("a");
	struct mem m = buffer(cg, "idle"), more[2];
	struct ring other = ring_make();
	struct iovec iov[2];
	int i;

	set_max(cg, LEN + SZ_2M);
	for (i = 0; i < 2; i++) {
		more[i] = memory(SZ_2M);
		iov[i] = (struct iovec){ more[i].addr, SZ_2M };
	}
	/* That of another ring, then one of its own */
	check_eq(uring_register(other.fd, IORING_REGISTER_BUFFERS, iov, 2), 0);
	check_eq(pins_current(cg), 2 * SZ_2M);
	check_eq(cg_read_key_long(cg, "pins.events", "max "), 0);
	check_eq(read_fixed(&ring, m.addr, SZ_2M, 0, 0), SZ_2M);
	check_eq(pins_current(cg), 3 * SZ_2M);
	check_eq(read_fixed(&ring, m.addr, LEN, 0, 0), LEN);
	check_content(m.addr, LEN, 0);
	check(pins_current(cg) <= (long)(LEN + SZ_2M));
	check_eq(read_fixed(&other, more[0].addr, SZ_2M, 0, 0), SZ_2M);
	check_content(more[0].addr, SZ_2M, 0);
	check_eq(cg_read_key_long(cg, "pins.events", "refused "), 0);
}

static void limit_is_lowered(void)
{
	char *cg = enter_new("a");
	struct mem m = buffer(cg, "idle");

	set_max(cg, SZ_2M);
	check_eq(pins_current(cg), 0);
	check_eq(read_fixed(&ring, m.addr, PAGE_SIZE, 0, 0), PAGE_SIZE);
	/* More than fits in one piece */
	check_eq(read_fixed(&ring, m.addr, LEN, 0, 0), -ENOMEM);
	check_eq(cg_read_key_long(cg, "pins.events", "refused "), 1);
	set_max(cg, LEN);
	check_eq(read_fixed(&ring, m.addr, LEN, 0, 0), LEN);
	check_content(m.addr, LEN, 0);
}

/* Without pins, it is what is mapped there that counts. */
static void other_memory(void)
{
	char *cg = enter_new("a");
	struct mem m = buffer(cg, "idle");
	char *new;

	check_eq(reclaim(cg, LEN), 0);
	check(!munmap(m.addr, SZ_2M));
	check_eq(read_fixed(&ring, m.addr, PAGE_SIZE, 0, 0), -EFAULT);
	check_eq(read_fixed(&ring, m.addr + SZ_2M, PAGE_SIZE, 0, 0), PAGE_SIZE);
	new = mmap(m.addr, SZ_2M, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	check(new == m.addr);
	check_eq(read_fixed(&ring, m.addr, SZ_64K, 0, 0), SZ_64K);
	check_content(new, SZ_64K, 0);
	check(!mprotect(m.addr, SZ_2M, PROT_READ));
	check_eq(reclaim(cg, 2 * SZ_2M), 0);
	check_eq(read_fixed(&ring, m.addr, SZ_64K, 0, 0), -EFAULT);
	/* Outside of the buffer nothing is pinned. */
	check_eq(read_fixed(&ring, m.addr + LEN, PAGE_SIZE, 0, 0), -EFAULT);
	check_eq(pins_current(cg), 0);
}

/* Memory that has to move, under a registered buffer */
static void goes_offline(void)
{
	struct range r = movable_range();
	char *cg = enter_new("a"), *addr;
	struct iovec iov;

	revoke(cg, "idle");
	check_eq(cg_write(r.dir, "state", "offline"), 0);
	check_eq(cg_write(r.dir, "state", "online_kernel"), 0);
	addr = memory_of(&r, true, SZ_2M, MAP_PRIVATE);
	ring = ring_make();
	file_make();
	iov = (struct iovec){ addr, SZ_2M };
	check_eq(uring_register(ring.fd, IORING_REGISTER_BUFFERS, &iov, 1), 0);
	check(in_range(&r, addr, PAGE_SIZE));
	enter_root();
	check_eq(take(&r), 0);
	enter(cg);
	check_eq(read_fixed(&ring, addr, SZ_2M, 0, 0), SZ_2M);
	check_content(addr, SZ_2M, 0);
	check(!in_range(&r, addr, PAGE_SIZE));
	check_eq(pins_events_local(cg), 0);
	give_back(&r);
}

/* Nobody is told of a revocation, and the tag is still there. */
static void tagged(void)
{
	char *cg = enter_new("a");
	struct mem m = memory(LEN);
	struct iovec iov = { m.addr, m.len };
	__u64 tag = 4711, user_data;
	struct io_uring_rsrc_register reg = {
		.nr = 1, .data = (uintptr_t)&iov, .tags = (uintptr_t)&tag,
	};

	revoke(cg, "idle");
	ring = ring_make();
	file_make();
	check_eq(uring_register(ring.fd, IORING_REGISTER_BUFFERS2, &reg, sizeof(reg)), 0);
	check_eq(reclaim(cg, LEN), 0);
	check_eq(read_fixed(&ring, m.addr, PAGE_SIZE, 0, 0), PAGE_SIZE);
	check_eq(reclaim(cg, SZ_2M), 0);
	check_eq(pins_current(cg), 0);
	check(!has_completion(&ring));
	iov = (struct iovec){ };
	check_eq(uring_register(ring.fd, IORING_REGISTER_BUFFERS_UPDATE,
				&(struct io_uring_rsrc_update2) {
					.nr = 1, .data = (uintptr_t)&iov,
				}, sizeof(struct io_uring_rsrc_update2)), 1);
	check_eq(complete(&ring, &user_data), 0);
	check_eq(user_data, tag);
	check(!has_completion(&ring));
	check_eq(read_fixed(&ring, m.addr, PAGE_SIZE, 0, 0), -EFAULT);
}

/* By a worker of io_uring, which holds no lock when it comes to the buffer */
static void by_a_worker(void)
{
	char *cg = enter_new("a");
	struct mem m = buffer(cg, "idle");
	int i;

	for (i = 0; i < 20; i++) {
		check_eq(reclaim(cg, i ? SZ_2M : LEN), 0);
		submit(&ring, IORING_OP_READ_FIXED, file, m.addr + SZ_2M, SZ_2M, SZ_2M, 0,
		       IOSQE_ASYNC);
		check_eq(complete(&ring, NULL), SZ_2M);
		check_content(m.addr + SZ_2M, SZ_2M, SZ_2M);
	}
}

static const struct pins_test tests[] = {
	{ "I2 zero, I12 content: a buffer loses its pins, and gets them back", comes_back },
	{ "never: it does not", never },
	{ "bad values change nothing", bad_values },
	{ "a full cgroup gets what was not used for longest", makes_room },
	{ "a limit below current takes back; what does not fit is ENOMEM", limit_is_lowered },
	{ "what is mapped by then is what is used, or EFAULT", other_memory },
	{ "memory under a registered buffer goes offline", goes_offline },
	{ "no completion tells of it, and the tag stays", tagged },
	{ "workers of io_uring pin again, too", by_a_worker },
};

int main(void)
{
	pins_run(tests, ARRAY_SIZE(tests));
}
