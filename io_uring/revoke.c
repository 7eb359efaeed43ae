// SPDX-License-Identifier: GPL-2.0
/*
 * Registered buffers whose pins can be taken back, see kernel/cgroup/pins-revoke.c.
 *
 * A buffer that may lose its pins counts the requests that use it (IO_REGBUF_F_COUNTED).
 * A buffer without pins is still registered: struct io_mapped_ubuf stays in its slot, with
 * the address, the length, the tag and what is accounted for. It only loses its pages,
 * and that only while no request uses it, and no other ring has it. So nothing has to
 * be replaced, and nobody is told.
 *
 * A request that comes to such a buffer pins what it needs: a part of 2 MB, or more if its
 * own range does not fit in one. Parts are kept for those that follow, until the whole
 * buffer is taken back again. They may overlap; what is pinned twice is charged once, and
 * there is a limited number of parts, see part_range(). What is mapped at the address by
 * then is what gets pinned, in the address space that has registered the buffer. If that
 * fails, the request does.
 *
 * Pinning sleeps, so a request that must not block goes to a worker first, which does not
 * hold uring_lock. As long as the request is not done, no part of its buffer goes.
 *
 * If memory has to move under a buffer that is always in use, requests that come to it
 * anew are held off (IO_REGBUF_F_YIELD) until the others are done: workers look once in a
 * millisecond. Who wants the memory asks again meanwhile, or else they go on.
 *
 * Flags are changed, and parts dropped, under uring_lock of the ring that has registered
 * the buffer, with no request that uses it and no clone. Parts are added by who uses it.
 *
 * Copyright (C) 2026 the pins authors
 */
#include <linux/bvec.h>
#include <linux/delay.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/overflow.h>
#include <linux/pins.h>
#include <linux/pins_cgroup.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/xarray.h>

#include "revoke.h"

/**
 * struct io_revocable - what it takes to pin a buffer again
 * @pins: its pins
 * @ctx: the ring that has registered it, NULL once that has let go
 * @imu: the buffer
 * @mm: the address space
 * @parts: what was pinned again, each a buffer without a slot
 * @pinning: held by who adds one. Two that pin the same pages where memory has to move
 *	would be in each other's way.
 * @acct_pages: what is accounted for it, once it has lost its pins
 * @yield_until: when requests no longer yield, in jiffies
 */
struct io_revocable {
	struct pins_revocable	pins;
	struct io_ring_ctx	*ctx;
	struct io_mapped_ubuf	*imu;
	struct mm_struct	*mm;
	struct xarray		parts;
	struct mutex		pinning;	/* outside mmap_lock */
	unsigned long		acct_pages;
	unsigned long		yield_until;
};

static struct io_revocable *to_revocable(const struct pins_revocable *pins)
{
	return container_of(pins, struct io_revocable, pins);
}

/* How many pages a buffer keeps from moving, and where; folios count whole */
static unsigned long buf_pages(const struct io_mapped_ubuf *imu,
			       unsigned long *start_pfn, unsigned long *end_pfn)
{
	struct folio *folio, *last = NULL;
	unsigned long nr = 0;
	unsigned int i;

	*start_pfn = ULONG_MAX;
	*end_pfn = 0;
	for (i = 0; i < imu->nr_bvecs; i++) {
		folio = page_folio(imu->bvec[i].bv_page);
		if (!(i % 1024))
			cond_resched();
		if (folio == last)
			continue;
		last = folio;
		nr += folio_nr_pages(folio);
		*start_pfn = min(*start_pfn, folio_pfn(folio));
		*end_pfn = max(*end_pfn, folio_pfn(folio) + folio_nr_pages(folio));
	}
	return nr;
}

static bool buf_lies_in(const struct io_mapped_ubuf *imu, unsigned long start_pfn,
			unsigned long end_pfn)
{
	unsigned int i;

	for (i = 0; i < imu->nr_bvecs; i++) {
		struct folio *folio = page_folio(imu->bvec[i].bv_page);

		if (!(i % 1024))
			cond_resched();
		if (folio_pfn(folio) < end_pfn &&
		    folio_pfn(folio) + folio_nr_pages(folio) > start_pfn)
			return true;
	}
	return false;
}

/*
 * Requests may have written to pages that the page tables call clean, and that nobody
 * reclaims as long as they are pinned. What can be pinned to be written for the long term
 * belongs to no file system that has to be told. All of it is the registering cgroup's.
 */
