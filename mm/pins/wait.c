// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pins wait for migration, and migration waits for pins.
 *
 * Memory that has to move - for CMA, a gigantic page, memory unplug - is isolated
 * first, so that nobody allocates from it, and then migrated. Direct I/O gets in
 * the way twice. It keeps pinning the very pages that are to be moved, since GUP
 * does not care for isolation; and migration gives up on pages whose pins would
 * be gone in a moment. (David Hildenbrand and others, "block, fs: use FOLL_LONGTERM
 * as gup_flags for direct IO", linux-mm, March 2025.)
 *
 * A range that is being emptied is a struct pins_drain here. While there is one,
 *
 * - GUP does not pin folios in it. Whoever asks for one moves it out himself, if
 *   nobody else has pinned it, and gets the page that took its place: that is a
 *   matter of microseconds, and saves the isolator the work. Folios that somebody
 *   else has pinned, or is just moving, are waited for; no longer than
 *   pins.wait.max of the task's cgroup, which thus is the latency that its I/O
 *   may lose to memory management.
 *
 * - Once the isolator has moved what it could, it waits for pins of what is left,
 *   no longer than vm.pins_drain_max_us, and tries again. It does not wait for
 *   long-term pins of which the pin map knows: those do not go away by themselves.
 *
 * Both sleep on the folio that is in their way, and are woken when it has lost
 * pins, or was moved, or the isolation has ended. Folios elsewhere are not
 * concerned: while there is a drain, pinning them costs a comparison.
 *
 * Who holds what while waiting, and what breaks the cycles
 * --------------------------------------------------------
 *
 * A task in GUP holds no mmap_lock, no page table lock, no reference, pin or lock
 * of any folio on account of this request: all was given back before, but for what
 * GUP-fast may have pinned just before there was a drain. It holds
 * what its caller holds: an inode's lock (direct I/O), uring_lock (io_uring, if it
 * submits inline), a mutex of iommufd or a driver; and pins of earlier requests,
 * in bios submitted or not. memfd_pin_folios() does not wait: it has no address
 * space to look up the new place of a page in, and moves pages itself.
 *
 * An isolator holds no folio lock and has no migration entries in any page table.
 * It may hold cma_mutex; or mem_hotplug_lock for writing and cpu_hotplug_lock for
 * reading, with the LRU caches disabled. GUP takes none of these.
 *
 * - Two tasks wait for each other's earlier pins: in the same call there are none,
 *   they were given back. In bios that are not submitted yet (bio_iov_iter_get_pages()
 *   calls GUP again and again), or through locks like an inode's, there may be. The
 *   isolator waits for the same pins, gives up after vm.pins_drain_max_us, and
 *   then lets everybody pass (@over). So no cycle lives longer, even in a cgroup
 *   with pins.wait.max "max": whoever sleeps looks whether there still is a drain
 *   that is not over, and is woken when that changes. Plugged bios are no problem,
 *   sleeping submits them.
 * - A pin that goes only when mmap_lock is taken, for reading or writing: waiters
 *   have dropped it. A request that may not drop it (no FOLL_UNLOCKABLE: vfio,
 *   vdpa, vduse, AF_XDP, RDS), does not wait; these are long-term, and GUP moves
 *   them out of isolated blocks anyway. If the page that GUP has to move is itself
 *   pinned, the request is the isolator of that page (PINS_DRAIN_STEER), with
 *   mmap_lock held for reading. The pin that it waits for may need the lock for
 *   that, at worst behind a writer: then it gives up, after 2 s at most.
 * - A pin that goes only when a folio is locked (bio_check_pages_dirty()): nobody
 *   waits with a folio lock. migrate_pages() below does not wait for one.
 * - The server of a FUSE file or loop device pins memory for the request that the
 *   waiter's own pins belong to: it waits only for folios that are pinned; the
 *   others it moves. Else as with two tasks.
 * - SQPOLL and io-wq threads wait like anybody. Completions come by interrupt or
 *   workqueue and need none of them; to end a ring, they are killed.
 * - With IORING_SETUP_IOPOLL it is a task itself that completes its I/O, and not
 *   while it issues more: it moves what can be moved, and does not wait. If it waits
 *   elsewhere, for another ring or without one, that is as with two tasks.
 * - fork() and munmap() need mmap_lock, see above.
 * - Offline fails until it is interrupted: it lets everybody pass after its wait.
 * - A task that is killed, or for FOLL_INTERRUPTIBLE gets a signal, stops waiting.
 *
 * Nothing here runs in the short-term pin path unless a range is being drained,
 * and some cgroup may wait: pins_may_wait().
 *
 * Copyright (C) 2026 the pins authors
 */

