// SPDX-License-Identifier: GPL-2.0
/*
 * Registered buffers whose pins are taken back while no request uses them, with
 * pins.revoke of their cgroup, see mm/pins/revoke.c.
 *
 * A buffer without pins is still registered: it has an address, a length, a tag, and is
 * accounted for. In its slot is a twin that has no pages (struct io_revoked). The buffer
 * itself goes when the requests that use it are done, as if it had been replaced by
 * IORING_REGISTER_BUFFERS_UPDATE, but no completion tells of it.
 *
 * A request that finds the twin pins what it needs, in steps of 2 MB: a part of the
 * buffer, which is kept for those that follow, and may be taken back like the whole. What
 * is mapped at the address by then is what it pins, in the address space that has
 * registered the buffer. If it cannot, that is its error.
 *
 * All of this happens under uring_lock. Who takes back pins may hold any lock, so he only
 * tries that one; but a task that registers buffers has it, and may need the room itself.
 */
#include <linux/bvec.h>
#include <linux/jiffies.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/pins.h>
#include <linux/pins_cgroup.h>
#include <linux/sched/mm.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "io_uring.h"
#include "memmap.h"
#include "revoke.h"

/**
 * struct io_revoked - what is left of a buffer
 * @nr: how many steps its range touches
 * @part: for each step, the part that begins there, or none
 */
struct io_revoked {
	unsigned int nr;
	struct io_buf_part part[] __counted_by(nr);
};

static const struct pins_revoker_ops io_revoker_ops;

/* How long a part is, unless a request needs more in one piece */
#define IO_STEP	SZ_2M

static unsigned int io_step(const struct io_mapped_ubuf *imu, u64 addr)
{
	return addr / IO_STEP - imu->ubuf / IO_STEP;
}

/* About how many pages it keeps from moving */
static unsigned long io_buf_pages(const struct io_mapped_ubuf *imu)
{
	return (unsigned long)imu->nr_bvecs << (imu->folio_shift - PAGE_SHIFT);
}

static void io_revoked_free(struct io_ring_ctx *ctx, struct io_revoked *revoked)
{
	unsigned int i;

	for (i = 0; i < revoked->nr; i++)
		if (revoked->part[i].imu)
			io_part_free(ctx, &revoked->part[i]);
	kvfree(revoked);
}

/* The current task has pinned a buffer, or a part of one, in @mm. */
void io_buf_registered(struct io_ring_ctx *ctx, struct io_mapped_ubuf *imu,
		       struct mm_struct *mm)
{
	lockdep_assert_held(&ctx->uring_lock);

	imu->revoked = NULL;
	imu->mm = NULL;
	imu->used = jiffies;
	imu->pins = pins_enabled() ? get_pins_cgroup_from_mm(mm) : NULL;
	if (!imu->pins)
		return;
	mmgrab(mm);
	imu->mm = mm;
	pins_cgroup_count_repinnable(imu->pins, io_buf_pages(imu));
	if (!ctx->revoker.ops) {
		ctx->revoker.ops = &io_revoker_ops;
		pins_revoker_add(&ctx->revoker);
	}
}

/* Nobody has it any more. */
void io_buf_unmapped(struct io_ring_ctx *ctx, struct io_mapped_ubuf *imu)
{
	if (!imu->pins)
		return;
	if (imu->revoked)
		io_revoked_free(ctx, imu->revoked);
	else
		pins_cgroup_count_repinnable(imu->pins, -(long)io_buf_pages(imu));
	put_pins_cgroup(imu->pins);
	mmdrop(imu->mm);
}

/* The pages of a range, of whichever address space */
static struct page **io_pin_pages_of(struct mm_struct *mm, unsigned long addr,
				     unsigned long len, int *nr_pages)
{
	unsigned long start = round_down(addr, PAGE_SIZE);
	int nr = DIV_ROUND_UP(addr + len - start, PAGE_SIZE);
	int locked = 1;
	struct page **pages;
	long ret;

	if (mm == current->mm)
		return io_pin_pages(addr, len, nr_pages);

	pages = kvmalloc_array(nr, sizeof(*pages), GFP_KERNEL_ACCOUNT);
	if (!pages)
		return ERR_PTR(-ENOMEM);
	ret = -EFAULT;
	if (mmget_not_zero(mm)) {
		mmap_read_lock(mm);
		ret = pin_user_pages_remote(mm, start, nr, FOLL_WRITE | FOLL_LONGTERM,
					    pages, &locked);
		if (locked)
			mmap_read_unlock(mm);
		mmput_async(mm);
	}
	if (ret == nr) {
		*nr_pages = nr;
		return pages;
	}
	if (ret > 0)
		unpin_user_pages(pages, ret);
	kvfree(pages);
	return ERR_PTR(ret < 0 ? ret : -EFAULT);
}