static void buf_unpin(const struct io_revocable *rev, const struct io_mapped_ubuf *imu)
{
	u32 active_pins = set_active_pins(pins_cgroup_id(rev->pins.pins));
	unsigned int i;

	for (i = 0; i < imu->nr_bvecs; i++) {
		struct folio *folio = page_folio(imu->bvec[i].bv_page);

		if (!(i % 1024))
			cond_resched();
		if (!folio_test_dirty(folio))
			folio_set_dirty(folio);
	}
	i = pins_unpin_bvecs(imu->bvec, imu->nr_bvecs);
	for (; i < imu->nr_bvecs; i++)
		unpin_user_folio(page_folio(imu->bvec[i].bv_page), 1);
	set_active_pins(active_pins);
}

static void parts_free(struct io_revocable *rev)
{
	struct io_mapped_ubuf *part;
	unsigned long index;

	xa_for_each(&rev->parts, index, part) {
		xa_erase(&rev->parts, index);
		buf_unpin(rev, part);
		kvfree(part);
	}
}

/* What a worker can ask of it; the ring lock is held but for trylock(). */

static bool io_revocable_trylock(struct pins_revocable *pins, struct task_struct *task)
{
	struct io_ring_ctx *ctx = to_revocable(pins)->ctx;

	/* What the task pins is for this ring: it has the lock, and keeps it as it waits. */
	if (READ_ONCE(ctx->pinning) == task)
		return true;
	/* It is not freed as long as it has buffers in the list; nor with a reference. */
	if (!percpu_ref_tryget(&ctx->refs))
		return false;
	if (mutex_trylock(&ctx->uring_lock))
		return true;
	percpu_ref_put(&ctx->refs);
	return false;
}

static void io_revocable_unlock(struct pins_revocable *pins, struct task_struct *task)
{
	struct io_ring_ctx *ctx = to_revocable(pins)->ctx;

	if (ctx->pinning == task)
		return;
	mutex_unlock(&ctx->uring_lock);
	percpu_ref_put(&ctx->refs);
}

static unsigned long io_revocable_used(const struct pins_revocable *pins)
{
	return READ_ONCE(to_revocable(pins)->imu->used);
}

static bool io_revocable_lies_in(struct io_revocable *rev, unsigned long start_pfn,
				 unsigned long end_pfn)
{
	struct io_mapped_ubuf *part;
	unsigned long index;

	if (!io_buf_revoked(rev->imu))
		return buf_lies_in(rev->imu, start_pfn, end_pfn);
	xa_for_each(&rev->parts, index, part)
		if (buf_lies_in(part, start_pfn, end_pfn))
			return true;
	return false;
}

static int io_revocable_revoke(struct pins_revocable *pins, unsigned long start_pfn,
			       unsigned long end_pfn, bool yield)
{
	struct io_revocable *rev = to_revocable(pins);
	struct io_mapped_ubuf *imu = rev->imu;

	if (end_pfn && !io_revocable_lies_in(rev, start_pfn, end_pfn))
		return 0;
	/* A clone in another ring may be looked up just now, without our lock. */
	if (refcount_read(&imu->refs) > 1)
		return 0;
	/* Pairs with the release of the last clone: what it has added is seen. */
	smp_acquire__after_ctrl_dep();
	if (!io_buf_counted(imu) && io_buf_unused(rev->ctx, imu))
		WRITE_ONCE(imu->flags, imu->flags | IO_REGBUF_F_COUNTED);
	if (!io_buf_counted(imu) || atomic_read_acquire(&imu->users)) {
		/* Requests that yield may already count as those of the ring. */
		if (yield && io_buf_counted(imu)) {
			WRITE_ONCE(rev->yield_until, jiffies + IO_BUF_YIELD);
			WRITE_ONCE(imu->flags, imu->flags | IO_REGBUF_F_YIELD);
		}
		return -EBUSY;
	}

	if (io_buf_revoked(imu)) {
		parts_free(rev);
	} else {
		rev->acct_pages = io_buf_unaccount(rev->ctx, imu);
		buf_unpin(rev, imu);
	}
	WRITE_ONCE(imu->flags, IO_REGBUF_F_REVOKED | IO_REGBUF_F_COUNTED);
	return 1;
}

static const struct pins_revocable_ops io_revocable_ops = {
	.trylock	= io_revocable_trylock,
	.unlock		= io_revocable_unlock,
	.used		= io_revocable_used,
	.revoke		= io_revocable_revoke,
};