#include <linux/hash.h>
#include <linux/hrtimer.h>
#include <linux/irq_work.h>
#include <linux/memory_hotplug.h>
#include <linux/migrate.h>
#include <linux/psi.h>
#include <linux/rculist.h>
#include <linux/sched/signal.h>
#include <linux/sysctl.h>
#include <linux/wait_bit.h>
#include <linux/workqueue.h>

#include <trace/events/pins.h>

#include "../internal.h"
#include "internal.h"

/**
 * struct pins_drain - a range of memory that is being emptied
 * @list: in pins_drains
 * @rcu: to free it
 * @start_pfn: first page
 * @end_pfn: behind the last page
 * @epoch: number of this drain; later ones have larger numbers
 * @why: who empties it
 * @over: the isolator no longer waits for pins, so pins do not wait for it either
 * @waited: how long it has waited, in ns
 * @tries: how often it has waited
 * @idle: since when it has failed, though no pins were in its way; 0 if it has not
 */
struct pins_drain {
	struct list_head list;
	struct rcu_head rcu;
	unsigned long start_pfn;
	unsigned long end_pfn;
	u64 epoch;
	enum pins_drain_why why;
	bool over;
	u64 waited;
	unsigned int tries;
	ktime_t idle;
};

/*
 * Where pins come and go all the time, each try finds one and does not wait for long.
 * But to try costs time, too.
 */
#define PINS_DRAIN_TRIES	100

/* Does its isolator go on until it succeeds, or a signal comes? */
static bool drain_offlines(const struct pins_drain *drain)
{
	return drain->why == PINS_DRAIN_OFFLINE;
}

/* Rarely more than one. Changed under the lock, read under RCU. */
static LIST_HEAD(pins_drains);
static DEFINE_SPINLOCK(pins_drains_lock);
static u64 pins_epoch;

/* Turns on pins_key as well, so that unpins get here. */
DEFINE_STATIC_KEY_FALSE(pins_drain_key);

/* Whether that is done in all places, so that no unpin is missed from now on */
static bool pins_drain_ready;

/* When the last drain has ended, in jiffies, and how long the next is waited for */
static unsigned long pins_drain_last;
#define PINS_DRAIN_LINGER	(5 * HZ)

static unsigned int pins_drain_max_us = 200 * USEC_PER_MSEC;

/*
 * Where to wait for a folio, by its number. Whoever is about to decide whether to
 * sleep adds himself to @waiters and takes note of @seq before he looks at the
 * folio. Whoever changes the folio looks at @waiters afterwards, with a full
 * barrier in between on both sides: so either the change is seen, or @seq moves.
 */
struct pins_waitqueue {
	atomic_t waiters;
	atomic_t seq;
	wait_queue_head_t wait;
} ____cacheline_aligned_in_smp;

#define PINS_WAIT_BITS	6
/* Behind the others: where isolators wait for all of their folios at once */
#define PINS_ISOLATORS	BIT(PINS_WAIT_BITS)
static struct pins_waitqueue pins_waitqueues[PINS_ISOLATORS + 1];

/*
 * Unpins come from any context, raw spinlocks and interrupts disabled included:
 * they leave the wake up to an interrupt of its own.
 */
static DECLARE_BITMAP(pins_wakes, PINS_ISOLATORS + 1);
static void pins_wake_queues(struct irq_work *work);
static DEFINE_IRQ_WORK(pins_wake_work, pins_wake_queues);

/* How many requests are moving folios right now */
static atomic_t pins_moving = ATOMIC_INIT(0);

static struct pins_waitqueue *pins_waitqueue(unsigned long pfn)
{
	return &pins_waitqueues[hash_long(pfn, PINS_WAIT_BITS)];
}

static void pins_wake_queues(struct irq_work *work)
{
	unsigned int i;

	for_each_set_bit(i, pins_wakes, PINS_ISOLATORS + 1)
		if (test_and_clear_bit(i, pins_wakes))
			wake_up_all(&pins_waitqueues[i].wait);
}

static void pins_wake_queue(struct pins_waitqueue *queue)
{
	if (!atomic_read(&queue->waiters))
		return;
	atomic_inc(&queue->seq);
	/* An interrupt that is under way and sees the bit wakes who looks at @seq. */
	smp_mb__before_atomic();
	set_bit(queue - pins_waitqueues, pins_wakes);
	/* And one that does not see it comes again. */
	smp_mb__after_atomic();
	irq_work_queue(&pins_wake_work);
}

