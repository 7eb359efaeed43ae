// SPDX-License-Identifier: GPL-2.0-only
/*
 * Looking at folios, and moving them.
 *
 * Copyright (C) 2026 the pins authors
 */

#include <linux/hrtimer.h>
#include <linux/memory_hotplug.h>
#include <linux/migrate.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>

#include "../internal.h"
#include "internal.h"

/*
 * What does a page say about whether its folio can be moved? Sets @pfn to the first page
 * of the folio, @next to where the next one begins. In any context.
 *
 * The memory may be going away, but not under RCU once its section has been found
 * online: see pins_isolation_end().
 */
enum pins_obstacle pins_obstacle(unsigned long *pfn, unsigned long *next)
{
	enum pins_obstacle ret = PINS_GONE;
	struct folio *folio;
	struct page *page;
	unsigned long order;

	*next = *pfn + 1;
	rcu_read_lock();
	page = pfn_to_online_page(*pfn);
	if (!page)
		goto out;
	/* Without the zone's lock, it may be anything that is read there. */
	if (PageBuddy(page)) {
		order = READ_ONCE(page_private(page));
		if (order <= MAX_PAGE_ORDER)
			*next = *pfn + (1UL << order);
		goto out;
	}
	if (!page_count(page))
		goto out;
	/* Without a reference it may be freed, split or reused meanwhile. */
	folio = page_folio(page);
	if (!folio_try_get(folio))
		goto out;
	ret = PINS_FIXED;
	if (page_folio(page) == folio) {
		*pfn = folio_pfn(folio);
		*next = *pfn + folio_nr_pages(folio);
		if (pins_folio_pins(folio))
			ret = pins_folio_recorded(folio) ? PINS_LONG : PINS_SHORT;
		else if (folio_test_writeback(folio))
			ret = PINS_WRITEBACK;
		else if (folio_test_hugetlb(folio))
			ret = PINS_BUSY;
		else if (folio_test_lru(folio))
			ret = folio_ref_count(folio) == folio_expected_ref_count(folio) + 1 ?
			      PINS_READY : PINS_BUSY;
	}
	folio_put(folio);
out:
	rcu_read_unlock();
	return ret;
}

/*
 * Sleep until a folio has lost its pins, or with @isolated need not be left alone any
 * more. It has slept since @since, and does so until @until, in ns. Return 0, -ETIME, or
 * -EINTR for a signal.
 *
 * Nobody is woken by an unpin, which would have to look for sleepers each time. So that
 * very many of them do not take the CPU for themselves, they come more seldom the longer
 * they have waited.
 */
int pins_sleep(unsigned long pfn, u64 since, u64 until, unsigned int state, bool isolated)
{
	u64 now = ktime_get_ns(), ns;
	unsigned long first, next;
	ktime_t timeout;

	do {
		ns = clamp_t(u64, (now - since) >> 3, NSEC_PER_MSEC, 16 * NSEC_PER_MSEC);
		timeout = now < until ? min(ns, until - now) : 1;
		set_current_state(state);
		schedule_hrtimeout_range(&timeout, 50 * NSEC_PER_USEC, HRTIMER_MODE_REL);
		if (signal_pending_state(state, current))
			return -EINTR;
		first = pfn;
		if (pins_obstacle(&first, &next) != PINS_SHORT ||
		    (isolated && !pins_isolation_at(first, next - first)))
			return 0;
		now = ktime_get_ns();
	} while (now < until);
	return -ETIME;
}

/*
 * Move isolated folios to what @target allocates, but those that are pinned: @pinned is
 * set to one of these. Return how many pages were moved; what was not is put back.
 *
 * migrate_pages() splits a large folio if it gets no memory for it. See first whether
 * there is some.
 */
unsigned int pins_migrate(struct list_head *folios, new_folio_t target,
			  unsigned long private, enum migrate_mode mode, int reason,
			  unsigned long *pinned)
{
	struct folio *folio, *next, *free;
	unsigned int moved = 0, nr;
	LIST_HEAD(small);
	LIST_HEAD(large);

	list_for_each_entry_safe(folio, next, folios, lru) {
		if (pins_folio_pins(folio)) {
			*pinned = folio_pfn(folio);
		} else if (!folio_test_large(folio)) {
			list_move_tail(&folio->lru, &small);
		} else {
			free = target(folio, private);
			if (!free)
				continue;
			folio_put(free);
			list_move(&folio->lru, &large);
			migrate_pages(&large, target, NULL, private, mode, reason, &nr);
			putback_movable_pages(&large);
			moved += nr;
		}
	}
	putback_movable_pages(folios);
	if (!list_empty(&small)) {
		migrate_pages(&small, target, NULL, private, mode, reason, &nr);
		putback_movable_pages(&small);
		moved += nr;
	}
	return moved;
}
