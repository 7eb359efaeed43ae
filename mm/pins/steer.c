// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where a long-term pin should lie.
 *
 * Not in CMA, ZONE_MOVABLE or memory that is just being emptied: GUP migrates such
 * pages before it pins them for the long term ("zone"). It tries until nothing is
 * left to be moved; this file says for how long, and counts.
 *
 * And better not in a movable pageblock either. A page that cannot move ruins the
 * block that it lies in for huge pages, for as long as it is pinned: 1400 scattered
 * buffers of 4 kB, 5.6 MB, have been seen to cost 640 MB. So if pins.steer says
 * "block", folios smaller than a pageblock are moved out of movable pageblocks when
 * they are pinned, to where unmovable memory lies already. That takes one attempt,
 * and no error: what cannot be moved is pinned where it is. And it must cost nobody
 * else anything, since whoever is below a cgroup with "block" can cause it: other
 * CPUs are not interrupted, nothing is reclaimed, and a node that has no block to
 * give is not asked to compact again for a while.
 *
 * What is left where it is:
 *
 * - Folios of a whole pageblock or more, pinned in part or as a whole: there is
 *   nothing else in the block. To split one for the sake of a single page would cost
 *   its owner the huge page for certain, to save others a block that was not to be
 *   had anyway. Nor are smaller large folios split, they move as they are.
 * - Huge pages of hugetlb, which come from pools.
 * - What somebody has pinned already. Long-term pins are not going to go, so that it
 *   does not get any worse, and what a cgroup has pinned it may pin again.
 *
 * Memory cgroups pay for what they have paid for before: a folio that is migrated
 * takes its charge along.
 *
 * Copyright (C) 2026 the pins authors
 */

#include <linux/cpuset.h>
#include <linux/jiffies.h>
#include <linux/migrate.h>
#include <linux/mm.h>
#include <linux/page-isolation.h>
#include <linux/sched/signal.h>
#include <linux/swap.h>

#include "../internal.h"
#include "steer.h"
#include "internal.h"

/* How often it is tried to move what may not stay, and how long in vain */
#define PINS_STEER_ROUNDS	64
#define PINS_STEER_PATIENCE	(10ULL * NSEC_PER_SEC)

/* How long it waits for pins of one folio, and after how long not once more */
#define PINS_STEER_WAIT		(1ULL * NSEC_PER_SEC)

/* For how long a node is not compacted again that had no block to give */
#define PINS_STEER_DEFER	HZ

static unsigned long steer_no_block[MAX_NUMNODES];	/* when, in jiffies */

/* In pages */
static void steer_count(struct pins_steer *steer, enum pins_stat_item item, long n)
{
	struct pins_cgroup *pins;

	if (!n || !pins_enabled())
		return;
	pins = get_pins_cgroup_from_mm(steer->mm);
	if (!pins)
		return;
	pins_cgroup_count(pins, item, n);
	put_pins_cgroup(pins);
}

void __pins_steered(struct pins_steer *steer, unsigned int moved,
		    struct list_head *left)
{
	struct folio *folio;

	steer_count(steer, PINS_STEERED_ZONE, moved);
	steer->moved = moved;
	steer->left = 0;
	list_for_each_entry(folio, left, lru) {
		if (!steer->left)
			steer->blocked = folio_pfn(folio);
		steer->left += folio_nr_pages(folio);
	}
}

/* A folio could not be moved. If it is pinned, wait until it is not, and move it. */
static bool steer_wait(struct pins_steer *steer)
{
	unsigned long pfn = steer->blocked, next;
	u64 begin = ktime_get_ns(), max;
	enum pins_obstacle obstacle;
	int err;

	if (!IS_ENABLED(CONFIG_PINS_WAIT))
		return !steer->rounds;
	obstacle = pins_obstacle(&pfn, &next);
	/* Whoever empties this memory may look at it or move it, time and again. */
	if (obstacle < PINS_SHORT && pins_isolation_at(pfn, 1)) {
		schedule_timeout_killable(1);
		return true;
	}
	/* It may have lost its pins just before we looked. */
	if (obstacle == PINS_READY || obstacle == PINS_WRITEBACK)
		return steer->rounds < 3;
	if (obstacle != PINS_SHORT)
		return steer->rounds < 1;
	if (steer->waited >= PINS_STEER_WAIT)
		return false;
	/* mmap_lock may be held. */
	max = min((u64)READ_ONCE(pins_drain_max_us) * NSEC_PER_USEC, PINS_STEER_WAIT);
	err = pins_sleep(pfn, begin, begin + max, TASK_KILLABLE, false);
	steer->waited += ktime_get_ns() - begin;
	return !err;
}

