/* SPDX-License-Identifier: GPL-2.0 */
#ifndef IOU_REVOKE_H
#define IOU_REVOKE_H

#include <linux/io_uring_types.h>
#include <linux/pins_revoke.h>

#include "rsrc.h"

#ifdef CONFIG_PINS_REVOKE

/* Whatever it is going to be */
static inline void io_buf_init(struct io_mapped_ubuf *imu)
{
	imu->revoked = NULL;
	imu->pins = NULL;
	imu->acct_pages = 0;
}

void io_buf_registered(struct io_ring_ctx *ctx, struct io_mapped_ubuf *imu,
		       struct mm_struct *mm);
void io_buf_unmapped(struct io_ring_ctx *ctx, struct io_mapped_ubuf *imu);
int __io_buf_use(struct io_kiocb *req, u64 addr, size_t len, unsigned int issue_flags);

/*
 * A request is going to use a range of its buffer: see that this is pinned, also if the
 * pins were taken back. The request then has another buffer, of that range.
 */
static __always_inline int io_buf_use(struct io_kiocb *req, u64 addr, size_t len,
				      unsigned int issue_flags)
{
	struct io_mapped_ubuf *imu = io_req_buf(req);

	if (unlikely(imu->revoked))
		return __io_buf_use(req, addr, len, issue_flags);
	/* Other CPUs may look at the same line. */
	if (pins_may_revoke() && imu->pins && imu->used != jiffies)
		imu->used = jiffies;
	return 0;
}

/* The same for several ranges: all from the first to the last */
static inline int io_buf_use_vec(struct io_kiocb *req, const struct iovec *iov,
				 unsigned int nr, unsigned int issue_flags)
{
	unsigned long start = ULONG_MAX, end = 0, addr;
	unsigned int i;

	for (i = 0; io_req_buf(req)->revoked && i < nr; i++) {
		addr = (unsigned long)iov[i].iov_base;
		start = min(start, addr);
		/* If that is too large, it has its own error. */
		end = max(end, addr + iov[i].iov_len);
	}
	return io_buf_use(req, start, end > start ? end - start : 0, issue_flags);
}

#else /* !CONFIG_PINS_REVOKE */

static inline void io_buf_init(struct io_mapped_ubuf *imu)
{
}

static inline void io_buf_registered(struct io_ring_ctx *ctx, struct io_mapped_ubuf *imu,
				     struct mm_struct *mm)
{
}

static inline void io_buf_unmapped(struct io_ring_ctx *ctx, struct io_mapped_ubuf *imu)
{
}

static inline int io_buf_use(struct io_kiocb *req, u64 addr, size_t len,
			     unsigned int issue_flags)
{
	return 0;
}

static inline int io_buf_use_vec(struct io_kiocb *req, const struct iovec *iov,
				 unsigned int nr, unsigned int issue_flags)
{
	return 0;
}

#endif /* CONFIG_PINS_REVOKE */

#endif /* IOU_REVOKE_H */