/* Not by interrupt, which would have to wake everybody at once. Process context. */
static void pins_wake_all(void)
{
	unsigned int i;

	smp_mb(); /* see struct pins_waitqueue */
	for (i = 0; i < ARRAY_SIZE(pins_waitqueues); i++) {
		struct pins_waitqueue *queue = &pins_waitqueues[i];

		if (!atomic_read(&queue->waiters))
			continue;
		atomic_inc(&queue->seq);
		wake_up_all(&queue->wait);
		cond_resched();
	}
}

/* The drain that page frames belong to. RCU read side. */
static struct pins_drain *pins_drain_at(unsigned long start, unsigned long end)
{
	struct pins_drain *drain;

	list_for_each_entry_rcu(drain, &pins_drains, list)
		if (start < drain->end_pfn && end > drain->start_pfn &&
		    !READ_ONCE(drain->over))
			return drain;
	return NULL;
}

/*
 * The same for a folio; of a very large one only the beginning counts, because that
 * is where those who wait for it look: see __pins_wake(). Nobody waits for it on
 * account of a range further behind.
 */
static struct pins_drain *pins_drain_of(unsigned long pfn, unsigned long nr_pages)
{
	return pins_drain_at(pfn, pfn + min(nr_pages, PINS_GATE_PAGES));
}

/* A folio has lost pins, or its contents; a full barrier has followed. */
void __pins_wake(unsigned long pfn)
{
	bool draining;

	/* The gate stands for other memory, too. Large folios may begin before. */
	rcu_read_lock();
	draining = pins_drain_at(pfn, pfn + PINS_GATE_PAGES);
	rcu_read_unlock();
	if (!draining)
		return;
	pins_wake_queue(pins_waitqueue(pfn));
	pins_wake_queue(&pins_waitqueues[PINS_ISOLATORS]);
}

void __pins_folio_moved(struct folio *folio)
{
	smp_mb(); /* see struct pins_waitqueue */
	__pins_wake(folio_pfn(folio));
}

/* One who is about to decide whether to sleep */
struct pins_sleeper {
	struct pins_waitqueue *queue;
	int seq;
	bool ready;
};

static void pins_wait_enter(struct pins_sleeper *sleeper, struct pins_waitqueue *queue)
{
	sleeper->queue = queue;
	atomic_inc(&queue->waiters);
	smp_mb__after_atomic(); /* see struct pins_waitqueue */
	sleeper->seq = atomic_read(&queue->seq);
	/* Pairs with the worker's release: unpins from here on wake. */
	sleeper->ready = smp_load_acquire(&pins_drain_ready);
}

static void pins_wait_leave(struct pins_sleeper *sleeper)
{
	atomic_dec(&sleeper->queue->waiters);
}

/*
 * Sleep until something has happened since pins_wait_enter(), or perhaps has.
 * Return: 0, -ETIME at @deadline, or -EINTR.
 */
static int pins_sleep(struct pins_sleeper *sleeper, ktime_t deadline,
		      unsigned int state)
{
	ktime_t wake = deadline;
	DEFINE_WAIT(wait);
	int ret = 0;

	if (!sleeper->ready)
		wake = min(wake, ktime_add_ms(ktime_get(), 1));
	for (;;) {
		prepare_to_wait(&sleeper->queue->wait, &wait, state);
		/* However often it is woken, it does not miss these. */
		if (signal_pending_state(state, current)) {
			ret = -EINTR;
			break;
		}
		if (ktime_get() >= deadline) {
			ret = -ETIME;
			break;
		}
		if (atomic_read(&sleeper->queue->seq) != sleeper->seq)
			break;
		if (!schedule_hrtimeout(wake == KTIME_MAX ? NULL : &wake,
					HRTIMER_MODE_ABS)) {
			ret = wake == deadline ? -ETIME : 0;
			break;
		}
	}
	finish_wait(&sleeper->queue->wait, &wait);
	return ret;
}

/*
 * Looks at the folio at *@pfn, which is set to its first page, and *@next to where
 * the next one begins. The memory may be going away, but not under RCU once its
 * section has been found online: see pins_drain_end().
 */
enum pins_obstacle pins_obstacle(unsigned long *pfn, unsigned long *next)
{
	enum pins_obstacle ret = PINS_GONE;
	struct folio *folio;
	struct page *page;

	*next = *pfn + 1;
	rcu_read_lock();
	page = pfn_to_online_page(*pfn);
	/* Without a reference it may be freed, split or reused meanwhile. */
	if (!page || !page_count(page))
		goto out;
	folio = page_folio(page);
	if (!folio_try_get(folio))
		goto out;
	ret = PINS_READY;
	if (page_folio(page) == folio) {
		*pfn = folio_pfn(folio);
		*next = *pfn + folio_nr_pages(folio);
		if (folio_maybe_dma_pinned(folio))
			ret = pins_map_recorded(folio) ? PINS_LONG : PINS_SHORT;
		else if (!folio_test_lru(folio))
			ret = PINS_BUSY;
	}
	folio_put(folio);
out:
	rcu_read_unlock();
	return ret;
}

