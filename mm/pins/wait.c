// SPDX-License-Identifier: GPL-2.0-only
/*
 * A pin request meets memory that is being emptied, see isolation.c.
 *
 * Whoever asks for such a folio moves it out himself, if nobody else has pinned it,
 * and gets the page that took its place: that takes microseconds, and saves the
 * isolator the work. If others have pinned it, the request gives back what it has
 * pinned, drops mmap_lock, sleeps until they have not, and starts over. All that
 * together takes no longer than vm.pins_wait_max_us, see wait_left(). It is the task
 * that it is counted for, because direct I/O calls GUP again and again in one system
 * call, and CMA tries one place after the other. Then the folio is pinned where it is.
 *
 * Folios that are known to be pinned for the long term are not waited for: the isolator
 * does not get them.
 *
 * A task that waits holds no mmap_lock, and no page table lock, reference, pin or lock
 * of any folio on account of this request. It holds what its caller holds: an
 * inode's lock (direct I/O), uring_lock (io_uring, if it submits inline), a tag of a
 * block device (passthrough I/O), a mutex of iommufd or a driver; and pins of earlier
 * requests, in bios submitted or not. So two tasks may wait for each other's pins.
 * The isolator waits for the same ones, gives up after vm.pins_drain_max_us, and
 * then lets everybody pass: no cycle lives longer, however long a task may wait.
 * Plugged bios are no problem, sleeping submits them.
 *
 * These do not sleep:
 *
 * - A request that may not drop mmap_lock (no FOLL_UNLOCKABLE: vfio, vdpa, vduse,
 *   AF_XDP, RDS). These are long-term, and GUP moves them out of isolated blocks
 *   anyway. memfd_pin_folios() has no address space in which to look up the new place
 *   of a page, and moves pages itself.
 * - FOLL_NOWAIT, and FOLL_NOFAULT, whose callers hold locks of a file system.
 * - A task that must not do I/O, or not enter file systems: others' I/O may wait for it.
 * - A task that submits I/O which it has to poll for (IORING_SETUP_IOPOLL): that does
 *   not complete meanwhile. It moves what can be moved.
 *
 * A task that is killed, or for FOLL_INTERRUPTIBLE gets a signal, stops waiting.
 *
 * Copyright (C) 2026 the pins authors
 */

#include <linux/ktime.h>
#include <linux/migrate.h>
#include <linux/psi.h>
#include <linux/sched/signal.h>
#include <linux/swap.h>
#include <linux/sysctl.h>

#include "../internal.h"
#include "internal.h"

#define CREATE_TRACE_POINTS
#include <trace/events/pins_wait.h>

/* For tasks that nothing else is said about */
static unsigned int pins_wait_max_us = 1000;

/* About what it takes to move a page and pin it anew, in ns */
#define PINS_MOVE_NS	(8ULL * NSEC_PER_USEC)

/* For how many times as long as it may lose anything a task then gets on */
#define PINS_REST	10

atomic_t pins_movers = ATOMIC_INIT(0);

/* The folio of entry @i of a request, if it has to move, and the one before is of another */
static struct folio *wait_folio(struct page **pages, unsigned long i)
{
	struct folio *folio = page_folio(pages[i]);

	/* Others shall get the CPU now and then. */
	if (!(i % 1024))
		cond_resched();
	if (i && page_folio(pages[i - 1]) == folio)
		return NULL;
	if (!pins_isolation_at(folio_pfn(folio), folio_nr_pages(folio)) ||
	    is_zero_folio(folio) || pins_folio_recorded(folio))
		return NULL;
	return folio;
}

/*
 * How much the current task may still lose, in ns. What it has lost is forgotten when
 * it has slept, so that it is not the same system call any more, or one that takes its
 * time anyway; and has got on for some time.
 */
