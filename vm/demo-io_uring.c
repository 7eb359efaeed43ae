// SPDX-License-Identifier: GPL-2.0
/*
 * What the demo watches: an ordinary io_uring program. It reads from stdin
 * "pin MEGABYTES [NODE]": register a buffer of that size with a new ring, so that the
 * kernel pins it, of memory of that node; "use NUMBER": read a file into such a buffer,
 * 0 is the first; and "free": give all back. It answers each with one line.
 */
#include <fcntl.h>
#include <liburing.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_RINGS	16

static struct {
	struct io_uring ring;
	struct iovec buffer;
} pinned[MAX_RINGS];
static int nr_pinned;

static int pin(size_t size, int node)
{
	unsigned long nodes = node < 0 ? 0 : 1UL << node;
	struct io_uring ring;
	struct iovec buffer = { .iov_len = size };
	int err;

	if (nr_pinned == MAX_RINGS)
		return -ENOSPC;
	buffer.iov_base = mmap(NULL, size, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buffer.iov_base == MAP_FAILED)
		return -errno;
	/* Populated: what a program has used before lies in movable memory */
	if ((node >= 0 && syscall(SYS_mbind, buffer.iov_base, size, MPOL_BIND, &nodes,
				  8 * sizeof(nodes), 0)) ||
	    madvise(buffer.iov_base, size, MADV_POPULATE_WRITE)) {
		err = -errno;
		goto unmap;
	}
	err = io_uring_queue_init(8, &ring, 0);
	if (err)
		goto unmap;
	err = io_uring_register_buffers(&ring, &buffer, 1);
	if (err)
		goto exit_ring;
	pinned[nr_pinned].ring = ring;
	pinned[nr_pinned].buffer = buffer;
	nr_pinned++;
	return 0;

exit_ring:
	io_uring_queue_exit(&ring);
unmap:
	munmap(buffer.iov_base, size);
	return err;
}

/* Read this very program, and look whether that is what has been read. */
static int use(int i)
{
	int fd = open("/proc/self/exe", O_RDONLY), res;
	struct io_uring_cqe *cqe;
	struct io_uring_sqe *sqe;
	char want[4096];

	if (i >= nr_pinned || fd < 0)
		return -ENOENT;
	sqe = io_uring_get_sqe(&pinned[i].ring);
	io_uring_prep_read_fixed(sqe, fd, pinned[i].buffer.iov_base, sizeof(want), 0, 0);
	io_uring_submit(&pinned[i].ring);
	res = io_uring_wait_cqe(&pinned[i].ring, &cqe);
	if (res)
		return res;
	res = cqe->res;
	io_uring_cqe_seen(&pinned[i].ring, cqe);
	if (res >= 0 && (pread(fd, want, sizeof(want), 0) != res ||
			 memcmp(want, pinned[i].buffer.iov_base, res)))
		res = -EIO;
	close(fd);
	return res < 0 ? res : 0;
}

static void free_all(void)
{
	while (nr_pinned) {
		struct iovec *buffer = &pinned[--nr_pinned].buffer;

		io_uring_queue_exit(&pinned[nr_pinned].ring);
		munmap(buffer->iov_base, buffer->iov_len);
	}
}

int main(void)
{
	char line[64];
	size_t megabytes;
	int number, node;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof(line), stdin)) {
		node = -1;
		if (sscanf(line, "pin %zu %d", &megabytes, &node) >= 1) {
			int err = pin(megabytes << 20, node);

			puts(err ? strerrorname_np(-err) : "ok");
		} else if (sscanf(line, "use %d", &number) == 1) {
			int err = use(number);

			puts(err ? strerrorname_np(-err) : "ok");
		} else {
			free_all();
			puts("ok");
		}
	}
	return 0;
}