/*
 * Turning a static key on waits for all CPUs, and needs locks that an isolator
 * might not be allowed to take: that is left to a worker. Until it is done, pins
 * come through as they do without us.
 */
static void pins_drain_update(struct work_struct *work);
static DECLARE_DELAYED_WORK(pins_drain_work, pins_drain_update);

static void pins_drain_update(struct work_struct *work)
{
	unsigned long until = READ_ONCE(pins_drain_last) + PINS_DRAIN_LINGER;
	bool was_ready = pins_drain_ready;
	bool drain;

	/* A drain that begins later finds it not ready, and has us run again. */
	spin_lock(&pins_drains_lock);
	drain = !list_empty(&pins_drains);
	if (!drain && !time_before(jiffies, until))
		WRITE_ONCE(pins_drain_ready, false);
	spin_unlock(&pins_drains_lock);

	if (drain) {
		if (was_ready)
			return;
		static_branch_inc(&pins_key);
		static_branch_enable(&pins_drain_key);
		/* Pairs with pins_wait_enter() */
		smp_store_release(&pins_drain_ready, true);
	} else if (pins_drain_ready) {
		/* The next one may follow closely. */
		queue_delayed_work(system_wq, &pins_drain_work, PINS_DRAIN_LINGER);
	} else if (was_ready) {
		static_branch_disable(&pins_drain_key);
		static_branch_dec(&pins_key);
	}
}

/* Have unpins in the range look further than at the gate. */
static void pins_drain_gates(struct pins_drain *drain, int count)
{
	unsigned long pfn;

	for (pfn = ALIGN_DOWN(drain->start_pfn, PINS_GATE_PAGES); pfn < drain->end_pfn;
	     pfn += PINS_GATE_PAGES)
		atomic_add(count, pins_gate_of((struct folio *)pfn_to_page(pfn)));
}

/**
 * pins_drain_begin() - a range of memory is going to be emptied
 * @start_pfn: its first page
 * @end_pfn: behind its last page
 * @why: who empties it
 *
 * Call it when the range has been isolated, so that nothing is moved into it.
 *
 * Context: process context, may sleep.
 * Return: to be handed to pins_drain_wait() and pins_drain_end(). NULL if there
 * is no memory for it; pins then come and go as ever.
 */
struct pins_drain *pins_drain_begin(unsigned long start_pfn,
				    unsigned long end_pfn, enum pins_drain_why why)
{
	struct pins_drain *drain;

	/* Others rely on it that offlining has one: see pins_obstacle(). */
	drain = kzalloc(sizeof(*drain), GFP_KERNEL |
			(why == PINS_DRAIN_OFFLINE ? __GFP_NOFAIL : 0));
	if (!drain)
		return NULL;
	drain->start_pfn = start_pfn;
	drain->end_pfn = end_pfn;
	drain->why = why;

	pins_drain_gates(drain, 1);
	smp_mb__after_atomic(); /* see pins_gate: who waits, waits behind it */
	spin_lock(&pins_drains_lock);
	drain->epoch = ++pins_epoch;
	list_add_rcu(&drain->list, &pins_drains);
	spin_unlock(&pins_drains_lock);

	mod_delayed_work(system_wq, &pins_drain_work, 0);
	return drain;
}

/**
 * pins_drain_end() - the range is empty, or the attempt has failed
 * @drain: what pins_drain_begin() returned
 *
 * Call it when the range is no longer isolated; or offline, but before its struct
 * pages go.
 *
 * Context: process context, may sleep.
 */
void pins_drain_end(struct pins_drain *drain)
{
	if (!drain)
		return;

	spin_lock(&pins_drains_lock);
	list_del_rcu(&drain->list);
	spin_unlock(&pins_drains_lock);
	pins_wake_all();
	pins_drain_gates(drain, -1);
	/* The memory may go now; whoever waits may be looking at it. */
	if (drain_offlines(drain))
		synchronize_rcu();
	kfree_rcu(drain, rcu);

	WRITE_ONCE(pins_drain_last, jiffies);
	queue_delayed_work(system_wq, &pins_drain_work, PINS_DRAIN_LINGER);
}

/* Where a folio goes, if that needs no reclaim */
static struct folio *pins_target(struct folio *folio, unsigned long unused)
{
	gfp_t gfp = (GFP_USER | __GFP_MOVABLE | __GFP_NOWARN) & ~__GFP_DIRECT_RECLAIM;
	int zidx = folio_zonenum(folio);

