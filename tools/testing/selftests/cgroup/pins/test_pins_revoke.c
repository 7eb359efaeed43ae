// SPDX-License-Identifier: GPL-2.0
/*
 * Pins that give way: pins.revoke, pins.reclaim. A buffer that is registered with io_uring
 * loses its pins while no request uses it, and has them again when one does.
 *
 * Copyright (C) 2026 the pins authors
 */
#define _GNU_SOURCE

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/io_uring.h>
#include <linux/nvme_ioctl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pins_util.h"

#define LEN	(2 * SZ_2M)

static struct ring ring;
static int file = -1;

static void submit_sqe(struct ring *r, struct io_uring_sqe sqe)
{
	ring_queue(r, sqe);
	ring_submit(r, 1);
}

static void submit(struct ring *r, int op, int fd, void *addr, size_t len, off_t off,
		   int index, unsigned int flags)
{
	submit_sqe(r, (struct io_uring_sqe) {
		.opcode = op, .fd = fd, .addr = (uintptr_t)addr, .len = len, .off = off,
		.buf_index = index, .flags = flags,
	});
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
	return ring_complete(r, NULL);
}

static void check_content(const char *addr, size_t len, off_t off)
{
	size_t i;

	for (i = 0; i < len; i += PAGE_SIZE)
		check(addr[i] == content((off + i) / PAGE_SIZE) &&
		      addr[i + PAGE_SIZE - 1] == content((off + i) / PAGE_SIZE));
}

static void set_revoke(const char *cg, const char *what)
{
	if (!cg_has(cg, "pins.revoke"))
		skip("no pins.revoke");
	check_eq(cg_write(cg, "pins.revoke", (char *)what), 0);
}

/* Returns 0 or an errno. */
static int take_back(const char *cg, long bytes)
{
	char text[32];

	snprintf(text, sizeof(text), "%ld", bytes);
	return cg_write(cg, "pins.reclaim", text) ? errno : 0;
}

/* All of it, as soon as nothing uses it, and nobody has the lock of a ring. */
static void take_all(const char *cg)
{
	int i;

	for (i = 0; i < 1000 && pins_current(cg); i++) {
		take_back(cg, LEN);
		usleep(1000);
	}
	check_eq(pins_current(cg), 0);
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

	set_revoke(cg, knob);
	ring = ring_make((struct io_uring_params){});
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
	check_eq(take_back(cg, LEN), 0);
	check_eq(pins_current(cg), 0);
	check_eq(pins_stat(cg, "revocable"), 0);
	check_eq(pins_stat(cg, "revoked"), LEN / PAGE_SIZE);
	check_eq(cg_read_key_long(cg, "pins.events", "revoked "), 1);
	check(!ring_has_completion(&ring));

	/* Only what is needed, in steps of 2 MB */
	check_eq(read_fixed(&ring, m.addr, PAGE_SIZE, 0, 0), PAGE_SIZE);
	check_content(m.addr, PAGE_SIZE, 0);
	check(pins_current(cg) >= PAGE_SIZE && pins_current(cg) <= (long)SZ_2M);
	check_eq(pins_stat(cg, "repinned"), pins_current(cg) / PAGE_SIZE);
	check_eq(read_fixed(&ring, m.addr, LEN, 0, 0), LEN);
	check_content(m.addr, LEN, 0);
	check_eq(pins_current(cg), LEN);

	check_eq(take_back(cg, LEN), 0);
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
	check_eq(take_back(cg, PAGE_SIZE), EAGAIN);
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
	check(cg_write(cg, "pins.reclaim", "max") && errno == EINVAL);
	check(cg_write(cg, "pins.reclaim", "-1") && errno == EINVAL);
	check_eq(cg_read_strcmp(cg, "pins.revoke", "idle\n"), 0);
	check_eq(pins_current(cg), LEN);
	/* More than there is: all of it goes. */
	check_eq(take_back(cg, 2 * LEN), EAGAIN);
	check_eq(pins_current(cg), 0);
}

