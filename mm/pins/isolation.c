// SPDX-License-Identifier: GPL-2.0-only
/*
 * A range of memory is being emptied: wait for the pins in it.
 *
 * Memory that has to move - for CMA, a gigantic page, memory unplug - is isolated
 * first, so that nobody allocates from it, and then migrated. Direct I/O gets in
 * the way twice: migration gives up on pages whose pins would be gone in a moment,
 * and GUP, which does not care for isolation, keeps taking new ones.
 *
 * So the isolator says here which range it empties. GUP looks for that, see wait.c.
 * And once the isolator has migrated what it could, it waits for the first pinned
 * folio that is left, and migrates again. It waits
 *
 * - no longer than vm.pins_drain_max_us in all. Offlining, which goes on until it
 *   succeeds or a signal comes, waits as long for each pin;
 * - not for pins that are known to be for the long term: these do not go away by
 *   themselves;
 * - not if its caller must not do I/O: the I/O might wait for the caller;
 * - not if somebody has just waited in vain in this zone, for a pin that is still
 *   there. Whoever cannot have one place tries the next, where there are pins that
 *   do not go either: that is to take a quarter longer at most.
 *
 * An isolator that waits holds no folio lock and has no migration entry in any page
 * table. It may hold the mutex of CMA, or the locks of memory hotplug: a pin that goes
 * only when somebody else gets one of these is waited for in vain, but not for long.
 *
 * Copyright (C) 2026 the pins authors
 */

#include <linux/delay.h>
#include <linux/ktime.h>
#include <linux/mmzone.h>
#include <linux/rculist.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/swap.h>

#include "../internal.h"
#include "internal.h"
#ifdef CONFIG_PINS_BLOCKED
#include "blocked.h"
#endif
#ifdef CONFIG_PINS_REVOKE
#include <linux/pins_revoke.h>
#endif

/**
 * struct pins_isolation - a range of memory that is being emptied
 * @list: in pins_isolations
 * @rcu: to free it
 * @start_pfn: first page
 * @end_pfn: behind the last page
 * @zone: where that is
 * @offline: it is to be taken offline
 * @may_wait: its caller may wait for I/O
 * @gave_up: it no longer waits for pins, so pins do not wait for it either
 * @since: when it has begun to wait, in ns, or 0; when offlining, for @pfn
 * @pfn: the pinned folio that is in the way
 * @busy: a folio that is still there, though it is not pinned, or 0
 * @tries: how often nothing was pinned, though it has failed
 *
 * All but @gave_up belongs to the isolator, or does not change.
 */
struct pins_isolation {
	struct list_head list;
	struct rcu_head rcu;
	unsigned long start_pfn;
	unsigned long end_pfn;
	struct zone *zone;
	bool offline;
	bool may_wait;
	bool gave_up;
	u64 since;
	unsigned long pfn;
	unsigned long busy;
	unsigned int tries;
#ifdef CONFIG_PINS_REVOKE
	/* When it has first asked for long-term pins, in ns, and how often it has */
	u64 asked;
	unsigned int asks;
#endif
};

/* Rarely more than one. Changed under the lock, read under RCU. */
struct list_head pins_isolations __read_mostly = LIST_HEAD_INIT(pins_isolations);
static DEFINE_SPINLOCK(pins_isolations_lock);

unsigned int pins_drain_max_us = 200 * USEC_PER_MSEC;

/* Who has waited in vain is not followed by others for so many times as long. */
#define PINS_BACKOFF	4

/*
 * Where that was, and until when it holds. With several nodes, zones of the same sort
 * may forget each other's, and somebody waits. Under the lock.
 */
static struct pins_backoff {
	struct zone *zone;
	unsigned long pfn;
	u64 until;
} pins_backoffs[MAX_NR_ZONES];

/* How often to try again when pins are not, or no longer, in the way */
#define PINS_TRIES	3