	/* As alloc_migration_target() */
	if (is_highmem_idx(zidx) || zidx == ZONE_MOVABLE)
		gfp |= __GFP_HIGHMEM;
	return __folio_alloc(gfp, folio_order(folio), folio_nid(folio), NULL);
}

/*
 * Move isolated folios out as far as that needs no waiting, for locks, writeback or
 * reclaim. Return whether any was.
 */
static bool pins_move(struct list_head *folios)
{
	unsigned int moved;

	if (list_empty(folios))
		return false;
	moved = pins_migrate(folios, pins_target, 0, MIGRATE_ASYNC, MR_CONTIG_RANGE);
	/* Others may have found them neither pinned nor where they can be had. */
	lru_add_drain();
	pins_wake_all();
	return moved;
}

/* Isolate a folio that is not pinned any more, to move it. */
static void pins_isolate(unsigned long pfn, struct list_head *folios)
{
	struct folio *folio = NULL;
	struct page *page;

	rcu_read_lock(); /* see pins_obstacle() */
	page = pfn_to_online_page(pfn);
	if (page) {
		folio = page_folio(page);
		if (!folio_try_get(folio))
			folio = NULL;
	}
	rcu_read_unlock();
	if (!folio)
		return;
	/*
	 * It may have become part of another, and that split again. Huge pages come
	 * from pools: their isolator knows what to do.
	 */
	if (folio_pfn(folio) == pfn && !folio_test_hugetlb(folio))
		isolate_folio_to_list(folio, folios);
	folio_put(folio);
}

/* Pinned folios that an isolator waits for at a time */
#define PINS_DRAIN_BATCH	1024

/* Find pinned folios. Return how many, or -EBUSY if one will stay. */
static int pins_drain_find(struct pins_drain *drain, unsigned long *pfns)
{
	unsigned long pfn, next;
	int nr = 0;

	for (pfn = drain->start_pfn; pfn < drain->end_pfn; pfn = next) {
		switch (pins_obstacle(&pfn, &next)) {
		case PINS_SHORT:
			/* If it begins outside, nobody would be woken. */
			if (pfn < ALIGN_DOWN(drain->start_pfn, PINS_GATE_PAGES))
				return -EBUSY;
			pfns[nr++] = pfn;
			if (nr == PINS_DRAIN_BATCH)
				return nr;
			break;
		case PINS_LONG:
			return -EBUSY;
		default:
			break;
		}
		if (!(pfn % 1024))
			cond_resched();
	}
	return nr;
}

/*
 * Wait until none of them is pinned any more. Each is moved as soon as that is so,
 * because it may be pinned again at once by those who do not wait.
 */
static int pins_drain_folios(struct pins_drain *drain, unsigned long *pfns, int nr,
			     ktime_t deadline)
{
	unsigned int state = drain_offlines(drain) ? TASK_INTERRUPTIBLE : TASK_KILLABLE;
	int ret = 0;

	while (nr && !ret) {
		struct pins_sleeper sleeper;
		LIST_HEAD(folios);
		int i, left = 0;

		/* It may have much to look at, and never sleep. */
		cond_resched();
		pins_wait_enter(&sleeper, &pins_waitqueues[PINS_ISOLATORS]);
		for (i = 0; i < nr; i++) {
			unsigned long pfn = pfns[i], next;

			switch (pins_obstacle(&pfn, &next)) {
			case PINS_SHORT:
				pfns[left++] = pfns[i];
				break;
			case PINS_LONG:
				ret = -EBUSY;
				break;
			case PINS_READY:
				/* If it cannot be moved, the next try finds it. */
				pins_isolate(pfns[i], &folios);
				break;
			default:
				break;
			}
		}
		nr = left;
		if (!list_empty(&folios))
			pins_move(&folios);
		else if (nr && !ret)
			ret = pins_sleep(&sleeper, deadline, state);
		pins_wait_leave(&sleeper);
	}
	return ret;
}

/* Nothing more is to be hoped for: let everybody pass, and say who was in the way. */
static bool pins_drain_give_up(struct pins_drain *drain)
{
	WRITE_ONCE(drain->over, true);
	pins_wake_all();
	if (drain->why != PINS_DRAIN_STEER)
		pins_blame(drain->start_pfn, drain->end_pfn, drain_offlines(drain));
	return false;
}