/* Pins that part of a buffer in which a range lies. */
static struct io_buf_part *io_part_pin(struct io_ring_ctx *ctx,
				       struct io_mapped_ubuf *imu, u64 addr, size_t len)
{
	u64 start = max_t(u64, round_down(addr, IO_STEP), imu->ubuf);
	u64 end = min_t(u64, round_up(addr + len, IO_STEP), imu->ubuf + imu->len);
	struct io_buf_part *part = &imu->revoked->part[io_step(imu, addr)];
	u64 begin = ktime_get_ns();
	struct io_buf_part new;
	struct page **pages;
	int nr_pages, err;

	ctx->pinning = current;
	pages = io_pin_pages_of(imu->mm, start, end - start, &nr_pages);
	ctx->pinning = NULL;
	if (IS_ERR(pages))
		return ERR_CAST(pages);
	err = io_part_map(ctx, &new, pages, nr_pages, start, end - start);
	if (err)
		return ERR_PTR(err);
	io_buf_registered(ctx, new.imu, imu->mm);
	if (part->imu) {
		err = io_part_drop(ctx, part);
		if (err) {
			io_part_free(ctx, &new);
			return ERR_PTR(err);
		}
	}
	*part = new;
	pins_cgroup_repinned(imu->pins, io_buf_pages(part->imu),
			     div_u64(ktime_get_ns() - begin, NSEC_PER_USEC));
	return part;
}

int __io_buf_use(struct io_kiocb *req, u64 addr, size_t len, unsigned int issue_flags)
{
	struct io_mapped_ubuf *imu = io_req_buf(req);
	struct io_ring_ctx *ctx = req->ctx;
	struct io_buf_part *part;
	u64 end;
	int err = 0;

	/* What is not in the buffer has its own error. */
	if (!len || check_add_overflow(addr, (u64)len, &end) || addr < imu->ubuf ||
	    end > imu->ubuf + imu->len)
		return 0;

	io_ring_submit_lock(ctx, issue_flags);
	part = &imu->revoked->part[io_step(imu, addr)];
	if (!part->imu || end > part->imu->ubuf + part->imu->len)
		part = io_part_pin(ctx, imu, addr, len);
	if (IS_ERR(part)) {
		err = PTR_ERR(part);
	} else {
		part->imu->used = jiffies;
		io_req_use_part(req, part);
	}
	io_ring_submit_unlock(ctx, issue_flags);
	return err;
}

/* Taking back */

/* Does it have pins in a range? */
static bool io_buf_lies_in(const struct io_mapped_ubuf *imu, unsigned long start_pfn,
			   unsigned long end_pfn)
{
	unsigned int i;

	for (i = 0; i < imu->nr_bvecs; i++) {
		struct folio *folio = page_folio(imu->bvec[i].bv_page);

		if (folio_pfn(folio) < end_pfn &&
		    folio_pfn(folio) + folio_nr_pages(folio) > start_pfn)
			return true;
	}
	return false;
}

/*
 * Put a twin in place of a buffer. Return how many pages lose pins. What is accounted for
 * goes on to be, by the twin; unless another ring has the buffer, too.
 */
static unsigned long io_buf_revoke(struct io_ring_ctx *ctx, unsigned int index,
				   struct io_mapped_ubuf *imu)
{
	unsigned long nr_pages = io_buf_pages(imu);
	struct io_mapped_ubuf *twin;
	struct io_revoked *revoked;
	unsigned int nr;

	nr = io_step(imu, imu->ubuf + imu->len - 1) + 1;
	revoked = kvzalloc(struct_size(revoked, part, nr), GFP_KERNEL | __GFP_NOWARN);
	if (!revoked)
		return 0;
	revoked->nr = nr;
	twin = io_twin_alloc(ctx);
	if (!twin)
		goto free_revoked;
	twin->ubuf = imu->ubuf;
	twin->len = imu->len;
	twin->revoked = revoked;
	twin->used = imu->used;
	twin->mm = imu->mm;
	twin->pins = imu->pins;
	/* Of both, the buffer keeps its own until it is gone. */
	mmgrab(twin->mm);
	get_pins_cgroup(twin->pins);
	if (io_buf_replace(ctx, index, twin))
		goto free_twin;
	pins_cgroup_revoked(twin->pins, nr_pages);
	return nr_pages;

free_twin:
	put_pins_cgroup(twin->pins);
	mmdrop(twin->mm);
	io_twin_free(ctx, twin);
free_revoked:
	kvfree(revoked);
	return 0;
}