/* A full cgroup: who asks for more gets what was not used for longest. */
static void makes_room(void)
{
	char *cg = enter_new("a");
	struct mem m = buffer(cg, "idle"), more[2];
	struct ring other = ring_make((struct io_uring_params){});
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

/* Room for a ring of provided buffers, of the same ring: its lock is taken then. */
static void provide_buffers(const char *cg)
{
	struct mem provided = memory(SZ_64K);
	struct io_uring_buf_reg reg = {
		.ring_addr = (uintptr_t)provided.addr,
		.ring_entries = SZ_64K / sizeof(struct io_uring_buf),
	};

	set_max(cg, pins_current(cg));
	check_eq(uring_register(ring.fd, IORING_REGISTER_PBUF_RING, &reg, 1), 0);
	check_eq(pins_current(cg), SZ_64K);
}

static void for_provided_buffers(void)
{
	char *cg = enter_new("a");
	struct mem m = buffer(cg, "idle");

	provide_buffers(cg);
	check_eq(read_fixed(&ring, m.addr, PAGE_SIZE, 0, 0), PAGE_SIZE);
	check_content(m.addr, PAGE_SIZE, 0);
}

/* Of whom may not lock memory, io_uring counts each huge page once. */
static void accounted(void)
{
	char *cg = enter_new("a");
	struct mem m = mem_get(mem_huge(), SZ_2M);
	struct iovec iov[2] = { { m.addr, m.len }, { m.addr, m.len } };

	set_revoke(cg, "idle");
	drop_capability(CAP_IPC_LOCK);
	ring = ring_make((struct io_uring_params){});
	check_eq(uring_register(ring.fd, IORING_REGISTER_BUFFERS, iov, 2), 0);
	check_eq(pins_current(cg), SZ_2M);
	provide_buffers(cg);
	check_eq(uring_register(ring.fd, IORING_UNREGISTER_BUFFERS, NULL, 0), 0);
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

	check_eq(take_back(cg, LEN), 0);
	check(!munmap(m.addr, SZ_2M));
	check_eq(read_fixed(&ring, m.addr, PAGE_SIZE, 0, 0), -EFAULT);
	check_eq(read_fixed(&ring, m.addr + SZ_2M, PAGE_SIZE, 0, 0), PAGE_SIZE);
	new = mmap(m.addr, SZ_2M, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	check(new == m.addr);
	check_eq(read_fixed(&ring, m.addr, SZ_64K, 0, 0), SZ_64K);
	check_content(new, SZ_64K, 0);
	check(!mprotect(m.addr, SZ_2M, PROT_READ));
	check_eq(take_back(cg, 2 * SZ_2M), 0);
	check_eq(read_fixed(&ring, m.addr, SZ_64K, 0, 0), -EFAULT);
	/* Outside of the buffer nothing is pinned. */
	check_eq(read_fixed(&ring, m.addr + LEN, PAGE_SIZE, 0, 0), -EFAULT);
	check_eq(pins_current(cg), 0);
}

/* The kernel itself may have allocated there. If pins were in the way, it says so. */
static void check_taken(const char *cg, int err)
{
	if (err == EBUSY && !cg_read_key_long(cg, "pins.events", "blocked "))
		skip("there is unmovable memory in the block");
	check_eq(err, 0);
}

/*
 * Who asks may be throttled (cpu.max) at any time, and the ring of another must not stand
 * still meanwhile: so he does not take the pins back himself.
 */
static void by_another_task(void)
{
	char *cg = enter_new("a"), line[512], *p;
	struct ring other = ring_make((struct io_uring_params){});
	struct mem more = memory(SZ_64K);
	struct iovec iov = { more.addr, SZ_64K };
	int pid, lines = 0;
	FILE *f;

	buffer(cg, "idle");
	set_max(cg, LEN);
	trace_begin("pins/pins_revoke");
	check_eq(uring_register(other.fd, IORING_REGISTER_BUFFERS, &iov, 1), 0);
	check_eq(take_back(cg, SZ_64K), 0);
	check_eq(pins_current(cg), 0);

	f = trace_end("pins/pins_revoke");
	while (fgets(line, sizeof(line), f)) {
		if (!strstr(line, " pins_revoke: "))
			continue;
		/* name-pid [cpu] */
		p = strstr(line, " [");
		check(p);
		while (p > line && *p != '-')
			p--;
		pid = atoi(p + 1);
		check(pid > 0 && pid != getpid());
		lines++;
	}
	fclose(f);
	check_eq(lines, 2);
}

/* Memory that has to move, under a registered buffer */
static void goes_offline(void)
{
	struct range r = kernel_range();
	char *cg = enter_new("a"), *addr;
	struct iovec iov;

	set_revoke(cg, "idle");
	addr = memory_of(&r, true, SZ_2M, MAP_PRIVATE);
	ring = ring_make((struct io_uring_params){});
	file_make();
	iov = (struct iovec){ addr, SZ_2M };
	check_eq(uring_register(ring.fd, IORING_REGISTER_BUFFERS, &iov, 1), 0);
	check(in_range(&r, addr, PAGE_SIZE));
	enter_root();
	check_taken(cg, take(&r));
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

	set_revoke(cg, "idle");
	ring = ring_make((struct io_uring_params){});
	file_make();
	check_eq(uring_register(ring.fd, IORING_REGISTER_BUFFERS2, &reg, sizeof(reg)), 0);
	check_eq(take_back(cg, LEN), 0);
	check_eq(read_fixed(&ring, m.addr, PAGE_SIZE, 0, 0), PAGE_SIZE);
	check_eq(take_back(cg, SZ_2M), 0);
	check_eq(pins_current(cg), 0);
	check(!ring_has_completion(&ring));
	iov = (struct iovec){ };
	check_eq(uring_register(ring.fd, IORING_REGISTER_BUFFERS_UPDATE,
				&(struct io_uring_rsrc_update2) {
					.nr = 1, .data = (uintptr_t)&iov,
				}, sizeof(struct io_uring_rsrc_update2)), 1);
	check_eq(ring_complete(&ring, &user_data), 0);
	check_eq(user_data, tag);
	check(!ring_has_completion(&ring));
	check_eq(read_fixed(&ring, m.addr, PAGE_SIZE, 0, 0), -EFAULT);
}

/* By a worker of io_uring, which holds no lock when it comes to the buffer */
static void by_a_worker(void)
{
	char *cg = enter_new("a");
	struct mem m = buffer(cg, "idle");
	int i;

	for (i = 0; i < 20; i++) {
		check_eq(take_back(cg, i ? SZ_2M : LEN), 0);
		submit(&ring, IORING_OP_READ_FIXED, file, m.addr + SZ_2M, SZ_2M, SZ_2M, 0,
		       IOSQE_ASYNC);
		check_eq(ring_complete(&ring, NULL), SZ_2M);
		check_content(m.addr + SZ_2M, SZ_2M, SZ_2M);
	}
}

/* A value holds for buffers that are registered already, and for those below. */
static void holds_for(void)
{
	char *parent = cg_make("p"), *cg = cg_make("p/a"), *other = cg_make("p/b");
	struct mem m;

	enter(cg);
	m = buffer(cg, "never");
	set_revoke(parent, "idle");
	check_eq(pins_stat(cg, "revocable"), LEN);
	check_eq(pins_stat(parent, "revocable"), LEN);
	check_eq(take_back(other, PAGE_SIZE), EAGAIN);
	check_eq(pins_current(cg), LEN);
	check_eq(take_back(parent, PAGE_SIZE), 0);
	check_eq(pins_current(cg), 0);
	check_eq(cg_read_key_long(parent, "pins.events", "revoked "), 1);
	check_eq(cg_read_key_long(parent, "pins.events.local", "revoked "), 0);

	/* What has lost its pins works without the knob, too. */
	set_revoke(parent, "never");
	check_eq(read_fixed(&ring, m.addr, LEN, 0, 0), LEN);
	check_content(m.addr, LEN, 0);
	check_eq(pins_stat(cg, "revocable"), 0);
	check_eq(take_back(parent, PAGE_SIZE), EAGAIN);
	check_eq(pins_current(cg), LEN);
}

/* What was used last goes last, and no more goes than has to. */
static void oldest_first(void)
{
	char *cg = enter_new("a");
	struct mem m[3], more = memory(SZ_64K);
	struct iovec iov[3];
	int i;

	set_revoke(cg, "idle");
	ring = ring_make((struct io_uring_params){});
	file_make();
	for (i = 0; i < 3; i++) {
		m[i] = memory(SZ_64K);
		iov[i] = (struct iovec){ m[i].addr, SZ_64K };
	}
	check_eq(uring_register(ring.fd, IORING_REGISTER_BUFFERS, iov, 3), 0);
	for (i = 3; i--;) {
		usleep(20000);
		check_eq(read_fixed(&ring, m[i].addr, PAGE_SIZE, 0, i), PAGE_SIZE);
	}
	set_max(cg, 3 * SZ_64K);
	for (i = 3; i--;) {
		struct ring r = ring_make((struct io_uring_params){});
		struct iovec one = { more.addr, SZ_64K };
		struct io_uring_sqe sqe = {
			.opcode = IORING_OP_READ_FIXED, .fd = file, .len = PAGE_SIZE,
			.addr = (uintptr_t)m[i].addr, .buf_index = i,
		};
		long repinned = pins_stat(cg, "repinned");

		usleep(20000);
		check_eq(uring_register(r.fd, IORING_REGISTER_BUFFERS, &one, 1), 0);
		check_eq(pins_current(cg), 3 * SZ_64K);
		/* This is the one that has lost its pins. */
		set_max(cg, 5 * SZ_64K);
		submit_sqe(&ring, sqe);
		check_eq(ring_complete(&ring, NULL), PAGE_SIZE);
		check(pins_stat(cg, "repinned") > repinned);
		check_eq(uring_register(r.fd, IORING_UNREGISTER_BUFFERS, NULL, 0), 0);
		check_reaches(cg, 3 * SZ_64K);
		set_max(cg, 3 * SZ_64K);
	}
}

/* What cannot fit takes nothing from anybody. */
static void not_in_vain(void)
{
	char *cg = enter_new("a");
	struct mem m, big = memory(2 * LEN);
	struct iovec iov = { big.addr, big.len };
	struct ring other;

	m = buffer(cg, "idle");
	set_max(cg, LEN + SZ_2M);
	other = ring_make((struct io_uring_params){});
	check(uring_register(other.fd, IORING_REGISTER_BUFFERS, &iov, 1) && errno == ENOMEM);
	check_eq(pins_current(cg), LEN);
	check_eq(pins_stat(cg, "revoked"), 0);
	check_eq(read_fixed(&ring, m.addr, LEN, 0, 0), LEN);
	check_eq(pins_stat(cg, "repinned"), 0);
}

/* A buffer in use keeps its pins; and whoever wants them does not wait for long. */
static void in_use(void)
{
	char *cg = enter_new("a");
	struct mem m = buffer(cg, "idle");
	int p[2];

	check(!pipe(p));
	submit(&ring, IORING_OP_READ_FIXED, p[0], m.addr, PAGE_SIZE, -1, 0, 0);
	check_eq(take_back(cg, PAGE_SIZE), EAGAIN);
	check_eq(pins_current(cg), LEN);
	check_eq(write(p[1], "pins", 4), 4);
	check_eq(ring_complete(&ring, NULL), 4);
	check(!memcmp(m.addr, "pins", 4));
	check_eq(take_back(cg, PAGE_SIZE), 0);
	check_eq(pins_current(cg), 0);
	/* The other way round: what waits has pinned its part first. */
	submit(&ring, IORING_OP_READ_FIXED, p[0], m.addr, PAGE_SIZE, -1, 0, 0);
	usleep(100000);
	check_eq(write(p[1], "back", 4), 4);
	check_eq(ring_complete(&ring, NULL), 4);
	check(!memcmp(m.addr, "back", 4));
}

/* A clone of a buffer keeps its pins, and takes part in what has become of it. */
static void cloned(void)
{
	char *cg = enter_new("a");
	struct mem m = buffer(cg, "idle");
	struct ring other = ring_make((struct io_uring_params){});
	struct { __u32 src_fd, flags, rest[6]; } clone = { .src_fd = ring.fd };

	if (uring_register(other.fd, 30 /* IORING_REGISTER_CLONE_BUFFERS */, &clone, 1))
		skip("no clones: %m");
	check_eq(take_back(cg, PAGE_SIZE), EAGAIN);
	check_eq(pins_current(cg), LEN);
	check_eq(uring_register(other.fd, IORING_UNREGISTER_BUFFERS, NULL, 0), 0);
	check_eq(take_back(cg, PAGE_SIZE), 0);
	check_eq(pins_current(cg), 0);

	check_eq(uring_register(other.fd, 30, &clone, 1), 0);
	check_eq(read_fixed(&other, m.addr, LEN, 0, 0), LEN);
	check_content(m.addr, LEN, 0);
	check_eq(read_fixed(&ring, m.addr + SZ_2M, PAGE_SIZE, 0, 0), PAGE_SIZE);
	check_eq(uring_register(ring.fd, IORING_UNREGISTER_BUFFERS, NULL, 0), 0);
	memset(m.addr, 0, LEN);
	check_eq(read_fixed(&other, m.addr, LEN, 0, 0), LEN);
	check_content(m.addr, LEN, 0);
	check_eq(uring_register(other.fd, IORING_UNREGISTER_BUFFERS, NULL, 0), 0);
	check_reaches(cg, 0);
}

/* The address space is that which has registered the buffer, whoever uses it. */
static void other_process(void)
{
	char *cg = enter_new("a");
	struct mem m = buffer(cg, "idle");
	pid_t pid;

	check_eq(take_back(cg, LEN), 0);
	pid = test_fork();
	if (!pid) {
		memset(m.addr, 0, LEN);
		check_eq(read_fixed(&ring, m.addr, SZ_64K, 0, 0), SZ_64K);
		check(!m.addr[0]);
		_exit(0);
	}
	check_eq(reap(pid), 0);
	check_content(m.addr, SZ_64K, 0);
	check_eq(uring_register(ring.fd, IORING_UNREGISTER_BUFFERS, NULL, 0), 0);

	/* One that is gone has no memory to pin. */
	pid = test_fork();
	if (!pid) {
		struct iovec iov = { m.addr, m.len };

		memset(m.addr, 0, LEN);
		_exit(!!uring_register(ring.fd, IORING_REGISTER_BUFFERS, &iov, 1));
	}
	check_eq(reap(pid), 0);
	check_eq(read_fixed(&ring, m.addr, SZ_64K, 0, 0), SZ_64K);
	check_eq(take_back(cg, LEN), 0);
	check_eq(read_fixed(&ring, m.addr, SZ_64K, 0, 0), -EFAULT);
	check_content(m.addr, SZ_64K, 0);
	check_eq(pins_current(cg), 0);
}

/* Memory of all kinds */
static void kinds(void)
{
	static const int kind[] = { MEM_THP, MEM_THP_PTES, MEM_HUGETLB, MEM_MEMFD, MEM_SHMEM };
	char *cg = enter_new("a");
	struct iovec iov;
	struct mem m;
	long pinned;
	int i;

	set_revoke(cg, "idle");
	ring = ring_make((struct io_uring_params){});
	file_make();
	for (i = 0; i < ARRAY_SIZE(kind); i++) {
		m = mem_get(kind[i], SZ_2M);
		iov = (struct iovec){ m.addr, m.len };
		check_eq(uring_register(ring.fd, IORING_REGISTER_BUFFERS, &iov, 1), 0);
		pinned = pins_current(cg);
		check_eq(pins_stat(cg, "revocable"), pinned);
		check_eq(take_back(cg, pinned), 0);
		check_reaches(cg, 0);
		check_eq(read_fixed(&ring, m.addr, m.len, 0, 0), m.len);
		check_content(m.addr, m.len, 0);
		check_eq(pins_current(cg), pinned);
		check_eq(pins_stat(cg, "revocable"), pinned);
		check_eq(uring_register(ring.fd, IORING_UNREGISTER_BUFFERS, NULL, 0), 0);
		check_reaches(cg, 0);
	}
}

/* What was read is not reclaimed with pages that the page tables call clean. */
static void reclaimed(void)
{
	char *cg = enter_new("a");
	struct mem m = buffer(cg, "idle");

	check(!madvise(m.addr, LEN, MADV_FREE));
	check_eq(read_fixed(&ring, m.addr, LEN, 0, 0), LEN);
	check_eq(take_back(cg, LEN), 0);
	check_eq(pins_current(cg), 0);
	check(!madvise(m.addr, LEN, MADV_PAGEOUT));
	check_content(m.addr, LEN, 0);
	/* The same for a part */
	check(!madvise(m.addr, LEN, MADV_FREE));
	check_eq(read_fixed(&ring, m.addr, SZ_2M, 0, 0), SZ_2M);
	check_eq(take_back(cg, SZ_2M), 0);
	check(!madvise(m.addr, LEN, MADV_PAGEOUT));
	check_content(m.addr, SZ_2M, 0);
	check(!m.addr[SZ_2M]);
}

/* The submitting thread of the kernel does not block. */
static void sqpoll(void)
{
	char *cg = enter_new("a");
	struct mem m = memory(LEN);
	struct iovec iov = { m.addr, m.len };
	int i;

	set_revoke(cg, "idle");
	ring = ring_make((struct io_uring_params){ .flags = IORING_SETUP_SQPOLL });
	file_make();
	check_eq(uring_register(ring.fd, IORING_REGISTER_BUFFERS, &iov, 1), 0);
	for (i = 0; i < 20; i++) {
		check_eq(take_back(cg, i ? SZ_2M : LEN), 0);
		check_eq(read_fixed(&ring, m.addr + SZ_2M, SZ_64K, SZ_2M, 0), SZ_64K);
		check_content(m.addr + SZ_2M, SZ_64K, SZ_2M);
	}
}

/* Later kernels: several ranges of a buffer in one request */
static void vectored(void)
{
	char *cg = enter_new("a"), page[PAGE_SIZE];
	struct mem m = buffer(cg, "idle");
	struct iovec iov[2] = { { m.addr, PAGE_SIZE }, { m.addr + LEN - SZ_64K, SZ_64K } };
	int i, op, len = PAGE_SIZE + SZ_64K, ret;

	for (i = 0; i < 20; i++) {
		check_eq(take_back(cg, pins_current(cg)), 0);
		check_eq(pins_current(cg), 0);
		op = (i & 1 ? 61 : 60);		/* IORING_OP_WRITEV_FIXED, READV */
		if (i & 1)
			memset(iov[1].iov_base, i, SZ_64K);
		submit(&ring, op, file, iov, 2, i & 1 ? LEN : 0, 0, 0);
		ret = ring_complete(&ring, NULL);
		if (ret == -EINVAL)
			skip("no requests with several ranges");
		check_eq(ret, len);
		check(pins_current(cg));
		if (i & 1) {
			check_eq(pread(file, page, PAGE_SIZE, LEN + len - PAGE_SIZE), PAGE_SIZE);
			check(page[0] == i && page[PAGE_SIZE - 1] == i);
		} else {
			check_content(m.addr, PAGE_SIZE, 0);
			check_content(iov[1].iov_base, SZ_64K, PAGE_SIZE);
		}
	}
	/* One that does not lie in it */
	check_eq(take_back(cg, pins_current(cg)), 0);
	iov[1].iov_len += PAGE_SIZE;
	submit(&ring, 60, file, iov, 2, 0, 0, 0);
	check_eq(ring_complete(&ring, NULL), -EFAULT);
	check_eq(pins_current(cg), 0);
}

/* Later kernels: sockets, with copying */
static void send_recv(void)
{
	char *cg = enter_new("a");
	struct mem m = buffer(cg, "idle");
	char *to = m.addr + SZ_2M;
	int i, sv[2], op, ret;

	check_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv), 0);
	for (i = 0; i < 40; i++) {
		if (!(i & 1))
			memset(m.addr, i + 1, SZ_64K);
		check_eq(take_back(cg, pins_current(cg)), 0);
		check_eq(pins_current(cg), 0);
		op = i & 1 ? IORING_OP_RECV : IORING_OP_SEND;
		submit_sqe(&ring, (struct io_uring_sqe) {
			.opcode = op, .fd = sv[i & 1], .len = SZ_64K,
			.addr = (uintptr_t)(i & 1 ? to : m.addr),
			.ioprio = IORING_RECVSEND_FIXED_BUF,
			.msg_flags = i & 2 ? MSG_DONTWAIT : 0,
		});
		ret = ring_complete(&ring, NULL);
		if (ret == -EINVAL)
			skip("no such requests");
		check_eq(ret, SZ_64K);
		if (i & 1)
			check(to[0] == i && to[SZ_64K - 1] == i);
	}
}

