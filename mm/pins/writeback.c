// SPDX-License-Identifier: GPL-2.0-only
/*
 * Writeback meets pinned folios.
 *
 * Direct I/O into a mapped file writes to its pages while it has them pinned. If such a
 * page is written out meanwhile, what gets to the disk may be of two moments, with a
 * checksum that fits neither. And when the I/O ends, the page is marked dirty, for which
 * the file system has prepared nothing, since it believes that nobody can write to it.
 *
 * So what seems to be pinned for a short time is left dirty, and written later.
 *
 * - Background writeback goes on, and comes back to the inode, as it does for a page that
 *   is under writeback. If it has left some of a file for as long as pages may stay dirty
 *   (vm.dirty_expire_centisecs), or if writers have to wait because too much is dirty,
 *   nothing is left.
 * - fsync() first writes the rest, then waits, and comes again for what was left; sync()
 *   likewise. They wait no longer than vm.pins_drain_max_us in all, and not if that was in
 *   vain a moment ago. Then nothing is left.
 *
 * Others that write pages do it as ever: they may hold locks that those need who release
 * pins, or count on it that all is under writeback when they return.
 *
 * A file system has to look with the folio locked, when it may still go on to the next
 * one: only then nobody pins the page anew behind its back, and it has not begun to write.
 * writeback_iter() does so, ext4 and btrfs do. With others, nothing is left.
 *
 * A pin does not say whether it is to be written. Only a shared mapping that can be written
 * gives such pins: where there is none, nothing is left. (Nobody unmaps the memory while
 * his I/O is running.) Long-term pins that have a record do not write: GUP refuses that,
 * where it matters. They are neither left nor waited for.
 *
 * (What writeback should do about pinned pages was asked at LSF/MM in 2018 and 2019, see
 * Documentation/core-api/pin_user_pages.rst.)
 *
 * Copyright (C) 2026 the pins authors
 */

#include <linux/backing-dev.h>
#include <linux/bitops.h>
#include <linux/hash.h>
#include <linux/jiffies.h>
#include <linux/ktime.h>
#include <linux/pagemap.h>
#include <linux/pins_writeback.h>
#include <linux/rmap.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/vmstat.h>

#include "internal.h"

/* Does a folio seem to be pinned for a short time? It may only be mapped very often. */
static bool is_left(struct folio *folio)
{
	return folio_maybe_dma_pinned(folio) && pins_folio_pins(folio) &&
	       !pins_folio_recorded(folio);
}

#define PINS_LEFT_MASK	GENMASK(AS_PINS_LEFT_SINCE + 1, AS_PINS_LEFT)

/*
 * Two bits of the time, in units that pages may stay dirty for: an inode is visited before
 * it looks the same again.
 */
static unsigned long left_now(void)
{
	unsigned int unit = max(READ_ONCE(dirty_expire_interval),
				READ_ONCE(dirty_writeback_interval));

	return (jiffies / msecs_to_jiffies(10 * clamp(unit, 1U, 360000U))) % 4;
}

/* May background writeback leave pages of a mapping, again? For two units of four. */
static bool left_again(struct address_space *mapping)
{
	unsigned long flags = READ_ONCE(mapping->flags);

	return !(flags & BIT(AS_PINS_LEFT)) ||
	       (left_now() - (flags >> AS_PINS_LEFT_SINCE)) % 4 < 2;
}

/* Background writeback has left pages of a mapping; or there are none any more. */
static void left_note(struct address_space *mapping, bool any)
{
	unsigned long left = 0;

	if (any == test_bit(AS_PINS_LEFT, &mapping->flags))
		return;
	if (any)
		left = BIT(AS_PINS_LEFT) | left_now() << AS_PINS_LEFT_SINCE;
	else if (mapping_tagged(mapping, PAGECACHE_TAG_DIRTY))
		return;
	set_mask_bits(&mapping->flags, PINS_LEFT_MASK, left);
}

/* Would it cost others who write? They begin to wait half way between both limits. */
static bool writers_wait(struct bdi_writeback *wb)
{
	unsigned long background, limit;

	global_dirty_limits(&background, &limit);
	return READ_ONCE(wb->dirty_exceeded) ||
	       global_node_page_state(NR_FILE_DIRTY) > (background + limit) / 2;
}

/* Nobody waits for so many times as long as somebody has waited in vain. */
#define PINS_LEAVE_BACKOFF	4

/* A flusher thread has more to do than to wait for one file. */
#define PINS_FLUSHER_MAX	NSEC_PER_SEC

/* Where that was, and until when it holds, in ns. Some are forgotten. */
static struct {
	void *place;
	u64 until;
} backoffs[64];

static DEFINE_SPINLOCK(backoffs_lock);

static bool backs_off(void *place)
{
	unsigned int i = hash_ptr(place, ilog2(ARRAY_SIZE(backoffs)));
	bool ret;

	spin_lock(&backoffs_lock);
	ret = backoffs[i].place == place && ktime_get_ns() < backoffs[i].until;
	spin_unlock(&backoffs_lock);
	return ret;
}

