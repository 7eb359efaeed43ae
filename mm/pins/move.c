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

/**
 * pins_obstacle() - what does a page say about whether its folio can be moved?
 * @pfn: the page; set to the first one of its folio
 * @next: set to where the next folio begins
 *
 * The memory may be going away, but not under RCU once its section has been found
 * online: see pins_isolation_end().
 *
 * Context: any.
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
	ret = PINS_BUSY;
	if (page_folio(page) == folio) {
		*pfn = folio_pfn(folio);
		*next = *pfn + folio_nr_pages(folio);
		if (pins_folio_pins(folio))
			ret = pins_folio_recorded(folio) ? PINS_LONG : PINS_SHORT;
		else if (folio_test_lru(folio) &&
			 folio_ref_count(folio) == folio_expected_ref_count(folio) + 1)
			ret = PINS_READY;
	}
	folio_put(folio);
out:
	rcu_read_unlock();
	return ret;
}

/**
 * pins_nap() - sleep before looking again whether a pin is gone
 * @waited: for how long it has been waited already, in ns
 * @left: how much longer that may go on, in ns
 * @state: %TASK_KILLABLE or %TASK_INTERRUPTIBLE
 *
 * Nobody is woken by an unpin, which would have to look for sleepers each time.
 * So that very many of them do not take the CPU for themselves, they come more
 * seldom the longer they have waited.
 *
 * Context: process context.
 * Return: 0, or -EINTR for a signal.
 */
int pins_nap(u64 waited, u64 left, unsigned int state)
{
	u64 ns = clamp_t(u64, waited >> 3, NSEC_PER_MSEC, 16 * NSEC_PER_MSEC);
	ktime_t timeout = min(ns, left);

	set_current_state(state);
	schedule_hrtimeout_range(&timeout, 50 * NSEC_PER_USEC, HRTIMER_MODE_REL);
	return signal_pending_state(state, current) ? -EINTR : 0;
}

/*
 * migrate_pages() splits large folios for which it gets none: there is one. It may
 * split them all the same; for the pieces this is none.
 */
static struct folio *pins_large_target(struct folio *folio, unsigned long target)
{
	struct folio **ret = (struct folio **)target;

	if (!*ret || folio_order(*ret) != folio_order(folio))
		return NULL;
	return xchg(ret, NULL);
}

static void pins_large_unused(struct folio *folio, unsigned long target)
{
	*(struct folio **)target = folio;
}

static unsigned int pins_migrate_large(struct folio *folio, struct folio *target,
				       enum migrate_mode mode, int reason)
{
	unsigned int moved = 0;
	LIST_HEAD(list);

	list_move(&folio->lru, &list);
	if (target)
		migrate_pages(&list, pins_large_target, pins_large_unused,
			      (unsigned long)&target, mode, reason, &moved);
	if (target)
		folio_put(target);
	putback_movable_pages(&list);
	return moved;
}

/**
 * pins_migrate() - move isolated folios, and do not split large ones
 * @folios: the folios; those that cannot be moved are put back
 * @target: allocates where to
 * @private: for @target
 * @mode: how
 * @reason: what for
 *
 * Context: process context, sleeps.
 * Return: how many pages were moved.
 */
unsigned int pins_migrate(struct list_head *folios, new_folio_t target,
			  unsigned long private, enum migrate_mode mode, int reason)
{
	unsigned int moved = 0, small = 0;
	struct folio *folio, *next;

	list_for_each_entry_safe(folio, next, folios, lru)
		if (folio_test_large(folio))
			moved += pins_migrate_large(folio, target(folio, private),
						    mode, reason);
	if (!list_empty(folios))
		migrate_pages(folios, target, NULL, private, mode, reason, &small);
	putback_movable_pages(folios);
	return moved + small;
}