/* Zero copy: the buffer is in use until the notification, not until the result. */
static void send_zc(void)
{
	char *cg = enter_new("a"), text[SZ_64K / 4];
	struct mem m = buffer(cg, "idle");
	struct sockaddr_in in = { .sin_family = AF_INET };
	socklen_t len = sizeof(in);
	int to = socket(AF_INET, SOCK_DGRAM, 0), from = socket(AF_INET, SOCK_DGRAM, 0), i;
	struct io_uring_sqe sqe = {
		.opcode = IORING_OP_SEND_ZC, .fd = from, .len = sizeof(text),
		.ioprio = IORING_RECVSEND_FIXED_BUF,
	};

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	check(!bind(to, (void *)&in, len) && !getsockname(to, (void *)&in, &len));
	check(!connect(from, (void *)&in, len));
	for (i = 0; i < 20; i++) {
		check_eq(take_back(cg, i ? SZ_2M : LEN), 0);
		check_eq(pins_current(cg), 0);
		sqe.addr = (uintptr_t)m.addr + i * sizeof(text);
		memset(m.addr + i * sizeof(text), i + 1, sizeof(text));
		/* That is about the socket, not about the buffer. */
		sqe.msg_flags = i & 1 ? MSG_DONTWAIT : 0;
		submit_sqe(&ring, sqe);
		check_eq(ring_complete(&ring, NULL), sizeof(text));
		check_eq(recv(to, text, sizeof(text), 0), sizeof(text));
		check(text[0] == i + 1 && text[sizeof(text) - 1] == i + 1);
		check_eq(ring_complete(&ring, NULL), 0);
	}
}