static unsigned long io_part_revoke(struct io_ring_ctx *ctx, struct io_buf_part *part)
{
	unsigned long nr_pages = io_buf_pages(part->imu);
	struct pins_cgroup *pins = part->imu->pins;

	get_pins_cgroup(pins);	/* the part may go at once */
	if (io_part_drop(ctx, part))
		nr_pages = 0;
	else
		pins_cgroup_revoked(pins, nr_pages);
	put_pins_cgroup(pins);
	return nr_pages;
}

/**
 * struct io_buf_iter - walks the pinned buffers of a ring, and the parts of others
 * @ctx: the ring
 * @index: the slot that comes next
 * @step: the part of it
 * @imu: where the walk is
 * @part: the same, if it is a part
 */
struct io_buf_iter {
	struct io_ring_ctx *ctx;
	unsigned int index;
	unsigned int step;
	struct io_mapped_ubuf *imu;
	struct io_buf_part *part;
};

static bool io_buf_next(struct io_buf_iter *it)
{
	while (it->index < io_nr_bufs(it->ctx)) {
		struct io_mapped_ubuf *imu = io_buf(it->ctx, it->index);
		struct io_revoked *revoked = imu ? imu->revoked : NULL;

		while (revoked && it->step < revoked->nr) {
			it->part = &revoked->part[it->step++];
			it->imu = it->part->imu;
			if (it->imu && it->imu->pins)
				return true;
		}
		it->index++;
		it->step = 0;
		it->part = NULL;
		it->imu = imu;
		if (imu && !revoked && imu->pins)
			return true;
	}
	return false;
}

static bool io_revoker_lock(struct io_ring_ctx *ctx)
{
	return ctx->pinning == current || mutex_trylock(&ctx->uring_lock);
}

static void io_revoker_unlock(struct io_ring_ctx *ctx)
{
	if (ctx->pinning != current)
		mutex_unlock(&ctx->uring_lock);
}

static bool io_revoke_find(struct io_buf_iter *oldest, const struct pins_revoke *what)
{
	struct io_buf_iter it = { .ctx = oldest->ctx };

	while (io_buf_next(&it)) {
		if (io_buf_idle(it.ctx, it.index - !it.part, it.part) &&
		    pins_cgroup_revocable(it.imu->pins, what->pins) &&
		    (!oldest->imu || time_before(it.imu->used, oldest->imu->used)))
			*oldest = it;
	}
	return oldest->imu;
}

static unsigned long io_revoke_one(struct io_buf_iter *it)
{
	/* From a whole buffer, the walk has gone on. */
	return it->part ? io_part_revoke(it->ctx, it->part) :
			  io_buf_revoke(it->ctx, it->index - 1, it->imu);
}

static bool io_revoker_oldest(struct pins_revoker *revoker, const struct pins_revoke *what,
			      unsigned long *used)
{
	struct io_ring_ctx *ctx = container_of(revoker, struct io_ring_ctx, revoker);
	struct io_buf_iter oldest = { .ctx = ctx };
	bool found;

	if (!io_revoker_lock(ctx))
		return false;
	found = io_revoke_find(&oldest, what);
	if (found)
		*used = oldest.imu->used;
	io_revoker_unlock(ctx);
	return found;
}

static long io_revoker_revoke(struct pins_revoker *revoker,
			      const struct pins_revoke *what)
{
	struct io_ring_ctx *ctx = container_of(revoker, struct io_ring_ctx, revoker);
	struct io_buf_iter it = { .ctx = ctx };
	long nr_pages = 0;
	u32 active;

	if (!io_revoker_lock(ctx))
		return pins_id_revocable(ctx->pins_id) ? -EBUSY : 0;
	active = set_active_pins(ctx->pins_id);
	if (!what->end_pfn) {
		if (io_revoke_find(&it, what))
			nr_pages = io_revoke_one(&it);
	} else {
		while (io_buf_next(&it)) {
			if (pins_cgroup_revocable(it.imu->pins, NULL) &&
			    io_buf_lies_in(it.imu, what->start_pfn, what->end_pfn))
				nr_pages += io_revoke_one(&it);
			cond_resched();
		}
	}
	set_active_pins(active);
	io_revoker_unlock(ctx);
	return nr_pages;
}

static const struct pins_revoker_ops io_revoker_ops = {
	.oldest = io_revoker_oldest,
	.revoke = io_revoker_revoke,
};