/**
 * pins_drain_wait() - wait for pins in a range that could not be emptied
 * @drain: what pins_drain_begin() returned
 *
 * Who has waited in vain does not wait again for four times as long, so that many
 * attempts of one allocation at different places, each with pins that are not going
 * to go, take a quarter longer at most.
 *
 * Context: process context, sleeps up to vm.pins_drain_max_us; no folio locks or
 * migration entries may be held, and nothing that those need who release pins.
 * Return: whether it makes sense to try once more.
 */
bool pins_drain_wait(struct pins_drain *drain)
{
	u64 max = (u64)READ_ONCE(pins_drain_max_us) * NSEC_PER_USEC;
	ktime_t now = ktime_get();
	unsigned long *pfns;
	int ret = -ETIME;

	if (!drain || drain->over)
		return false;
	/* It may hold mmap_lock. */
	if (drain->why == PINS_DRAIN_STEER)
		max = min(max, (u64)NSEC_PER_SEC);
	if (drain->waited >= max ||
	    (!drain_offlines(drain) &&
	     (drain->tries++ == PINS_DRAIN_TRIES || now < current->pins_no_drain)))
		return pins_drain_give_up(drain);

	/* What requests are moving is neither pinned nor where it can be found. */
	if (atomic_read(&pins_moving))
		wait_var_event_timeout(&pins_moving, !atomic_read(&pins_moving),
				       msecs_to_jiffies(1));

	/* What was put back waits to get where it can be had. */
	lru_add_drain();
	pfns = kvmalloc_array(PINS_DRAIN_BATCH, sizeof(*pfns), GFP_KERNEL);
	if (pfns) {
		ret = pins_drain_find(drain, pfns);
		if (ret > 0) {
			drain->idle = 0;
			ret = pins_drain_folios(drain, pfns, ret,
						ktime_add_ns(now, max - drain->waited));
		} else if (!ret && !drain->idle) {
			/* It may have gone just before we looked. */
			drain->idle = now;
		} else if (!ret) {
			ret = drain_offlines(drain) && ktime_sub(now, drain->idle) < max ?
			      0 : -EBUSY;
		}
		kvfree(pfns);
	}

	drain->waited += ktime_to_ns(ktime_sub(ktime_get(), now));
	if (ret == -ETIME && !drain_offlines(drain))
		current->pins_no_drain = ktime_add_ns(now, 4 * max);
	if (ret)
		return pins_drain_give_up(drain);
	/* Offline goes on until it has all, or is interrupted: it may wait anew. */
	if (drain_offlines(drain))
		drain->waited = 0;
	/* Those who wait may find that they can move their folio now. */
	pins_wake_all();
	return true;
}

/*
 * Is a folio to be left alone, at first, by a request of the current task that has
 * waited so long? If so, *@left is how long it may go on waiting, in ns. That is
 * 0 when the task has waited for this drain as long as it may: then the folio is
 * just moved, if it can be, so that a task that has been unlucky once is not in
 * the way for ever.
 */
static bool pins_hold_up(struct folio *folio, u64 waited, u64 *left, u64 *epoch)
{
	struct pins_drain *drain = pins_drain_of(folio_pfn(folio),
						 folio_nr_pages(folio));
	u64 max;

	if (likely(!drain))
		return false;
	max = pins_cgroup_wait_max();
	/* With a record, it will not be moved anyway. */
	if (!max || pins_map_recorded(folio))
		return false;
	*epoch = drain->epoch;
	*left = KTIME_MAX;
	if (max == PINS_WAIT_MAX)
		return true;

	max *= NSEC_PER_USEC;
	if (waited >= max)
		return false;
	if (drain->epoch <= current->pins_epoch)
		waited = max(waited, current->pins_waited);
	*left = max > waited ? max - waited : 0;
	return true;
}

/* May a request sleep that may go on waiting for so long? */
static bool pins_may_sleep(u64 left)
{
	return left && !current->pins_polls;
}

/* Has nobody else pinned or isolated the folio of a run that is pinned? */
static bool pins_movable(const struct pins_run *run)
{
	return folio_test_lru(run->folio) && pins_folio_pins(run->folio) <= run->n;
}

bool __pins_held_up(struct page **pages, unsigned long nr, unsigned long wanted,
		    unsigned int flags)
{
	struct pins_iter it = { .pages = pages, .nr = nr };
	bool ret = nr && nr < wanted;
	u64 left, epoch;

	if ((flags & (FOLL_PIN | FOLL_NOFAULT)) != FOLL_PIN)
		return false;
	while (it.pos < it.nr && !ret) {
		struct pins_run run = pins_iter_run(&it);

		it.pos += run.n;
		pins_iter_resched(&it, &run);
		if (!pins_run_pinned(&run))
			continue;
		rcu_read_lock();
		ret = pins_hold_up(run.folio, 0, &left, &epoch) &&
		      (pins_may_sleep(left) || pins_movable(&run));
		rcu_read_unlock();
	}
	return ret;
}

