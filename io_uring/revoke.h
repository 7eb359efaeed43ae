/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Registered buffers whose pins can be taken back, see revoke.c.
 *
 * Copyright (C) 2026 the pins authors
 */
#ifndef IOU_REVOKE_H
#define IOU_REVOKE_H

#include <linux/jiffies.h>
#include <linux/uio.h>
#ifdef CONFIG_PINS_REVOKE
#include <linux/pins_revoke.h>
#endif

#include "io_uring.h"
#include "rsrc.h"

/* How long a buffer is not used anew on account of one call of @revoke */
#define IO_BUF_YIELD	(HZ / 50 + 1)

/* How often a worker looks whether it may be used, by the millisecond */
#define IO_BUF_PATIENCE	500

/*
 * Have a worker issue a request, even if its file could be polled, and also if it is not
 * to wait: else it would be told to try again, and never find its buffer pinned. A send says
 * it again once it has its buffer. Reads and writes then wait, as all that a worker issues.
 */
static inline int io_buf_punt(struct io_kiocb *req)
{
	req->flags |= REQ_F_FORCE_ASYNC;
	req->flags &= ~REQ_F_NOWAIT;
	return -EAGAIN;
}

#ifdef CONFIG_PINS_REVOKE

void io_buf_register(struct io_ring_ctx *ctx, struct io_mapped_ubuf *imu);
void io_buf_leave(struct io_ring_ctx *ctx, struct io_mapped_ubuf *imu);
unsigned long io_buf_free(struct io_mapped_ubuf *imu);
bool __io_buf_use(struct io_ring_ctx *ctx, struct io_mapped_ubuf *imu,
		  unsigned int waited);
int io_buf_wait(struct io_kiocb *req, unsigned int issue_flags, unsigned int *waited);
struct io_mapped_ubuf *__io_buf_part(struct io_kiocb *req, struct io_mapped_ubuf *imu,
				     u64 addr, u64 len, unsigned int issue_flags);

/*
 * A request no longer uses its buffer. That may be without uring_lock: what it has copied
 * is there before.
 */
static inline void io_buf_unuse(struct io_mapped_ubuf *imu)
{
	/* A release. Without a result: on x86 that is one instruction. */
	smp_mb__before_atomic();
	atomic_dec(&imu->users);
}

static inline void io_buf_put(struct io_kiocb *req, struct io_mapped_ubuf *imu)
{
	if (unlikely(req->flags & REQ_F_BUF_HELD))
		io_buf_unuse(imu);
}

/* The same some time before the request is freed, which does io_buf_put() */
static inline void io_buf_done(struct io_kiocb *req, struct io_mapped_ubuf *imu)
{
	io_buf_put(req, imu);
	req->flags &= ~REQ_F_BUF_HELD;
}

static inline void io_buf_init(struct io_mapped_ubuf *imu)
{
	atomic_set(&imu->users, 0);
	imu->rev = NULL;
}

/* Whoever pins with uring_lock held may have buffers of the same ring taken back. */
static inline void io_buf_pinning(struct io_ring_ctx *ctx, struct task_struct *task)
{
	WRITE_ONCE(ctx->pinning, task);
}

/* Then a worker may take them back, while who has the lock waits. */
static inline bool io_buf_is_pinning(struct io_ring_ctx *ctx)
{
	return READ_ONCE(ctx->pinning);
}

/* Has it lost its pins? Parts of it may have been pinned again. */
static inline bool io_buf_revoked(const struct io_mapped_ubuf *imu)
{
	return unlikely(READ_ONCE(imu->flags) & IO_REGBUF_F_REVOKED);
}

/*
 * Does it count the requests that use it? Not before its cgroup gives way. It begins to
 * with uring_lock held, when no request uses it.
 */
static inline bool io_buf_counted(const struct io_mapped_ubuf *imu)
{
	return READ_ONCE(imu->flags) & IO_REGBUF_F_COUNTED;
}

static inline void io_buf_hold(struct io_kiocb *req, struct io_mapped_ubuf *imu)
{
	WRITE_ONCE(imu->used, jiffies);
	atomic_inc(&imu->users);
	req->flags |= REQ_F_BUF_HELD;
}

/*
 * A request looks up a buffer, with uring_lock held, and has waited so often. Return
 * whether it may use it; then it keeps the buffer, and its pins, until io_buf_done(). If
 * not, io_buf_wait() has to be called without the lock.
 */