/* Is somebody emptying this memory, and waits for pins? In any context. */
bool pins_isolation_at(unsigned long pfn, unsigned long nr_pages)
{
	struct pins_isolation *isolation;
	bool ret = false;

	rcu_read_lock();
	list_for_each_entry_rcu(isolation, &pins_isolations, list)
		ret |= pfn < isolation->end_pfn &&
		       pfn + nr_pages > isolation->start_pfn &&
		       !READ_ONCE(isolation->gave_up);
	rcu_read_unlock();
	return ret;
}

/**
 * pins_isolation_begin() - a range of memory is going to be emptied
 * @start_pfn: its first page
 * @end_pfn: behind its last page
 * @gfp_mask: what the caller may do
 * @offline: whether the range is to be taken offline
 *
 * Call it when the range has been isolated, so that nothing is moved into it.
 *
 * Context: process context, may sleep.
 * Return: to be handed to pins_isolation_wait() and pins_isolation_end(). NULL if
 * there is no memory for it; pins then come and go as ever.
 */
struct pins_isolation *pins_isolation_begin(unsigned long start_pfn,
					    unsigned long end_pfn, gfp_t gfp_mask,
					    bool offline)
{
	gfp_t gfp = gfp_mask & GFP_KERNEL;
	struct pins_isolation *isolation;

	/* pins_obstacle() relies on it that offlining has one. */
	isolation = kzalloc(sizeof(*isolation), gfp | (offline ? __GFP_NOFAIL :
							__GFP_NOWARN));
	if (!isolation)
		return NULL;
	isolation->start_pfn = start_pfn;
	isolation->end_pfn = end_pfn;
	isolation->zone = page_zone(pfn_to_page(start_pfn));
	isolation->offline = offline;
	isolation->may_wait = gfp == GFP_KERNEL;

	spin_lock(&pins_isolations_lock);
	list_add_rcu(&isolation->list, &pins_isolations);
	spin_unlock(&pins_isolations_lock);
	return isolation;
}

/**
 * pins_isolation_end() - the range is empty, or the attempt has failed
 * @isolation: what pins_isolation_begin() returned
 *
 * Call it when the range is no longer isolated; or offline, but before its struct
 * pages go.
 *
 * Context: process context, may sleep.
 */
void pins_isolation_end(struct pins_isolation *isolation)
{
	if (!isolation)
		return;

	spin_lock(&pins_isolations_lock);
	list_del_rcu(&isolation->list);
	spin_unlock(&pins_isolations_lock);
	/* The memory may go now; whoever waits may be looking at it. */
	if (isolation->offline)
		synchronize_rcu();
	kfree_rcu(isolation, rcu);
}

/* It has waited in vain. Offlining comes again anyway. */
static void isolation_set_backoff(struct pins_isolation *isolation, unsigned long pfn)
{
	u64 now = ktime_get_ns();

	if (isolation->offline)
		return;
	spin_lock(&pins_isolations_lock);
	pins_backoffs[zone_idx(isolation->zone)] = (struct pins_backoff) {
		.zone = isolation->zone,
		.pfn = pfn,
		.until = now + PINS_BACKOFF * (now - isolation->since),
	};
	spin_unlock(&pins_isolations_lock);
}

static bool isolation_backs_off(struct pins_isolation *isolation)
{
	struct pins_backoff backoff;
	unsigned long next;

	spin_lock(&pins_isolations_lock);
	backoff = pins_backoffs[zone_idx(isolation->zone)];
	spin_unlock(&pins_isolations_lock);
	return backoff.zone == isolation->zone && ktime_get_ns() < backoff.until &&
	       pins_obstacle(&backoff.pfn, &next) >= PINS_SHORT;
}

/* How long may it go on waiting, in ns? */
static u64 isolation_left(struct pins_isolation *isolation)
{
	u64 max = (u64)READ_ONCE(pins_drain_max_us) * NSEC_PER_USEC, waited;

	if (!isolation->may_wait)
		return 0;
	if (isolation->since) {
		waited = ktime_get_ns() - isolation->since;
		return max > waited ? max - waited : 0;
	}
	return isolation->offline || !isolation_backs_off(isolation) ? max : 0;
}

