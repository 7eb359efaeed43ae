// SPDX-License-Identifier: GPL-2.0
/*
 * All that pins memory for long and that a virtual machine can have, behind
 * one interface: pin a range, get a handle, unpin it.
 *
 * Written to the system calls themselves, so that nothing but the kernel's
 * headers has to be there.
 */
#define _GNU_SOURCE

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_xdp.h>
#include <linux/io_uring.h>
#include <linux/udmabuf.h>
#include <rdma/ib_user_ioctl_verbs.h>
#include <rdma/ib_user_verbs.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "pins_util.h"
#include "../../../../../drivers/iommu/iommufd/iommufd_test.h"
#include "../../../../../mm/gup_test.h"

static bool to_write(const struct mem *m)
{
	return !(m->kind->how & HOW_READ_PIN);
}

static int result(long ret)
{
	return ret < 0 ? -errno : ret;
}

/* io_uring: registered buffers */

/* All rings are made alike. */
static struct io_uring_params uring_params;

int uring_setup(void)
{
	uring_params = (struct io_uring_params){};
	return result(syscall(__NR_io_uring_setup, 1, &uring_params));
}

int uring_register(int ring, unsigned int op, const void *arg, unsigned int nr)
{
	return result(syscall(__NR_io_uring_register, ring, op, arg, nr));
}

/* A ring that is used, without a library */

static void *ring_map_part(struct ring *r, int i, off_t offset, size_t len)
{
	void *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, offset);

	check(at != MAP_FAILED);
	r->parts[i] = (struct iovec){ at, len };
	return at;
}

static struct ring ring_map(int fd, const struct io_uring_params *p)
{
	struct ring r = {
		.fd = fd,
		.big = !!(p->flags & IORING_SETUP_SQE128),
		.wakeup = p->flags & IORING_SETUP_SQPOLL ? IORING_ENTER_SQ_WAKEUP : 0,
	};
	char *sq, *cq;

	sq = ring_map_part(&r, 0, IORING_OFF_SQ_RING,
			   p->sq_off.array + p->sq_entries * sizeof(*r.sq_array));
	cq = ring_map_part(&r, 1, IORING_OFF_CQ_RING,
			   p->cq_off.cqes + ((p->cq_entries * sizeof(*r.cqes)) << r.big));
	r.sqes = ring_map_part(&r, 2, IORING_OFF_SQES,
			       (p->sq_entries * sizeof(*r.sqes)) << r.big);
	r.sq_tail = (void *)(sq + p->sq_off.tail);
	r.sq_mask = (void *)(sq + p->sq_off.ring_mask);
	r.sq_array = (void *)(sq + p->sq_off.array);
	r.cq_head = (void *)(cq + p->cq_off.head);
	r.cq_tail = (void *)(cq + p->cq_off.tail);
	r.cq_mask = (void *)(cq + p->cq_off.ring_mask);
	r.cqes = (void *)(cq + p->cq_off.cqes);
	return r;
}

/* With room for a few requests */
struct ring ring_make(struct io_uring_params p)
{
	int fd = syscall(__NR_io_uring_setup, 8, &p);

	if (fd < 0)
		skip("no io_uring: %s", strerror(errno));
	return ring_map(fd, &p);
}

struct io_uring_sqe *ring_queue(struct ring *r, struct io_uring_sqe sqe)
{
	unsigned int tail = *r->sq_tail, i = tail & *r->sq_mask;

	r->sqes[i << r->big] = sqe;
	r->sq_array[i] = i;
	__atomic_store_n(r->sq_tail, tail + 1, __ATOMIC_RELEASE);
	return &r->sqes[i << r->big];
}

void ring_submit(struct ring *r, int nr)
{
	check_eq(syscall(__NR_io_uring_enter, r->fd, nr, 0, r->wakeup, NULL, 0), nr);
}

bool ring_has_completion(struct ring *r)
{
	return *r->cq_head != __atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE);
}

/* The next completion: its result, and where it is from */
int ring_complete(struct ring *r, __u64 *user_data)
{
	unsigned int head = *r->cq_head;
	struct io_uring_cqe *cqe = &r->cqes[(head & *r->cq_mask) << r->big];
	int res;

	while (!ring_has_completion(r))
		check(syscall(__NR_io_uring_enter, r->fd, 0, 1, IORING_ENTER_GETEVENTS,
			      NULL, 0) >= 0);
	res = cqe->res;
	if (user_data)
		*user_data = cqe->user_data;
	__atomic_store_n(r->cq_head, head + 1, __ATOMIC_RELEASE);
	return res;
}