/* Whoever polls for completions does not block either. */
static void iopoll(void)
{
	static const struct null_setup setup[] = {
		{ "size", 64 }, { "memory_backed", 1 }, { "submit_queues", 1 },
		{ "poll_queues", 1 },
	};
	char *cg = enter_new("a");
	struct mem m = memory(LEN);
	struct iovec iov = { m.addr, m.len };
	int disk = null_disk(setup, ARRAY_SIZE(setup)), i;

	set_revoke(cg, "idle");
	for (i = 0; i < LEN / PAGE_SIZE; i++)
		memset(m.addr + PAGES(i), content(i), PAGE_SIZE);
	check_eq(pwrite(disk, m.addr, LEN, 0), LEN);
	ring = ring_make((struct io_uring_params){ .flags = IORING_SETUP_IOPOLL });
	check_eq(uring_register(ring.fd, IORING_REGISTER_BUFFERS, &iov, 1), 0);
	for (i = 0; i < 20; i++) {
		off_t off = SZ_2M + i * SZ_64K;

		take_all(cg);
		memset(m.addr + off, 0, SZ_64K);
		submit(&ring, IORING_OP_READ_FIXED, disk, m.addr + off, SZ_64K, off, 0, 0);
		check_eq(ring_complete(&ring, NULL), SZ_64K);
		check_content(m.addr + off, SZ_64K, off);
	}
}