/*
 * What is in the way, and where? A long-term pin, else a short-term one, or a folio
 * that is not pinned. Unless @thorough, the first pin will do. Migration gives up on a
 * batch of 32 folios and leaves the rest: when many have been seen without a pin,
 * it was for another reason.
 */
static enum pins_obstacle isolation_look(struct pins_isolation *isolation,
					 bool thorough, unsigned long *at)
{
	unsigned long pfn, first, next;
	enum pins_obstacle ret = PINS_GONE, obstacle;
	unsigned int movable = 0;

	for (pfn = isolation->start_pfn; pfn < isolation->end_pfn; pfn = next) {
		first = pfn;
		obstacle = pins_obstacle(&first, &next);
		if (obstacle > ret) {
			ret = obstacle;
			*at = first;
		}
		if (ret == PINS_LONG || (ret == PINS_SHORT && !thorough))
			break;
		if (obstacle != PINS_GONE && ++movable == PINS_LOOK && ret < PINS_SHORT)
			break;
		cond_resched();
	}
	return ret;
}

/* Wait for a pin that is in the way. Return 0, -ETIME, or -EINTR for a signal. */
static int isolation_sleep(struct pins_isolation *isolation, unsigned long pfn)
{
	unsigned int state = isolation->offline ? TASK_INTERRUPTIBLE : TASK_KILLABLE;
	u64 now = ktime_get_ns(), left = isolation_left(isolation);
	int err;

	if (!left)
		return -ETIME;
	WRITE_ONCE(isolation->gave_up, false);
	if (!isolation->since)
		isolation->since = now;
	err = pins_sleep(pfn, isolation->since, now + left, state, false);
	if (err == -ETIME)
		isolation_set_backoff(isolation, pfn);
	return err;
}

#ifdef CONFIG_PINS_REVOKE
#define PINS_ASKS	8

/*
 * Ask those who have pinned a folio for the pins that they have in the range; not if one
 * of them does not give way. Those that are in use are not to be used anew if it can wait
 * for them. Return as pins_revoke_range().
 */
static int isolation_ask(struct pins_isolation *isolation, unsigned long pfn, u64 left)
{
	unsigned long patience = HZ / 50 + nsecs_to_jiffies(left);
	struct pins_entry entry;
	bool busy = false;
	unsigned int i;
	int ret = 0;

	if (!pins_map_next(pfn, 0, &entry))
		return 1;
	if (entry.pfn != pfn) {
		/* It is gone. */
		ret = 1;
	} else if (entry.nr <= PINS_ENTRY_OWNERS) {
		for (i = 0; i < entry.nr && pins_cgroup_gives_way(entry.owner[i]); )
			i++;
		ret = i == entry.nr;
		while (ret && i--) {
			ret = pins_revoke_range(entry.owner[i], isolation->start_pfn,
						isolation->end_pfn, left, patience);
			busy |= ret < 0;
		}
	}
	pins_entry_put(&entry);
	return ret && busy ? -EBUSY : ret;
}

/*
 * Where their cgroup gives way, see kernel/cgroup/pins-revoke.c, long-term pins are not in
 * the way: have them taken back, and wait for those that are in use. Return 0 if any
 * were, -EBUSY if none can be, -ETIME, or -EINTR for a signal.
 */
static int isolation_revoke(struct pins_isolation *isolation, unsigned long pfn)
{
	unsigned int state = isolation->offline ? TASK_INTERRUPTIBLE : TASK_KILLABLE;
	u64 max = (u64)READ_ONCE(pins_drain_max_us) * NSEC_PER_USEC;
	u64 begin = ktime_get_ns(), left;
	bool slept = false;
	int ret;

	/*
	 * To ask needs no wait. But who pins again at once does not keep it for longer. It
	 * may have spent the time with migration: then it asks so often nevertheless.
	 */
	if (!isolation->asks++)
		isolation->asked = begin;
	else if (!isolation->offline && isolation->asks > PINS_ASKS &&
		 begin - isolation->asked > max)
		return -ETIME;
	for (;;) {
		left = isolation_left(isolation);
		ret = isolation_ask(isolation, pfn, left);
		if (ret >= 0)
			return ret ? 0 : -EBUSY;
		if (!left)
			break;
		if (!isolation->since)
			isolation->since = begin;
		WRITE_ONCE(isolation->gave_up, false);
		slept = true;
		ret = pins_sleep(pfn, begin, ktime_get_ns() + left, state, false);
		if (ret == -EINTR)
			return ret;
	}
	if (slept)
		isolation_set_backoff(isolation, pfn);
	return -ETIME;
}
#endif /* CONFIG_PINS_REVOKE */