/*
 * What is in the way of a request: folios that it has isolated, to move them,
 * and where to find others that it cannot move.
 */
struct pins_held_up {
	struct list_head folios;
	unsigned long nr_pages;
	unsigned long blocked[16];
	unsigned int nr_blocked;
	bool any;
	unsigned long first;
	u64 epoch;
	u64 left;
};

/*
 * How many pages to move at a time, so that it takes no longer than the request may
 * wait: some 4 us for each, and as much again to pin them anew.
 */
static unsigned long pins_move_most(u64 left)
{
	if (left == KTIME_MAX)
		return ULONG_MAX;
	return max(div_u64(left, 8 * NSEC_PER_USEC), 32ULL);
}

static void pins_blocked(struct pins_held_up *held, unsigned long pfn)
{
	/* The others turn up at the next try. */
	if (held->nr_blocked < ARRAY_SIZE(held->blocked))
		held->blocked[held->nr_blocked++] = pfn;
}

static void pins_moving_begin(void)
{
	atomic_inc(&pins_moving);
}

static void pins_moving_end(void)
{
	if (atomic_dec_and_test(&pins_moving))
		wake_up_var(&pins_moving);
}

/* Find the folios of a request that are held up. It still has its pins. */
static void pins_collect(struct pins_held_up *held, struct page **pages, long nr,
			 u64 waited)
{
	struct pins_iter it = { .pages = pages, .nr = nr };
	u64 left, epoch;
	bool hold_up;

	while (it.pos < it.nr) {
		struct pins_run run = pins_iter_run(&it);

		it.pos += run.n;
		pins_iter_resched(&it, &run);
		if (!pins_run_pinned(&run))
			continue;
		rcu_read_lock();
		hold_up = pins_hold_up(run.folio, waited, &left, &epoch);
		rcu_read_unlock();
		if (likely(!hold_up))
			continue;
		if (!held->any) {
			held->any = true;
			held->first = folio_pfn(run.folio);
			held->left = left;
			held->epoch = epoch;
			pins_moving_begin();
		}
		/* Huge pages come from pools: their isolator knows what to do. */
		if (folio_test_hugetlb(run.folio) || !pins_movable(&run) ||
		    !isolate_folio_to_list(run.folio, &held->folios)) {
			pins_blocked(held, folio_pfn(run.folio));
			continue;
		}
		held->nr_pages += run_nr_pages(&run);
		if (held->nr_pages >= pins_move_most(held->left))
			break;
	}
}

/* Move those out that nobody else has pinned. Return whether any was. */
static bool pins_move_unpinned(struct pins_held_up *held)
{
	struct folio *folio, *next;
	LIST_HEAD(pinned);
	bool moved;

	list_for_each_entry_safe(folio, next, &held->folios, lru) {
		if (folio_maybe_dma_pinned(folio)) {
			pins_blocked(held, folio_pfn(folio));
			list_move_tail(&folio->lru, &pinned);
		}
	}
	putback_movable_pages(&pinned);
	lru_add_drain();
	moved = pins_move(&held->folios);
	pins_moving_end();
	return moved;
}

/*
 * Wait while a folio is pinned or being moved by somebody else; or, if it is @stuck,
 * while it is where it is, though nobody has pinned it.
 */
static int pins_wait_folio(unsigned long pfn, bool stuck, ktime_t deadline,
			   unsigned int state, bool *slept)
{
	enum pins_obstacle obstacle;
	struct pins_sleeper sleeper;
	unsigned long first, next;
	int ret = 0;

	do {
		first = pfn;
		pins_wait_enter(&sleeper, pins_waitqueue(pfn));
		/* If the drain ends after this, it wakes us: we are registered. */
		rcu_read_lock();
		obstacle = pins_obstacle(&first, &next);
		if (!pins_drain_of(first, next - first))
			obstacle = PINS_GONE;
		rcu_read_unlock();
		if (obstacle == PINS_READY && !stuck)
			obstacle = PINS_GONE;
		if (obstacle != PINS_GONE && obstacle != PINS_LONG) {
			ret = pins_sleep(&sleeper, deadline, state);
			*slept = true;
		}
		pins_wait_leave(&sleeper);
	} while (!ret && !stuck && (obstacle == PINS_SHORT || obstacle == PINS_BUSY));
	return ret;
}