/* The current task has registered a buffer. If there is no memory, it stays pinned. */
void io_buf_register(struct io_ring_ctx *ctx, struct io_mapped_ubuf *imu)
{
	struct pins_cgroup *pins;
	struct io_revocable *rev;

	lockdep_assert_held(&ctx->uring_lock);
	imu->used = jiffies;
	imu->flags = 0;
	if (!pins_enabled() || !current->mm)
		return;
	pins = get_pins_cgroup_from_current();
	if (!pins)
		return;
	rev = kzalloc(sizeof(*rev), GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!rev) {
		put_pins_cgroup(pins);
		return;
	}
	rev->ctx = ctx;
	rev->imu = imu;
	rev->mm = current->mm;
	mmgrab(rev->mm);
	xa_init(&rev->parts);
	mutex_init(&rev->pinning);
	rev->pins.ops = &io_revocable_ops;
	rev->pins.nr_pages = (unsigned long)imu->nr_bvecs << (imu->folio_shift - PAGE_SHIFT);
	rev->pins.end_pfn = ULONG_MAX;
	imu->rev = rev;
	/* Else nobody may ever want to know precisely. */
	if (pins_may_revoke()) {
		rev->pins.nr_pages = buf_pages(imu, &rev->pins.start_pfn,
					       &rev->pins.end_pfn);
		imu->flags = IO_REGBUF_F_COUNTED;
	}
	pins_revocable_add(&rev->pins, pins);
}

/* A ring lets go of a buffer. If it has registered it, nothing is taken back any more. */
void io_buf_leave(struct io_ring_ctx *ctx, struct io_mapped_ubuf *imu)
{
	struct io_revocable *rev = imu->rev;

	if (!rev || READ_ONCE(rev->ctx) != ctx)
		return;
	lockdep_assert_held(&ctx->uring_lock);
	pins_revocable_del(&rev->pins);
	WRITE_ONCE(rev->ctx, NULL);
	WRITE_ONCE(imu->flags, imu->flags & ~IO_REGBUF_F_YIELD);
}

/*
 * The last ring lets go of a buffer, after io_buf_leave(). Return how many pages are
 * accounted for it if it has lost its pins: then it has no pages any more.
 */
unsigned long io_buf_free(struct io_mapped_ubuf *imu)
{
	struct io_revocable *rev = imu->rev;
	unsigned long acct_pages;

	if (!rev)
		return 0;
	acct_pages = rev->acct_pages;
	parts_free(rev);
	pins_revocable_free(&rev->pins);
	mmdrop(rev->mm);
	kfree(rev);
	return acct_pages;
}

/* Using it */

static bool must_not_block(unsigned int issue_flags)
{
	return (issue_flags & IO_URING_F_NONBLOCK) && !(issue_flags & IO_URING_F_IOWQ);
}

/* The slow part of io_buf_use() */
bool __io_buf_use(struct io_ring_ctx *ctx, struct io_mapped_ubuf *imu,
		  unsigned int waited)
{
	struct io_revocable *rev = imu->rev;

	lockdep_assert_held(&ctx->uring_lock);
	if (waited < IO_BUF_PATIENCE && time_before_eq(jiffies, READ_ONCE(rev->yield_until)))
		return false;
	/* A clone does not hold the right lock. */
	if (READ_ONCE(rev->ctx) == ctx)
		WRITE_ONCE(imu->flags, imu->flags & ~IO_REGBUF_F_YIELD);
	return true;
}

/*
 * A request yields. Return 0 when it may look its buffer up again, having counted in
 * @waited; -EAGAIN if a worker has to, -EINTR.
 */
int io_buf_wait(struct io_kiocb *req, unsigned int issue_flags, unsigned int *waited)
{
	if (must_not_block(issue_flags))
		return io_buf_punt(req);
	if (fatal_signal_pending(current))
		return -EINTR;
	/* While its caller has the lock, nothing would happen. */
	if (!(issue_flags & IO_URING_F_UNLOCKED)) {
		*waited = IO_BUF_PATIENCE;
		return 0;
	}
	usleep_range(USEC_PER_MSEC / 2, USEC_PER_MSEC);
	++*waited;
	return 0;
}

/*
 * The part of a buffer in which a range lies: the smallest of 2 MB, 4 MB and so on that
 * begins at a multiple of its size, or else of half of that. So there are four times as
 * many as there are steps of 2 MB, at most. Return its key.
 */
static unsigned long part_range(const struct io_mapped_ubuf *imu, u64 addr, u64 end,
				u64 *start, u64 *stop)
{
	u64 size = SZ_2M, begin;
	unsigned int order = 0;

	for (;; order++, size *= 2) {
		begin = round_down(addr, size);
		if (end <= begin + size)
			break;
		begin += size / 2;
		if (addr >= begin && end <= begin + size)
			break;
	}
	*start = max(begin, imu->ubuf);
	*stop = min(begin + size, imu->ubuf + imu->len);
	return (begin / SZ_1M) << 6 | order;
}