/* Nothing is pinned. Was it so a moment ago, or is a request just moving it? */
static bool isolation_retry(struct pins_isolation *isolation,
			    enum pins_obstacle obstacle)
{
	if (isolation->offline || !isolation_left(isolation) ||
	    isolation->tries++ == PINS_TRIES)
		return false;
	if (obstacle == PINS_READY || obstacle == PINS_WRITEBACK)
		return true;
	if (!isolation->since && !atomic_read(&pins_movers))
		return false;
	usleep_range(USEC_PER_MSEC, USEC_PER_MSEC + 50);
	return true;
}

/**
 * pins_isolation_wait() - wait for pins in a range that could not be emptied
 * @isolation: what pins_isolation_begin() returned
 *
 * Context: process context, sleeps up to vm.pins_drain_max_us; no folio locks or
 * migration entries may be held, and nothing that those need who release pins.
 * Return: whether it makes sense to try once more.
 */
bool pins_isolation_wait(struct pins_isolation *isolation)
{
	enum pins_obstacle obstacle;
	unsigned long pfn = 0;
	int err = -EBUSY;

	if (!isolation)
		return false;
	/* What could not be migrated was put back: requests are to find it, and move it. */
	lru_add_drain();
	obstacle = isolation_look(isolation, isolation->offline ||
				  isolation_left(isolation), &pfn);
	if (obstacle < PINS_SHORT) {
		WRITE_ONCE(isolation->gave_up, false);
		isolation->busy = obstacle > PINS_GONE ? pfn : 0;
		return isolation_retry(isolation, obstacle);
	}

	if (isolation->offline && pfn != isolation->pfn)
		isolation->since = 0;
	isolation->pfn = pfn;
	if (obstacle == PINS_SHORT)
		err = isolation_sleep(isolation, pfn);
#ifdef CONFIG_PINS_REVOKE
	else if (pins_may_revoke())
		err = isolation_revoke(isolation, pfn);
#endif
	if (err == -EINTR)
		return false;
	/* A pin that does not go keeps I/O from waiting in vain as well. */
	WRITE_ONCE(isolation->gave_up, err);
	if (!err)
		isolation->pfn = 0;
	return !err;
}

#ifdef CONFIG_PINS_BLOCKED
/*
 * Add the range to those before, if it adjoins them. One where pins were in the way comes
 * before those where something else was.
 */
void __pins_isolation_blocked(struct pins_isolation *isolation,
			      struct pins_blocked *blocked)
{
	bool pinned;

	if (!isolation || (!isolation->gave_up && !isolation->busy))
		return;
	pinned = isolation->gave_up;
	if (!blocked->end_pfn || (pinned && !blocked->pinned)) {
		blocked->start_pfn = isolation->start_pfn;
		blocked->end_pfn = isolation->end_pfn;
		blocked->pfn = pinned ? isolation->pfn : isolation->busy;
		blocked->offline = isolation->offline;
		blocked->pinned = pinned;
		blocked->waited = false;
	} else if (pinned != blocked->pinned ||
		   isolation->start_pfn > blocked->end_pfn ||
		   isolation->end_pfn < blocked->start_pfn) {
		return;
	}
	blocked->start_pfn = min(blocked->start_pfn, isolation->start_pfn);
	blocked->end_pfn = max(blocked->end_pfn, isolation->end_pfn);
	blocked->waited |= isolation->offline || isolation->since;
}
#endif