/* Read into the first buffer of a ring of uring_setup(). Returns as ring_complete(). */
int uring_read(int ring, int fd, void *addr, size_t len)
{
	struct ring r = ring_map(ring, &uring_params);
	int res, i;

	ring_queue(&r, (struct io_uring_sqe) {
		.opcode = IORING_OP_READ_FIXED, .fd = fd, .addr = (uintptr_t)addr, .len = len,
	});
	ring_submit(&r, 1);
	res = ring_complete(&r, NULL);
	for (i = 0; i < ARRAY_SIZE(r.parts); i++)
		munmap(r.parts[i].iov_base, r.parts[i].iov_len);
	return res;
}

static int uring_pin(struct pin *p, const struct mem *m, size_t off, size_t len)
{
	struct iovec iov = { m->addr + off, len };

	p->fd = uring_setup();
	if (p->fd < 0)
		return p->fd;
	return uring_register(p->fd, IORING_REGISTER_BUFFERS, &iov, 1);
}

static void uring_unpin(struct pin *p)
{
	check_eq(uring_register(p->fd, IORING_UNREGISTER_BUFFERS, NULL, 0), 0);
}

/* io_uring: a ring of provided buffers, in memory of the user */

static int pbuf_pin(struct pin *p, const struct mem *m, size_t off, size_t len)
{
	struct io_uring_buf_reg reg = {
		.ring_addr = (uintptr_t)m->addr + off,
		.ring_entries = len / sizeof(struct io_uring_buf),
	};

	p->fd = uring_setup();
	if (p->fd < 0)
		return p->fd;
	return uring_register(p->fd, IORING_REGISTER_PBUF_RING, &reg, 1);
}

static void pbuf_unpin(struct pin *p)
{
	struct io_uring_buf_reg reg = {};

	check_eq(uring_register(p->fd, IORING_UNREGISTER_PBUF_RING, &reg, 1),
		 0);
}

/* RDMA: memory regions of a soft RoCE device */

#define RXE_NAME "pinsrxe"

static int rxe_open(void)
{
	char path[128], name[64];
	int fd = -ENODEV, i;

	for (i = 0; i < 32 && fd == -ENODEV; i++) {
		snprintf(path, sizeof(path),
			 "/sys/class/infiniband_verbs/uverbs%d/ibdev", i);
		if (read_text(path, name, sizeof(name)) <= 0 ||
		    strcmp(name, RXE_NAME "\n"))
			continue;
		snprintf(path, sizeof(path), "/dev/infiniband/uverbs%d", i);
		fd = result(open(path, O_RDWR));
	}
	return fd;
}

/* One command of the write() interface; returns what the answer begins with */
static int verbs(int fd, int command, void *cmd, size_t len, int answer_len)
{
	__u32 answer[16] = {}, request[32];
	struct ib_uverbs_cmd_hdr hdr = {
		.command = command,
		.in_words = (sizeof(hdr) + len) / 4,
		.out_words = answer_len / 4,
	};

	if (answer_len)
		*(__aligned_u64 *)cmd = (uintptr_t)answer;
	memcpy(request, &hdr, sizeof(hdr));
	memcpy((char *)request + sizeof(hdr), cmd, len);
	if (write(fd, request, sizeof(hdr) + len) < 0)
		return -errno;
	return answer[0];
}

static int rdma_pin(struct pin *p, const struct mem *m, size_t off, size_t len)
{
	struct ib_uverbs_get_context context = {};
	struct ib_uverbs_alloc_pd pd = {};
	struct ib_uverbs_reg_mr mr = {
		.start = (uintptr_t)m->addr + off,
		.hca_va = (uintptr_t)m->addr + off,
		.length = len,
		.access_flags = to_write(m) ? IB_UVERBS_ACCESS_LOCAL_WRITE : 0,
	};
	int ret;

	p->fd = rxe_open();
	if (p->fd < 0)
		return p->fd;
	ret = verbs(p->fd, IB_USER_VERBS_CMD_GET_CONTEXT, &context,
		    sizeof(context), sizeof(struct ib_uverbs_get_context_resp));
	if (ret < 0)
		return ret;
	close(ret);	/* the file of asynchronous events */
	ret = verbs(p->fd, IB_USER_VERBS_CMD_ALLOC_PD, &pd, sizeof(pd),
		    sizeof(struct ib_uverbs_alloc_pd_resp));
	if (ret < 0)
		return ret;
	mr.pd_handle = ret;
	ret = verbs(p->fd, IB_USER_VERBS_CMD_REG_MR, &mr, sizeof(mr),
		    sizeof(struct ib_uverbs_reg_mr_resp));
	if (ret < 0)
		return ret;
	p->id = ret;
	return 0;
}