/* Pin pages of an address space, all or none. */
static int pin_pages(struct mm_struct *mm, unsigned long start, unsigned long nr,
		     struct page **pages)
{
	unsigned int flags = FOLL_WRITE | FOLL_LONGTERM;
	int locked = 1;
	long ret;

	if (likely(mm == current->mm)) {
		ret = pin_user_pages_fast(start, nr, flags, pages);
	} else {
		if (!mmget_not_zero(mm))
			return -EFAULT;
		ret = mmap_read_lock_killable(mm);
		if (!ret) {
			ret = pin_user_pages_remote(mm, start, nr, flags, pages, &locked);
			if (locked)
				mmap_read_unlock(mm);
		}
		mmput_async(mm);
	}
	if (ret == nr)
		return 0;
	if (ret > 0)
		unpin_user_pages(pages, ret);
	return ret < 0 ? ret : -EFAULT;
}

/* Make a part of a buffer, on behalf of the cgroup that has registered it. */
static struct io_mapped_ubuf *part_pin(struct io_kiocb *req, struct io_mapped_ubuf *imu,
				       u64 start, u64 stop, unsigned int issue_flags)
{
	u32 id = pins_cgroup_id(imu->rev->pins.pins);
	u32 active_pins = set_active_pins(id | PINS_PAYS);
	unsigned long first = start >> PAGE_SHIFT;
	unsigned long nr = ((stop - 1) >> PAGE_SHIFT) - first + 1, i;
	bool locked = !(issue_flags & IO_URING_F_UNLOCKED);
	size_t off = offset_in_page(start), left = stop - start;
	struct io_mapped_ubuf *part;
	struct page **pages;
	int err = -ENOMEM;

	part = kvmalloc(struct_size(part, bvec, nr), GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	pages = kvmalloc_array(nr, sizeof(*pages), GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (part && pages) {
		if (locked)
			io_buf_pinning(req->ctx, current);
		err = pin_pages(imu->rev->mm, first << PAGE_SHIFT, nr, pages);
		if (locked)
			io_buf_pinning(req->ctx, NULL);
	}
	set_active_pins(active_pins);
	if (err) {
		kvfree(pages);
		kvfree(part);
		return ERR_PTR(err);
	}

	memcpy(part, imu, offsetof(struct io_mapped_ubuf, bvec));
	part->ubuf = start;
	part->len = left;
	part->nr_bvecs = nr;
	part->folio_shift = PAGE_SHIFT;
	part->flags = 0;
	part->rev = NULL;
	for (i = 0; i < nr; i++) {
		size_t len = min_t(size_t, left, PAGE_SIZE - off);

		bvec_set_page(&part->bvec[i], pages[i], len, off);
		off = 0;
		left -= len;
	}
	kvfree(pages);
	return part;
}

/* The slow part of io_buf_part(). The request has looked up @imu, which so stays. */
struct io_mapped_ubuf *__io_buf_part(struct io_kiocb *req, struct io_mapped_ubuf *imu,
				     u64 addr, u64 len, unsigned int issue_flags)
{
	struct io_revocable *rev = imu->rev;
	struct io_mapped_ubuf *part;
	u64 end, start, stop, begin;
	unsigned long key, start_pfn, end_pfn, nr_pages;
	int err;

	/* What does not lie in it gets its error from the import. */
	if (!len || check_add_overflow(addr, len, &end) || addr < imu->ubuf ||
	    end > imu->ubuf + imu->len)
		return imu;
	key = part_range(imu, addr, end, &start, &stop);
	part = xa_load(&rev->parts, key);
	if (part)
		return part;
	if (must_not_block(issue_flags))
		return ERR_PTR(io_buf_punt(req));

	begin = ktime_get_ns();
	if (mutex_lock_killable(&rev->pinning))
		return ERR_PTR(-EINTR);
	part = xa_load(&rev->parts, key);
	if (part)
		goto unlock;
	part = part_pin(req, imu, start, stop, issue_flags);
	if (IS_ERR(part))
		goto unlock;
	err = xa_err(xa_store(&rev->parts, key, part, GFP_KERNEL_ACCOUNT));
	if (err) {
		buf_unpin(rev, part);
		kvfree(part);
		part = ERR_PTR(err);
		goto unlock;
	}

	nr_pages = buf_pages(part, &start_pfn, &end_pfn);
	pins_revocable_repinned(&rev->pins, nr_pages, start_pfn, end_pfn,
				div_u64(ktime_get_ns() - begin, NSEC_PER_USEC));
unlock:
	mutex_unlock(&rev->pinning);
	return part;
}