static inline bool io_buf_use(struct io_kiocb *req, struct io_mapped_ubuf *imu,
			      unsigned int waited)
{
	unsigned int flags = READ_ONCE(imu->flags);

	if (likely(!(flags & IO_REGBUF_F_COUNTED)))
		return true;
	/* Only one that counts is made to yield. */
	if ((flags & IO_REGBUF_F_YIELD) && !__io_buf_use(req->ctx, imu, waited))
		return false;
	io_buf_hold(req, imu);
	return true;
}

/* The same for a request that is to use the buffer as it is: has it its pins as well? */
static __always_inline bool io_buf_use_pinned(struct io_kiocb *req,
					      struct io_mapped_ubuf *imu)
{
	unsigned int flags = READ_ONCE(imu->flags);

	if (likely(!flags))
		return true;
	if (likely(flags == IO_REGBUF_F_COUNTED)) {
		io_buf_hold(req, imu);
		return true;
	}
	return !io_buf_revoked(imu) && io_buf_use(req, imu, 0);
}

/*
 * What a request uses of a buffer that it has looked up: the buffer, or if that has lost
 * its pins, a part which is pinned. Return it, or -EAGAIN for a request that must not
 * block, -ENOMEM, -EFAULT, -EINTR.
 */
static inline struct io_mapped_ubuf *io_buf_part(struct io_kiocb *req,
						 struct io_mapped_ubuf *imu, u64 addr,
						 u64 len, unsigned int issue_flags)
{
	if (!io_buf_revoked(imu))
		return imu;
	return __io_buf_part(req, imu, addr, len, issue_flags);
}

/* The same for several ranges: one part has all of them. */
static inline struct io_mapped_ubuf *io_buf_part_vec(struct io_kiocb *req,
						     struct io_mapped_ubuf *imu,
						     const struct iovec *iov,
						     unsigned int nr,
						     unsigned int issue_flags)
{
	u64 start = U64_MAX, end = 0;
	unsigned int i;

	if (!io_buf_revoked(imu))
		return imu;
	for (i = 0; i < nr; i++) {
		start = min(start, (u64)(uintptr_t)iov[i].iov_base);
		end = max(end, (u64)(uintptr_t)iov[i].iov_base + iov[i].iov_len);
	}
	return __io_buf_part(req, imu, start, end - start, issue_flags);
}

#else /* !CONFIG_PINS_REVOKE */

static inline void io_buf_unuse(struct io_mapped_ubuf *imu)
{
}

static inline void io_buf_put(struct io_kiocb *req, struct io_mapped_ubuf *imu)
{
}

static inline void io_buf_done(struct io_kiocb *req, struct io_mapped_ubuf *imu)
{
}

static inline void io_buf_init(struct io_mapped_ubuf *imu)
{
}

static inline void io_buf_register(struct io_ring_ctx *ctx, struct io_mapped_ubuf *imu)
{
}

static inline void io_buf_leave(struct io_ring_ctx *ctx, struct io_mapped_ubuf *imu)
{
}

static inline unsigned long io_buf_free(struct io_mapped_ubuf *imu)
{
	return 0;
}

static inline void io_buf_pinning(struct io_ring_ctx *ctx, struct task_struct *task)
{
}

static inline bool io_buf_is_pinning(struct io_ring_ctx *ctx)
{
	return false;
}

static inline bool io_buf_revoked(const struct io_mapped_ubuf *imu)
{
	return false;
}

static inline bool io_buf_use(struct io_kiocb *req, struct io_mapped_ubuf *imu,
			      unsigned int waited)
{
	return true;
}

static inline bool io_buf_use_pinned(struct io_kiocb *req, struct io_mapped_ubuf *imu)
{
	return true;
}

static inline int io_buf_wait(struct io_kiocb *req, unsigned int issue_flags,
			      unsigned int *waited)
{
	return 0;
}

static inline struct io_mapped_ubuf *io_buf_part(struct io_kiocb *req,
						 struct io_mapped_ubuf *imu, u64 addr,
						 u64 len, unsigned int issue_flags)
{
	return imu;
}

static inline struct io_mapped_ubuf *io_buf_part_vec(struct io_kiocb *req,
						     struct io_mapped_ubuf *imu,
						     const struct iovec *iov,
						     unsigned int nr,
						     unsigned int issue_flags)
{
	return imu;
}

#endif /* CONFIG_PINS_REVOKE */

#endif /* IOU_REVOKE_H */