/*
 * Pages may not stay where they are, and were moved, or not. If others have pinned
 * one for a moment, that is waited for as every migration does that has to succeed;
 * if one is not to be found, because somebody else moves it, there is nothing that
 * would wake us.
 */
static bool steer_again(struct pins_steer *steer, long *ret)
{
	ktime_t now = ktime_get();
	bool again;

	if (fatal_signal_pending(current)) {
		*ret = -EINTR;
		return false;
	}
	if (!steer->until || steer->moved)
		steer->until = ktime_add_ns(now, PINS_STEER_PATIENCE);

	if (steer->moved) {
		again = steer->rounds < PINS_STEER_ROUNDS;
		steer->rounds++;
	} else if (now > steer->until) {
		again = false;
	} else if (*ret == -EAGAIN) {
		/* The first time, it has just been put on an LRU list. */
		if (steer->napped)
			schedule_timeout_killable(1);
		steer->napped = true;
		again = true;
	} else {
		again = steer->blocked && steer->rounds < PINS_STEER_ROUNDS &&
			steer_wait(steer);
		steer->rounds++;
	}
	if (again)
		return true;

	steer_count(steer, PINS_STEER_FAILED, max(steer->left, 1));
	*ret = -ENOMEM;
	return false;
}

/* Are pins of this memory to leave movable pageblocks? */
static bool steers_blocks(struct mm_struct *mm)
{
	struct pins_cgroup *pins = get_pins_cgroup_from_mm(mm);
	bool ret;

	if (!pins)
		return false;
	ret = pins_cgroup_steers_blocks(pins);
	put_pins_cgroup(pins);
	return ret;
}

/* Is a folio to be moved to another block, if it can be? */
static bool steer_in_movable_block(struct folio *folio)
{
	return folio_order(folio) < pageblock_order &&
	       is_migrate_movable(folio_migratetype(folio)) &&
	       !folio_test_hugetlb(folio) && !folio_is_zone_device(folio) &&
	       !is_zero_folio(folio) && !pins_folio_recorded(folio);
}

bool __pins_in_movable_block(struct page **pages, unsigned long nr)
{
	struct pins_iter it = { .pages = pages, .nr = nr };

	if (!steers_blocks(current->mm))
		return false;
	while (it.pos < it.nr) {
		struct pins_run run = pins_iter_run(&it);

		it.pos += run.n;
		pins_iter_resched(&it, &run);
		if (steer_in_movable_block(run.folio))
			return true;
	}
	return false;
}

/*
 * Make a pageblock of the node unmovable. Return a page of it; the others are free.
 * With flags as for a huge page of one node, the page allocator compacts once if no
 * block is free, and neither reclaims nor wakes kswapd.
 */
static struct folio *steer_claim_block(gfp_t gfp, int nid)
{
	unsigned long since = READ_ONCE(steer_no_block[nid]), i, flags;
	struct page *page;

	gfp &= ~__GFP_RECLAIM;
	if (!since || !time_in_range(jiffies, since, since + PINS_STEER_DEFER))
		gfp |= __GFP_DIRECT_RECLAIM;
	page = alloc_pages_node(nid, gfp, pageblock_order);
	if (!page) {
		/* A cpuset that excludes the node says nothing about it. */
		if ((gfp & __GFP_DIRECT_RECLAIM) &&
		    node_isset(nid, cpuset_current_mems_allowed))
			WRITE_ONCE(steer_no_block[nid], jiffies);
		return NULL;
	}
	/* What compaction has emptied is still what it was. */
	spin_lock_irqsave(&page_zone(page)->lock, flags);
	if (is_migrate_movable(get_pageblock_migratetype(page)))
		set_pageblock_migratetype(page, MIGRATE_UNMOVABLE);
	spin_unlock_irqrestore(&page_zone(page)->lock, flags);
	split_page(page, pageblock_order);
	for (i = 1; i < pageblock_nr_pages; i++)
		__free_page(page + i);
	return page_folio(page);
}