/* Commands for a device find their buffer late. */
static void uring_cmd(void)
{
	struct nvme_uring_cmd cmd = {
		.opcode = 2 /* read */, .nsid = 1, .data_len = SZ_64K,
		.cdw12 = SZ_64K / 512 - 1,
	};
	int disk = open("/dev/ng0n1", O_RDONLY), i, flags;
	char *cg = enter_new("a");
	struct mem m = memory(LEN);
	struct iovec iov = { m.addr, m.len };
	struct io_uring_sqe *sqe;

	if (disk < 0)
		skip("no /dev/ng0n1: %m");
	set_revoke(cg, "idle");
	ring = ring_make((struct io_uring_params) {
		.flags = IORING_SETUP_SQE128 | IORING_SETUP_CQE32,
	});
	check_eq(uring_register(ring.fd, IORING_REGISTER_BUFFERS, &iov, 1), 0);
	for (i = 0; i < 20; i++) {
		flags = i & 1 ? IOSQE_ASYNC : 0;
		take_all(cg);
		memset(m.addr, 1, LEN);
		cmd.addr = (uintptr_t)m.addr + SZ_2M + i * SZ_64K;
		sqe = ring_queue(&ring, (struct io_uring_sqe) {
			.opcode = IORING_OP_URING_CMD, .fd = disk, .flags = flags,
			.cmd_op = NVME_URING_CMD_IO, .buf_index = 0,
			.uring_cmd_flags = IORING_URING_CMD_FIXED,
		});
		memcpy(sqe->cmd, &cmd, sizeof(cmd));
		ring_submit(&ring, 1);
		/* It has been copied. */
		memset(sqe, 0xff, 2 * sizeof(*sqe));
		check_eq(ring_complete(&ring, NULL), 0);
		/* The disk is empty. */
		check(m.addr[SZ_2M + i * SZ_64K - 1] == 1);
		check(!m.addr[SZ_2M + i * SZ_64K]);
		check(!m.addr[SZ_2M + (i + 1) * SZ_64K - 1]);
		check(m.addr[SZ_2M + (i + 1) * SZ_64K] == 1);
		check(pins_current(cg) && pins_current(cg) <= SZ_2M);
	}
}

