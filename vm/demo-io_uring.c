// SPDX-License-Identifier: GPL-2.0
/*
 * What the demo watches: an ordinary io_uring program. It reads from stdin
 * "pin MEGABYTES": register a buffer of that size with a new ring, so that the
 * kernel pins it, and "free": give all back. It answers each with one line.
 */
#include <liburing.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define MAX_RINGS	16

static struct {
	struct io_uring ring;
	struct iovec buffer;
} pinned[MAX_RINGS];
static int nr_pinned;

static int pin(size_t size)
{
	struct io_uring ring;
	struct iovec buffer = { .iov_len = size };
	int err;

	if (nr_pinned == MAX_RINGS)
		return -ENOSPC;
	buffer.iov_base = mmap(NULL, size, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buffer.iov_base == MAP_FAILED)
		return -errno;
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

	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "pin %zu", &megabytes) == 1) {
			int err = pin(megabytes << 20);

			puts(err ? strerrorname_np(-err) : "ok");
		} else {
			free_all();
			puts("ok");
		}
	}
	return 0;
}