/* Have the folios moved out, and wait for those that others hold. */
static int pins_make_way(struct pins_wait *wait, struct pins_held_up *held,
			 ktime_t deadline, unsigned int state)
{
	/* To have moved something is as good. */
	bool slept = pins_move_unpinned(held);
	unsigned int i;
	int ret = 0;

	if (!pins_may_sleep(held->left)) {
		wait->pass = !slept;
		return 0;
	}
	/* One after the other is enough, all of them are needed. */
	for (i = 0; i < held->nr_blocked && !ret; i++)
		ret = pins_wait_folio(held->blocked[i], false, deadline, state, &slept);
	/* It could be moved, but not by us, for want of memory perhaps. */
	if (!slept && !ret)
		ret = pins_wait_folio(held->first, true, deadline, state, &slept);
	return ret;
}

/* The current task, and its request, have waited up to now. */
static void pins_account_wait(struct pins_wait *wait, struct pins_held_up *held,
			      struct pins_cgroup *pins, bool timed_out)
{
	u64 before = wait->waited;
	ktime_t now = ktime_get();

	wait->waited += ktime_to_ns(ktime_sub(now, wait->since));
	wait->since = now;
	if (held->epoch > current->pins_epoch) {
		current->pins_epoch = held->epoch;
		current->pins_waited = 0;
	}
	current->pins_waited += wait->waited - before;
	if (pins)
		pins_cgroup_waited(pins, !before,
				   div_u64(wait->waited, NSEC_PER_USEC) -
				   div_u64(before, NSEC_PER_USEC), timed_out);
}

/**
 * pins_wait() - give a request back if it is held up, and wait
 * @wait: zero at the beginning of the request
 * @mm: the address space that was pinned
 * @pages: the pages that were pinned
 * @nr: how many, or an error; replaced by -EINTR if that is why the wait ended
 * @locked: whether mmap_lock is held; it is not after a wait
 * @flags: FOLL_ flags
 *
 * What counts as waiting is the time since the request was held up first, also if
 * it was spent on moving folios, or on pinning them anew.
 *
 * Context: process context, sleeps up to pins.wait.max of the task's cgroup.
 * Return: whether to start over. Then nothing is pinned.
 */
bool pins_wait(struct pins_wait *wait, struct mm_struct *mm, struct page **pages,
	       long *nr, int *locked, unsigned int flags)
{
	unsigned int state = flags & FOLL_INTERRUPTIBLE ? TASK_INTERRUPTIBLE :
							  TASK_KILLABLE;
	struct pins_held_up held = { .folios = LIST_HEAD_INIT(held.folios) };
	unsigned int has_to = FOLL_PIN | FOLL_UNLOCKABLE;
	struct pins_cgroup *pins;
	unsigned long pflags;
	ktime_t now;
	u64 cgroup;
	int err;

	if (*nr <= 0 || wait->pass ||
	    (flags & (has_to | FOLL_NOWAIT | FOLL_NOFAULT)) != has_to)
		return false;
	now = ktime_get();
	if (!wait->since)
		wait->since = now;
	pins_collect(&held, pages, *nr,
		     wait->waited + ktime_to_ns(ktime_sub(now, wait->since)));
	if (likely(!held.any))
		return false;
	if (!pins_may_sleep(held.left) && list_empty(&held.folios)) {
		pins_moving_end();
		return false;
	}

	unpin_user_pages(pages, *nr);
	if (*locked) {
		mmap_read_unlock(mm);
		*locked = 0;
	}

	pins = get_pins_cgroup_from_current();
	cgroup = pins ? pins_cgroup_ino(pins_cgroup_id(pins)) : 0;
	trace_pins_wait_begin(cgroup, held.first, held.left);
	psi_memstall_enter(&pflags);
	err = pins_make_way(wait, &held, ktime_add_safe(now, held.left), state);
	psi_memstall_leave(&pflags);
	pins_account_wait(wait, &held, pins, err == -ETIME);
	trace_pins_wait_end(cgroup, held.first, wait->waited);
	if (err == -ETIME)
		trace_pins_wait_timeout(cgroup, held.first, wait->waited);
	if (pins)
		put_pins_cgroup(pins);

	if (err == -EINTR)
		*nr = -EINTR;
	return err != -EINTR;
}

static struct ctl_table pins_wait_sysctls[] = {
	{
		.procname	= "pins_drain_max_us",
		.data		= &pins_drain_max_us,
		.maxlen		= sizeof(pins_drain_max_us),
		.mode		= 0644,
		.proc_handler	= proc_douintvec,
	},
};

/* Runs before anybody can isolate memory. */
static int __init pins_wait_init(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(pins_waitqueues); i++)
		init_waitqueue_head(&pins_waitqueues[i].wait);
	register_sysctl_init("vm", pins_wait_sysctls);
	return 0;
}
core_initcall(pins_wait_init);