/* Of what was waited for, so much goes without. */
static void set_backoff(void *place, u64 waited, u64 without)
{
	unsigned int i = hash_ptr(place, ilog2(ARRAY_SIZE(backoffs)));
	u64 until = ktime_get_ns();

	/* It may be that long since the machine was started. */
	until -= min(until, PINS_LEAVE_BACKOFF * without);
	spin_lock(&backoffs_lock);
	if (backoffs[i].place == place)
		until = max(until, backoffs[i].until);
	backoffs[i].place = place;
	backoffs[i].until = until + PINS_LEAVE_BACKOFF * waited;
	spin_unlock(&backoffs_lock);
}

/**
 * struct pins_leave - what is left by one call of do_writepages()
 * @any: whether something was
 * @pfn: the last folio of that
 */
struct pins_leave {
	bool any;
	unsigned long pfn;
};

/* Write and wait, until nothing was left or the time is over. @wb: by a flusher thread */
static int write_and_wait(struct address_space *mapping, struct writeback_control *wbc,
			  struct bdi_writeback *wb)
{
	u64 max = (u64)READ_ONCE(pins_drain_max_us) * NSEC_PER_USEC, begin, waited = 0;
	void *place = wb ? (void *)wb : mapping;
	int ret, err = 0;

	if (wb)
		max = min(max, PINS_FLUSHER_MAX);
	for (;;) {
		wbc->leave->any = false;
		ret = do_writepages(mapping, wbc);
		/* Who has failed need not wait. */
		if (!wbc->leave->any || ret || err || (wb && writers_wait(wb)))
			break;
		begin = ktime_get_ns();
		err = pins_sleep(wbc->leave->pfn, begin - waited, begin + max - waited,
				 TASK_KILLABLE, false);
		waited += ktime_get_ns() - begin;
		if (!err && waited >= max)
			err = -ETIME;
	}
	/* For sync(), very many files add up, even if none was in vain. */
	if (err == -ETIME)
		set_backoff(place, waited, 0);
	else if (wb && waited)
		set_backoff(place, waited, max);
	return ret;
}

/* May the current task wait for I/O? */
static bool may_wait(void *place)
{
	return READ_ONCE(pins_drain_max_us) && !backs_off(place) &&
	       !(current->flags & (PF_MEMALLOC | PF_MEMALLOC_NOIO | PF_MEMALLOC_NOFS));
}

/* The part of pins_do_writepages() that needs no inlining */
int __pins_do_writepages(struct address_space *mapping, struct writeback_control *wbc)
{
	struct bdi_writeback *wb = inode_to_wb_wbc(mapping->host, wbc);
	bool background = wbc->range_cyclic || wbc->tagged_writepages, leaves;
	struct pins_leave leave = {};
	int ret, err = 0;

	leaves = wbc->for_sync ? may_wait(wb) : background && left_again(mapping) &&
						READ_ONCE(pins_drain_max_us);
	if (leaves && !writers_wait(wb))
		wbc->leave = &leave;
	if (wbc->for_sync && wbc->leave)
		ret = write_and_wait(mapping, wbc, wb);
	else
		ret = do_writepages(mapping, wbc);
	wbc->leave = NULL;
	/* What it has waited for is written as it is. */
	if (wbc->for_sync && leave.any)
		err = do_writepages(mapping, wbc);
	left_note(mapping, leave.any && !wbc->for_sync);
	return ret ?: err;
}

/* Is some of it dirty, and pinned? */
static bool any_pinned(struct address_space *mapping, pgoff_t index, pgoff_t end)
{
	struct folio_batch fbatch;
	bool ret = false;
	unsigned int i;

	folio_batch_init(&fbatch);
	while (!ret && filemap_get_folios_tag(mapping, &index, end, PAGECACHE_TAG_DIRTY,
					      &fbatch)) {
		for (i = 0; i < folio_batch_count(&fbatch); i++)
			ret |= is_left(fbatch.folios[i]);
		folio_batch_release(&fbatch);
		cond_resched();
	}
	return ret;
}

/* The part of pins_sync_range() that needs no inlining */
int __pins_sync_range(struct address_space *mapping, loff_t start, loff_t end)
{
	struct pins_leave leave = {};
	struct writeback_control wbc = {
		.sync_mode = WB_SYNC_ALL, .nr_to_write = LONG_MAX,
		.range_start = start, .range_end = end, .leave = &leave,
	};
	int ret;

	if (!mapping_can_writeback(mapping) || !may_wait(mapping) ||
	    !any_pinned(mapping, start >> PAGE_SHIFT, end >> PAGE_SHIFT))
		return 0;
	wbc_attach_fdatawrite_inode(&wbc, mapping->host);
	ret = write_and_wait(mapping, &wbc, NULL);
	wbc_detach_inode(&wbc);
	left_note(mapping, false);
	return ret;
}

/* The part of pins_leave_folio() that needs no inlining */
bool __pins_leave_folio(struct folio *folio, struct writeback_control *wbc)
{
	/* What is left anyway may stay mapped to be written: its I/O need not fault again. */
	if (!is_left(folio)) {
		if (folio_mkclean(folio))
			folio_mark_dirty(folio);
		/*
		 * From here on who pins it to write has to fault, and waits for the folio's
		 * lock. The fast path of GUP pins first, and then looks whether the entry has
		 * changed: one of us sees the other. Pairs with the barrier in
		 * try_grab_folio_fast().
		 */
		smp_mb();
		if (!is_left(folio))
			return false;
	}
	wbc->leave->any = true;
	wbc->leave->pfn = folio_pfn(folio);
	return true;
}
EXPORT_SYMBOL_GPL(__pins_leave_folio);