static u64 wait_left(void)
{
	u64 max = READ_ONCE(pins_wait_max_us);

#ifdef CONFIG_CGROUP_PINS_WAIT
	rcu_read_lock();
	max = pins_cgroup_wait_max(max);
	rcu_read_unlock();
	if (max == PINS_WAIT_MAX)
		return S64_MAX;
#endif
	max *= NSEC_PER_USEC;
	if (current->nvcsw != current->pins_lost_nvcsw &&
	    ktime_get_ns() - current->pins_lost_at >= PINS_REST * max)
		current->pins_lost = 0;
	return max > current->pins_lost ? max - current->pins_lost : 0;
}

/**
 * pins_must_wait() - may a request that the fast path has pinned have to wait?
 * @pages: the pages that were pinned
 * @nr: how many
 * @wanted: how many are to be
 * @flags: FOLL_ flags
 *
 * Context: process context.
 * Return: whether it has to be given back and start over in the slow path, where
 * pins_wait() waits.
 */
bool pins_must_wait(struct page **pages, unsigned long nr, unsigned long wanted,
		    unsigned int flags)
{
	unsigned long i;

	if ((flags & (FOLL_PIN | FOLL_NOFAULT)) != FOLL_PIN || !wait_left())
		return false;
	/* The rest may have to wait, and does not do so with pins. */
	if (nr && nr < wanted)
		return true;
	for (i = 0; i < nr; i++)
		if (wait_folio(pages, i))
			return true;
	return false;
}

/* For the tracepoints */
#ifdef CONFIG_CGROUP_PINS_WAIT
static u64 wait_cgroup(void)
{
	struct pins_cgroup *pins = get_pins_cgroup_from_current();
	u64 ino = 0;

	if (pins) {
		ino = pins_cgroup_ino(pins_cgroup_id(pins));
		put_pins_cgroup(pins);
	}
	return ino;
}
#else
static inline u64 wait_cgroup(void) { return 0; }
#endif

/* The request goes on, or has failed. All the time since it was held up first is lost. */
static void wait_end(struct pins_wait *wait)
{
	u64 now = ktime_get_ns(), lost = now - wait->since;
#ifdef CONFIG_CGROUP_PINS_WAIT
	struct pins_cgroup *pins = get_pins_cgroup_from_current();

	if (pins) {
		pins_cgroup_count(pins, PINS_WAIT, wait->slept);
		pins_cgroup_count(pins, PINS_WAIT_USEC, div_u64(lost, NSEC_PER_USEC));
		pins_cgroup_count(pins, PINS_WAIT_TIMEOUT, wait->timed_out);
		put_pins_cgroup(pins);
	}
#endif
	current->pins_lost += lost;
	current->pins_lost_at = now;
	current->pins_lost_nvcsw = current->nvcsw;
	trace_pins_wait_end(wait_cgroup(), wait->pfn, lost);
	if (wait->timed_out)
		trace_pins_wait_timeout(wait_cgroup(), wait->pfn, lost);
}

/* Where a folio goes, if that needs no reclaim */
static struct folio *wait_target(struct folio *folio, unsigned long unused)
{
	gfp_t gfp = (GFP_USER | __GFP_MOVABLE | __GFP_NOWARN) & ~__GFP_DIRECT_RECLAIM;
	int zidx = folio_zonenum(folio);

	/* As alloc_migration_target() */
	if (is_highmem_idx(zidx) || zidx == ZONE_MOVABLE)
		gfp |= __GFP_HIGHMEM;
	return __folio_alloc(gfp, folio_order(folio), folio_nid(folio), NULL);
}

/*
 * Isolate what is in the way of a request, as much as it has time to move. It still
 * has its pins, so that whether others have is not known yet.
 */
static bool wait_collect(struct pins_wait *wait, struct page **pages, unsigned long nr,
			 u64 left, struct list_head *folios)
{
	unsigned long nr_pages = 0, i;
	bool found = false;

	for (i = 0; i < nr; i++) {
		struct folio *folio = wait_folio(pages, i);

		if (likely(!folio))
			continue;
		if (!found) {
			wait->pfn = folio_pfn(folio);
			wait->timed_out = !left;
			found = true;
			/* What was just faulted in cannot be isolated before. */
			lru_add_drain();
		}
		if (nr_pages * PINS_MOVE_NS >= left)
			break;
		/* Huge pages come from pools: their isolator knows what to do. */
		if (!folio_test_hugetlb(folio) && isolate_folio_to_list(folio, folios))
			nr_pages += folio_nr_pages(folio);
	}
	return found;
}