static void rdma_unpin(struct pin *p)
{
	struct ib_uverbs_dereg_mr mr = { .mr_handle = p->id };

	check_eq(verbs(p->fd, IB_USER_VERBS_CMD_DEREG_MR, &mr, sizeof(mr), 0),
		 0);
}

/* iommufd: a mapping in an address space with the selftest's mock domain */

int iommufd_open(struct pin *p)
{
	struct iommu_ioas_alloc ioas = { .size = sizeof(ioas) };

	p->fd = result(open("/dev/iommu", O_RDWR));
	if (p->fd < 0)
		return p->fd;
	if (ioctl(p->fd, IOMMU_IOAS_ALLOC, &ioas))
		return -errno;
	p->id = ioas.out_ioas_id;
	return 0;
}

int iommufd_attach(struct pin *p)
{
	struct iommu_test_cmd domain = {
		.size = sizeof(domain),
		.op = IOMMU_TEST_OP_MOCK_DOMAIN,
		.id = p->id,
	};

	return result(ioctl(p->fd, IOMMU_TEST_CMD, &domain));
}

/* Pins at once if a domain is attached, else when one is attached later. */
int iommufd_map(struct pin *p, const struct mem *m, size_t off, size_t len)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
			 (to_write(m) ? IOMMU_IOAS_MAP_WRITEABLE : 0),
		.ioas_id = p->id,
		.user_va = (uintptr_t)m->addr + off,
		.length = len,
		.iova = MOCK_APERTURE_START,
	};

	if (ioctl(p->fd, IOMMU_IOAS_MAP, &map))
		return -errno;
	p->len = len;
	return 0;
}

static int iommufd_pin(struct pin *p, const struct mem *m, size_t off,
		       size_t len)
{
	return iommufd_open(p) ?: iommufd_attach(p) ?:
	       iommufd_map(p, m, off, len);
}

static void iommufd_unpin(struct pin *p)
{
	struct iommu_ioas_unmap unmap = {
		.size = sizeof(unmap),
		.ioas_id = p->id,
		.iova = MOCK_APERTURE_START,
		.length = p->len,
	};

	check_eq(ioctl(p->fd, IOMMU_IOAS_UNMAP, &unmap), 0);
}

/* AF_XDP: the memory of packets. Only closing the socket unpins it */

static int xdp_pin(struct pin *p, const struct mem *m, size_t off, size_t len)
{
	struct xdp_umem_reg umem = {
		.addr = (uintptr_t)m->addr + off,
		.len = len,
		.chunk_size = PAGE_SIZE,
	};

	p->fd = result(socket(AF_XDP, SOCK_RAW, 0));
	if (p->fd < 0)
		return p->fd;
	return result(setsockopt(p->fd, SOL_XDP, XDP_UMEM_REG, &umem,
				 sizeof(umem)));
}

/* udmabuf: a DMA buffer of a memfd's pages. Only closing it unpins them */

static int udmabuf_pin(struct pin *p, const struct mem *m, size_t off,
		       size_t len)
{
	struct udmabuf_create create = {
		.memfd = m->fd,
		.offset = off,
		.size = len,
	};
	int dev = result(open("/dev/udmabuf", O_RDWR));

	if (dev < 0)
		return dev;
	p->fd = result(ioctl(dev, UDMABUF_CREATE, &create));
	close(dev);
	return p->fd < 0 ? p->fd : 0;
}

/* gup_test: one pin in the whole system, dropped when any file of it is closed */

static int gup_start(struct pin *p, const struct mem *m, size_t off, size_t len,
		     unsigned int flags)
{
	struct pin_longterm_test args = {
		.addr = (uintptr_t)m->addr + off,
		.size = len,
		.flags = flags |
			 (to_write(m) ? PIN_LONGTERM_TEST_FLAG_USE_WRITE : 0),
	};

	p->fd = result(open("/sys/kernel/debug/gup_test", O_RDWR));
	if (p->fd < 0)
		return p->fd;
	return result(ioctl(p->fd, PIN_LONGTERM_TEST_START, &args));
}