/*
 * Where a folio goes: to a block of unmovable memory. When there is none with room
 * left, the page allocator takes lone pages of movable blocks, unless it finds one
 * that is half empty. These are no better than where the folio is. A whole block is
 * then made unmovable; what is not needed of it is where the next unmovable memory
 * will come from. Nodes that have no block left are noted in @private.
 */
static struct folio *steer_target(struct folio *src, unsigned long private)
{
	/* GUP has set PF_MEMALLOC_PIN. What reclaim frees is not of unmovable blocks. */
	gfp_t gfp = (GFP_USER & ~__GFP_DIRECT_RECLAIM) | __GFP_NOWARN |
		    __GFP_NORETRY | __GFP_THISNODE;
	nodemask_t *full = (nodemask_t *)private;
	unsigned int order = folio_order(src);
	int nid = folio_nid(src);
	struct folio *folio;

	/* As alloc_migration_target() */
	if (is_highmem_idx(folio_zonenum(src)))
		gfp |= __GFP_HIGHMEM;
	folio = __folio_alloc_node(gfp, order, nid);
	if (folio && !is_migrate_movable(folio_migratetype(folio)))
		return folio;
	if (folio)
		folio_put(folio);
	if (order || node_isset(nid, *full))
		return NULL;
	folio = steer_claim_block(gfp, nid);
	if (!folio)
		node_set(nid, *full);
	return folio;
}

/* Find what is to be moved to other blocks, and can be. It is still pinned. */
static unsigned long steer_collect(struct pins_iter *it, struct list_head *list)
{
	unsigned long failed = 0;
	bool drained = false;

	while (it->pos < it->nr) {
		struct pins_run run = pins_iter_run(it);
		struct folio *folio = run.folio;
		int refs = run.large ? run.n : run.n * GUP_PIN_COUNTING_BIAS;

		it->pos += run.n;
		pins_iter_resched(it, &run);
		if (!steer_in_movable_block(folio))
			continue;
		/*
		 * What another CPU has just put on its way to an LRU list stays:
		 * to drain that interrupts it.
		 */
		if (!drained && folio_may_be_lru_cached(folio) &&
		    folio_ref_count(folio) != folio_expected_ref_count(folio) + refs) {
			lru_add_drain();
			drained = true;
		}
		if (!isolate_folio_to_list(folio, list))
			failed += run_nr_pages(&run);
	}
	return failed;
}

/* Move what a request has pinned to other blocks. Return whether it was unpinned. */
static bool steer_blocks(struct pins_steer *steer, struct pins_iter *it)
{
	unsigned long failed, wanted = 0;
	nodemask_t full = NODE_MASK_NONE;
	struct folio *folio;
	unsigned int moved;
	LIST_HEAD(list);

	steer->tried = true;
	if (!steers_blocks(steer->mm))
		return false;

	failed = steer_collect(it, &list);
	if (list_empty(&list)) {
		steer_count(steer, PINS_STEER_FAILED, failed);
		return false;
	}
	pins_give_back(it);

	list_for_each_entry(folio, &list, lru)
		wanted += folio_nr_pages(folio);
	moved = pins_migrate(&list, steer_target, (unsigned long)&full,
			     MIGRATE_SYNC_LIGHT, MR_LONGTERM_PIN, &steer->blocked);
	steer_count(steer, PINS_STEERED_BLOCK, moved);
	steer_count(steer, PINS_STEER_FAILED, failed + wanted - moved);
	return true;
}

bool __pins_steer(struct pins_steer *steer, struct page **pages,
		  struct folio **folios, unsigned long nr, long *ret)
{
	struct pins_iter it = { .pages = pages, .folios = folios, .nr = nr };
	bool again = false;

	if (!*ret)
		again = !steer->tried && steer_blocks(steer, &it);
	else if (*ret == -EAGAIN || *ret == -ENOMEM)
		again = steer_again(steer, ret);
	steer->moved = false;
	steer->blocked = 0;
	steer->left = 0;
	return again;
}