/* One after the other, each of them with a worker */
static void linked(void)
{
	char *cg = enter_new("a");
	struct mem m = buffer(cg, "idle");
	__u64 user_data;
	int i, nr;

	for (nr = 0; nr < 20; nr++) {
		take_all(cg);
		memset(m.addr, 0, LEN);
		for (i = 0; i < 4; i++)
			ring_queue(&ring, (struct io_uring_sqe) {
				.opcode = IORING_OP_READ_FIXED, .fd = file, .len = SZ_64K,
				.addr = (uintptr_t)m.addr + i * SZ_2M / 2,
				.off = i * SZ_2M / 2, .user_data = i,
				.flags = i < 3 ? nr & 1 ? IOSQE_IO_HARDLINK : IOSQE_IO_LINK
					       : IOSQE_IO_DRAIN,
			});
		ring_submit(&ring, 4);
		for (i = 0; i < 4; i++) {
			check_eq(ring_complete(&ring, &user_data), SZ_64K);
			check_eq(user_data, i);
			check_content(m.addr + i * SZ_2M / 2, SZ_64K, i * SZ_2M / 2);
		}
		/* Two parts of 2 MB */
		check_eq(pins_current(cg), LEN);
	}
}

/* A buffer that is replaced while a request uses what was pinned of it again */
static void updated(void)
{
	char *cg = enter_new("a");
	struct mem m = buffer(cg, "idle"), new = memory(SZ_2M);
	struct iovec iov = { new.addr, new.len };
	int p[2];

	check(!pipe(p));
	check_eq(take_back(cg, LEN), 0);
	submit(&ring, IORING_OP_READ_FIXED, p[0], m.addr, PAGE_SIZE, -1, 0, 0);
	check_reaches(cg, SZ_2M);
	check_eq(uring_register(ring.fd, IORING_REGISTER_BUFFERS_UPDATE,
				&(struct io_uring_rsrc_update2) {
					.nr = 1, .data = (uintptr_t)&iov,
				}, sizeof(struct io_uring_rsrc_update2)), 1);
	check_eq(pins_current(cg), 2 * SZ_2M);
	check_eq(take_back(cg, SZ_2M), 0);
	check_eq(pins_current(cg), SZ_2M);
	check_eq(take_back(cg, PAGE_SIZE), EAGAIN);
	check_eq(write(p[1], "pins", 4), 4);
	check_eq(ring_complete(&ring, NULL), 4);
	check(!memcmp(m.addr, "pins", 4));
	check_reaches(cg, 0);
	check_eq(read_fixed(&ring, new.addr, SZ_2M, 0, 0), SZ_2M);
	check_content(new.addr, SZ_2M, 0);
}

