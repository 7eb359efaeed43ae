// SPDX-License-Identifier: GPL-2.0-only
/*
 * Long-term pins that give way.
 *
 * A buffer that is registered with io_uring, and that no request is using, is a promise:
 * its owner wants to use it again, and fast. It need not be pinned meanwhile. So with
 * pins.revoke, its pins are taken back when somebody needs the memory or the room, and
 * taken anew when it is used next. ("io_uring buffers that let memory management work",
 * see Documentation/mm/pins.rst.)
 *
 * Whoever wants pins back asks all who can give some, and they do so at once, in his
 * context: what they need is their own lock, which is tried, not waited for. So it does
 * not matter what locks he holds. A ring whose lock is taken is left out; who waits for
 * pins comes back in a millisecond and asks again, until his patience ends.
 *
 * Pins of a buffer that a request is using go when that is done. They are waited for like
 * short-term pins, by the same rules.
 *
 * Copyright (C) 2026 the pins authors
 */

#include <linux/jiffies.h>
#include <linux/pins_cgroup.h>
#include <linux/rculist.h>
#include <linux/sched/signal.h>
#include <linux/spinlock.h>
#include <linux/srcu.h>

#include "revoke.h"

/* Who can give pins back. Changed under the lock */
static LIST_HEAD(pins_revokers);
static DEFINE_SPINLOCK(pins_revokers_lock);

/* Read under this: who is asked takes his time, and sleeps. */
DEFINE_STATIC_SRCU(pins_revokers_srcu);

/**
 * pins_revoker_add() - from now on pins may be taken back
 * @revoker: who has them
 *
 * Context: process context.
 */
void pins_revoker_add(struct pins_revoker *revoker)
{
	spin_lock(&pins_revokers_lock);
	list_add_tail_rcu(&revoker->list, &pins_revokers);
	spin_unlock(&pins_revokers_lock);
}

/**
 * pins_revoker_del() - no pins may be taken back any more
 * @revoker: who was added; nobody asks it after that
 *
 * Context: process context, sleeps until those who are just asking have done so; no
 * lock that the ops take may be held.
 */
void pins_revoker_del(struct pins_revoker *revoker)
{
	spin_lock(&pins_revokers_lock);
	list_del_rcu(&revoker->list);
	spin_unlock(&pins_revokers_lock);
	synchronize_srcu(&pins_revokers_srcu);
}

bool __pins_revoke_range(unsigned long start_pfn, unsigned long end_pfn)
{
	struct pins_revoke what = { .start_pfn = start_pfn, .end_pfn = end_pfn };
	struct pins_revoker *revoker;
	bool ret = false;
	int idx;

	idx = srcu_read_lock(&pins_revokers_srcu);
	list_for_each_entry_srcu(revoker, &pins_revokers, list,
				 srcu_read_lock_held(&pins_revokers_srcu)) {
		ret |= revoker->ops->revoke(revoker, &what) != 0;
		cond_resched();
	}
	srcu_read_unlock(&pins_revokers_srcu, idx);
	return ret;
}

/* Take back the buffer that was not used for longest. */
static unsigned long revoke_oldest(struct pins_cgroup *pins)
{
	struct pins_revoke what = { .pins = pins };
	struct pins_revoker *revoker, *oldest = NULL;
	unsigned long used, first = 0;

	list_for_each_entry_srcu(revoker, &pins_revokers, list,
				 srcu_read_lock_held(&pins_revokers_srcu)) {
		if (!revoker->ops->oldest(revoker, &what, &used) ||
		    (oldest && !time_before(used, first)))
			continue;
		oldest = revoker;
		first = used;
		cond_resched();
	}
	return oldest ? max(oldest->ops->revoke(oldest, &what), 0L) : 0;
}

/**
 * pins_revoke_pages() - take back pins of a cgroup, and of those below it
 * @pins: the cgroup
 * @nr_pages: how many pages are needed
 *
 * What was not used for longest comes first.
 *
 * Context: process context, sleeps; the caller may hold any lock.
 * Return: about how many pages have lost pins, or will soon.
 */
unsigned long pins_revoke_pages(struct pins_cgroup *pins, unsigned long nr_pages)
{
	unsigned long nr = 0, got = 1;
	int idx;

	idx = srcu_read_lock(&pins_revokers_srcu);
	/* None may be left, somebody may have been faster, or a lock is taken now. */
	while (nr < nr_pages && got && !fatal_signal_pending(current)) {
		got = revoke_oldest(pins);
		nr += got;
	}
	srcu_read_unlock(&pins_revokers_srcu, idx);
	return nr;
}