/*
 * A request has pinned its pages. If some of them have to move, give all of them back
 * and try to get these out of the way. Return 1 to start over, 0 if the request may
 * keep its pages, or -EINTR.
 */
static int wait_make_way(struct pins_wait *wait, struct mm_struct *mm,
			 struct page **pages, long nr, int *locked, unsigned int state)
{
	u64 now = ktime_get_ns(), left;
	unsigned long pflags;
	LIST_HEAD(folios);
	int err = 0;
	bool moved;

	if (!wait->since)
		wait->until = now + wait_left();
	left = wait->until > now ? wait->until - now : 0;
	/* It may lose nothing, and has not: do not even look. */
	if (!left && !wait->since)
		return 0;
	atomic_inc(&pins_movers);
	if (!wait_collect(wait, pages, nr, left, &folios) || !left) {
		atomic_dec(&pins_movers);
		return 0;
	}

	if (!wait->since) {
		wait->since = now;
		trace_pins_wait_begin(wait_cgroup(), wait->pfn, left);
	}
	psi_memstall_enter(&pflags);
	pins_give_back_pages(pages, nr);
	if (*locked) {
		mmap_read_unlock(mm);
		*locked = 0;
	}
	moved = pins_migrate(&folios, wait_target, 0, MIGRATE_ASYNC, MR_CONTIG_RANGE,
			     &wait->pfn);
	/* What could not be moved is to be found again by others. */
	lru_add_drain();
	atomic_dec(&pins_movers);
	if (!moved && current->pins_nowait) {
		wait->pass = true;
	} else if (!moved) {
		wait->slept = true;
		err = pins_sleep(wait->pfn, wait->since, wait->until, state, true);
	}
	psi_memstall_leave(&pflags);
	return err == -EINTR ? err : 1;
}

/**
 * pins_wait() - give a request back if memory has to move that it has pinned
 * @wait: zero at the beginning of the request
 * @mm: the address space that was pinned
 * @pages: the pages that were pinned
 * @nr: how many, or an error; replaced by -EINTR if that is why the wait ended
 * @locked: whether mmap_lock is held; it is not after a wait
 * @flags: FOLL_ flags
 *
 * Context: process context, sleeps no longer than wait_left().
 * Return: whether to start over. Then nothing is pinned.
 */
bool pins_wait(struct pins_wait *wait, struct mm_struct *mm, struct page **pages,
	       long *nr, int *locked, unsigned int flags)
{
	unsigned int state = flags & FOLL_INTERRUPTIBLE ? TASK_INTERRUPTIBLE :
							  TASK_KILLABLE;
	unsigned int has_to = FOLL_PIN | FOLL_UNLOCKABLE;
	int again = 0;

	if (*nr > 0 && !wait->pass &&
	    (flags & (has_to | FOLL_NOWAIT | FOLL_NOFAULT)) == has_to &&
	    !(current->flags & (PF_MEMALLOC_NOIO | PF_MEMALLOC_NOFS)))
		again = wait_make_way(wait, mm, pages, *nr, locked, state);
	if (again < 0)
		*nr = again;
	if (again <= 0 && wait->since)
		wait_end(wait);
	return again > 0;
}

static struct ctl_table pins_wait_sysctls[] = {
	{
		.procname	= "pins_drain_max_us",
		.data		= &pins_drain_max_us,
		.maxlen		= sizeof(pins_drain_max_us),
		.mode		= 0644,
		.proc_handler	= proc_douintvec,
	},
	{
		.procname	= "pins_wait_max_us",
		.data		= &pins_wait_max_us,
		.maxlen		= sizeof(pins_wait_max_us),
		.mode		= 0644,
		.proc_handler	= proc_douintvec,
	},
};

static int __init pins_wait_init(void)
{
	register_sysctl_init("vm", pins_wait_sysctls);
	return 0;
}
late_initcall(pins_wait_init);