/* A task that is killed, or starts another program, while workers pin for it */
static void killed(void)
{
	char *cg = enter_new("a");
	int i, nr, round = 0;
	pid_t pid;

	set_revoke(cg, "idle");
	for (nr = 0; nr < 20; nr++) {
		long repinned = pins_stat(cg, "repinned");

		pid = test_fork();
		if (!pid) {
			struct mem m = buffer(cg, "idle");

			for (;;) {
				take_back(cg, LEN);
				for (i = 0; i < 8; i++)
					ring_queue(&ring, (struct io_uring_sqe) {
						.opcode = IORING_OP_READ_FIXED, .fd = file,
						.addr = (uintptr_t)m.addr + i * SZ_64K * 8,
						.len = SZ_64K * 8, .flags = IOSQE_ASYNC,
					});
				ring_submit(&ring, 8);
				if (nr & 1 && round++ == 2)
					execl("/bin/true", "true", NULL);
				for (i = 0; i < 8; i++)
					check_eq(ring_complete(&ring, NULL), SZ_64K * 8);
			}
		}
		for (i = 0; i < 10000 && pins_stat(cg, "repinned") == repinned; i++)
			usleep(1000);
		check(pins_stat(cg, "repinned") > repinned);
		usleep(nr * 2000);
		kill(pid, SIGKILL);
		check_eq(waitpid(pid, NULL, 0), pid);
		check_reaches(cg, 0);
		check_eq(pins_stat(cg, "revocable"), 0);
	}
	check_eq(pins_stat(cg, "pins"), pins_stat(cg, "unpins"));
}

/* Where to say which allocation of a worker fails; there is one worker. */
static int worker_fail_nth(void)
{
	char path[64], name[32];
	struct dirent *entry;
	DIR *dir = opendir("/proc/self/task");
	int fd = -1;

	check(dir);
	while (fd < 0 && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/proc/self/task/%.16s/comm", entry->d_name);
		if (read_text(path, name, sizeof(name)) <= 0 || strncmp(name, "iou-wrk", 7))
			continue;
		snprintf(path, sizeof(path), "/proc/self/task/%.16s/fail-nth", entry->d_name);
		fd = open(path, O_RDWR);
	}
	closedir(dir);
	check(fd >= 0);
	return fd;
}

/* What pins again may find no memory for what it needs itself. */
static void allocations_fail(void)
{
	char *cg = enter_new("a"), left[16] = "";
	struct mem m = buffer(cg, "idle");
	int fd, n, ret, failed = 0;

	close(fail_setup());
	for (n = 1; n < 1000; n++) {
		take_all(cg);
		submit(&ring, IORING_OP_NOP, -1, NULL, 0, 0, 0, IOSQE_ASYNC);
		check_eq(ring_complete(&ring, NULL), 0);
		memset(m.addr, 0, SZ_64K);
		fd = worker_fail_nth();
		fail_nth(fd, n);
		submit(&ring, IORING_OP_READ_FIXED, file, m.addr, SZ_64K, 0, 0, 0);
		ret = ring_complete(&ring, NULL);
		check(pread(fd, left, sizeof(left) - 1, 0) > 0);
		fail_nth(fd, 0);
		close(fd);
		if (ret != SZ_64K) {
			check_eq(ret, -ENOMEM);
			check_eq(pins_current(cg), 0);
			failed++;
			check_eq(read_fixed(&ring, m.addr, SZ_64K, 0, 0), SZ_64K);
		}
		check_content(m.addr, SZ_64K, 0);
		/* There were not so many. */
		if (atoi(left))
			break;
	}
	ksft_print_msg("%d of %d failures end a request\n", failed, n - 1);
	check(failed && n < 1000);
}

/* Many rings that are used at random, while pins are taken back at random */

#define WORKERS	3

static bool stop;

static void *worker(void *arg)
{
	unsigned int seed = (uintptr_t)arg;
	struct ring r = ring_make((struct io_uring_params){});
	struct mem m = memory(LEN);
	struct iovec iov = { m.addr, m.len };
	long n = 0;

	check_eq(uring_register(r.fd, IORING_REGISTER_BUFFERS, &iov, 1), 0);
	for (; !__atomic_load_n(&stop, __ATOMIC_RELAXED); n++) {
		size_t len = PAGES(1 + rand_r(&seed) % (n % 8 ? 16 : LEN / PAGE_SIZE));
		off_t off = PAGES(rand_r(&seed) % ((LEN - len) / PAGE_SIZE + 1));
		int how = rand_r(&seed) % 16;

		memset(m.addr + off, 0, len);
		submit(&r, IORING_OP_READ_FIXED, file, m.addr + off, len, off, 0,
		       how & 1 ? IOSQE_ASYNC : 0);
		if (!how) {
			/* The request keeps what it uses. */
			check_eq(uring_register(r.fd, IORING_UNREGISTER_BUFFERS, NULL, 0), 0);
			check_eq(uring_register(r.fd, IORING_REGISTER_BUFFERS, &iov, 1), 0);
		}
		check_eq(ring_complete(&r, NULL), len);
		check_content(m.addr + off, len, off);
	}
	/* The mappings keep the ring. */
	check_eq(uring_register(r.fd, IORING_UNREGISTER_BUFFERS, NULL, 0), 0);
	close(r.fd);
	return (void *)n;
}