static int gup_pin(struct pin *p, const struct mem *m, size_t off, size_t len)
{
	return gup_start(p, m, off, len, 0);
}

static int gup_pin_fast(struct pin *p, const struct mem *m, size_t off,
			size_t len)
{
	return gup_start(p, m, off, len, PIN_LONGTERM_TEST_FLAG_USE_FAST);
}

static void gup_unpin(struct pin *p)
{
	check_eq(ioctl(p->fd, PIN_LONGTERM_TEST_STOP), 0);
}

const struct pin_source pin_sources[NR_SOURCES] = {
	[SOURCE_URING] = {
		.name = "io_uring", .pin = uring_pin, .unpin = uring_unpin,
		.can = CAN_NAME,
	},
	[SOURCE_PBUF] = {
		.name = "io_uring's buffer ring", .max_len = 32768 * 16,
		.pin = pbuf_pin, .unpin = pbuf_unpin, .can = CAN_NAME,
	},
	[SOURCE_RDMA] = {
		.name = "RDMA", .pin = rdma_pin, .unpin = rdma_unpin,
		.can = CAN_READ | CAN_NAME,
	},
	[SOURCE_IOMMUFD] = {
		.name = "iommufd", .pin = iommufd_pin, .unpin = iommufd_unpin,
		.can = CAN_READ | CAN_NAME,
	},
	[SOURCE_XDP] = {
		.name = "AF_XDP", .pin = xdp_pin,
	},
	[SOURCE_UDMABUF] = {
		.name = "udmabuf", .pin = udmabuf_pin,
		.can = CAN_MEMFD_ONLY | CAN_NAME,
	},
	[SOURCE_GUP] = {
		.name = "pin_user_pages", .pin = gup_pin, .unpin = gup_unpin,
		.can = CAN_READ | CAN_ONCE | CAN_NAME,
	},
	[SOURCE_GUP_FAST] = {
		.name = "pin_user_pages_fast", .pin = gup_pin_fast,
		.unpin = gup_unpin, .can = CAN_READ | CAN_ONCE | CAN_NAME,
	},
};

/* Returns 0 or what the interface gives when it refuses. */
int pin_part(struct pin *p, int source, const struct mem *m, size_t off,
	     size_t len)
{
	int ret;

	*p = (struct pin){ .source = &pin_sources[source], .fd = -1, .len = len };
	ret = p->source->pin(p, m, off, len);
	if (ret && p->fd >= 0)
		close(p->fd);
	return ret;
}

int pin(struct pin *p, int source, const struct mem *m)
{
	return pin_part(p, source, m, 0, m->kind->pin ?: m->len);
}

void unpin(struct pin *p)
{
	if (p->source->unpin)
		p->source->unpin(p);
	unpin_by_close(p);
}

void unpin_by_close(struct pin *p)
{
	check(!close(p->fd));
	p->fd = -1;
}

static const char *try_source(int source)
{
	struct mem m = mem_get(MEM_MEMFD, PAGE_SIZE);
	struct pin p;
	int ret = pin(&p, source, &m);

	if (!ret)
		unpin(&p);
	munmap(m.addr, m.len);
	close(m.fd);
	/* These errors do not mean that the source is missing */
	switch (-ret) {
	case 0:
	case EBUSY:
	case EFAULT:
	case EINVAL:
	case ENOMEM:
		return NULL;
	default:
		return strerror(-ret);
	}
}

/* Why the machine does not have that source, or NULL. */
const char *source_missing(int source)
{
	static const char *why[NR_SOURCES];
	static bool known[NR_SOURCES];

	if (known[source])
		return why[source];
	known[source] = true;
	if (source == SOURCE_RDMA && rxe_open() < 0 &&
	    system("rdma link add " RXE_NAME " type rxe netdev lo"))
		why[source] = "no rxe device could be made";
	else
		why[source] = try_source(source);
	return why[source];
}

/* Whether that source can pin that memory at all. */
bool source_takes(int source, const struct mem_kind *kind)
{
	const struct pin_source *s = &pin_sources[source];

	if (s->max_len && (kind->pin ?: kind->len) > s->max_len)
		return false;
	if (s->can & CAN_MEMFD_ONLY)
		return kind->how & HOW_MEMFD;
	return s->can & CAN_READ || !(kind->how & HOW_READ_PIN);
}

void need_source(int source)
{
	if (source_missing(source))
		skip("no %s: %s", pin_sources[source].name,
		     source_missing(source));
}