static void at_random(void)
{
	char *cg = enter_new("a");
	time_t end = time(NULL) + 6;
	pthread_t thread[WORKERS];
	unsigned int seed = 1;
	long n = 0, revoked;
	void *did;
	int i;

	set_revoke(cg, "idle");
	file_make();
	for (i = 0; i < WORKERS; i++)
		check(!pthread_create(&thread[i], NULL, worker, (void *)(uintptr_t)i + 1));
	while (time(NULL) < end) {
		take_back(cg, PAGES(1 + rand_r(&seed) % (LEN / PAGE_SIZE)));
		usleep(rand_r(&seed) % 2000);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < WORKERS; i++) {
		check(!pthread_join(thread[i], &did));
		n += (long)did;
	}
	revoked = cg_read_key_long(cg, "pins.events", "revoked ");
	ksft_print_msg("%ld requests, %ld buffers taken back\n", n, revoked);
	check(n && revoked);
	check_reaches(cg, 0);
	check_eq(pins_stat(cg, "pins"), pins_stat(cg, "unpins"));
}

/* Memory that has to move, under a buffer that requests always use */
static void busy(void)
{
	struct range r = kernel_range();
	char *cg = enter_new("a"), *addr;
	struct iovec iov;
	int disk = slow_disk(MS), go[2], i;
	int *err = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			-1, 0);
	pid_t pid;
	char c;

	set_revoke(cg, "idle");
	check(!pipe(go) && err != MAP_FAILED);
	*err = -1;
	addr = memory_of(&r, true, SZ_2M, MAP_PRIVATE);
	ring = ring_make((struct io_uring_params){});
	iov = (struct iovec){ addr, SZ_2M };
	check_eq(uring_register(ring.fd, IORING_REGISTER_BUFFERS, &iov, 1), 0);
	check(in_range(&r, addr, PAGE_SIZE));
	pid = test_fork();
	if (!pid) {
		enter_root();
		check_eq(read(go[0], &c, 1), 1);
		__atomic_store_n(err, take(&r), __ATOMIC_RELEASE);
		_exit(0);
	}
	for (i = 0; i < 4; i++)
		submit(&ring, IORING_OP_READ_FIXED, disk, addr + i * SZ_64K, SZ_64K, 0, 0, 0);
	check_eq(write(go[1], "", 1), 1);
	while (__atomic_load_n(err, __ATOMIC_ACQUIRE) < 0) {
		check_eq(ring_complete(&ring, NULL), SZ_64K);
		submit(&ring, IORING_OP_READ_FIXED, disk, addr + (i++ % 32) * SZ_64K, SZ_64K, 0,
		       0, 0);
	}
	check_eq(reap(pid), 0);
	for (i = 0; i < 4; i++)
		check_eq(ring_complete(&ring, NULL), SZ_64K);
	check_taken(cg, *err);
	check(!in_range(&r, addr, PAGE_SIZE));
	check(pins_stat(cg, "revoked"));
	check_eq(pins_events_local(cg), 0);
	give_back(&r);
}

static const struct pins_test tests[] = {
	{ "I2 zero, I12 content: a buffer loses its pins, and gets them back", comes_back },
	{ "never: it does not", never },
	{ "bad values change nothing", bad_values },
	{ "a full cgroup gets what was not used for longest", makes_room },
	{ "and so does a ring of provided buffers of the same ring", for_provided_buffers },
	{ "the same with huge pages that RLIMIT_MEMLOCK counts", accounted },
	{ "a limit below current takes back; what does not fit is ENOMEM", limit_is_lowered },
	{ "who asks leaves it to a task that is not throttled", by_another_task },
	{ "what is mapped by then is what is used, or EFAULT", other_memory },
	{ "memory under a registered buffer goes offline", goes_offline },
	{ "no completion tells of it, and the tag stays", tagged },
	{ "workers of io_uring pin again, too", by_a_worker },
	{ "the thread of SQPOLL does", sqpoll },
	{ "a value holds for registered buffers, and for cgroups below", holds_for },
	{ "what was used last goes last", oldest_first },
	{ "I3 whole: what cannot fit takes nothing back", not_in_vain },
	{ "a buffer in use keeps its pins", in_use },
	{ "clones keep theirs, and work on", cloned },
	{ "what is pinned is the memory of who has registered it", other_process },
	{ "huge pages, shared memory", kinds },
	{ "several ranges in one request", vectored },
	{ "sockets that copy", send_recv },
	{ "zero-copy sends", send_zc },
	{ "reads that are polled for", iopoll },
	{ "commands for a device", uring_cmd },
	{ "requests that wait for each other", linked },
	{ "a buffer that is replaced keeps what a request uses", updated },
	{ "I2 zero: a task that is killed while workers pin for it", killed },
	{ "I2 zero: what pins again fails wherever it allocates", allocations_fail },
	{ "I12 content: no byte is lost when pins go at random", at_random },
	{ "memory under a busy buffer goes offline", busy },
	{ "I12 content: what was read is not reclaimed", reclaimed },
};

int main(void)
{
	pins_run(tests, ARRAY_SIZE(tests));
}
