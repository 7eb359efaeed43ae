// SPDX-License-Identifier: GPL-2.0-only
/*
 * The pins controller: long-term pins that give way.
 *
 * A buffer that is registered with io_uring, and that no request uses, is a promise: its
 * owner wants to use it again, and fast. It need not be pinned meanwhile. With
 * pins.revoke, its pins are taken back when somebody needs the memory or the room, and
 * taken anew when it is used next. (Jens Axboe and others have asked for buffers that do
 * not have to stay pinned; on-demand paging of RDMA is the same idea in hardware.)
 *
 * Each cgroup has a list of what is pinned for it in that way. Whoever wants some of it
 * back has a worker take it, and waits for that:
 *
 * - memory that has to move, of the cgroups that have pinned what is in the way: what
 *   lies there. Where it is in use, it is not used anew for a moment, and the isolator
 *   asks again;
 * - room below a limit, of those below it: what was not used for longest, and no more
 *   than is needed.
 *
 * What belongs together goes together: a task that moves leaves its registered buffers
 * in the cgroup where they are, and what is pinned again is charged there.
 *
 * A worker, because the scheduler may throttle a task (cpu.max) that is in the kernel, and
 * the ring of another must not stand still meanwhile.
 *
 * Locks: who asks may hold any - uring_lock of his own ring, mmap_lock, the mutex of
 * CMA, mem_hotplug_lock. The owner of pins needs uring_lock of its ring, and adds and
 * removes them with that held. So uring_lock is outside the mutex of the list, and the
 * worker, with that mutex held, only tries it. Nor does it wait for a list that is locked:
 * who has it may be throttled. What cannot be had is left alone. Nothing is allocated or
 * faulted in meanwhile: nobody waits for who waits.
 *
 * Copyright (C) 2026 the pins authors
 */

#include <linux/kernel.h>
#include <linux/mutex.h>
#include <linux/pins_revoke.h>
#include <linux/sched/signal.h>
#include <linux/workqueue.h>

#include <trace/events/pins.h>

#include "pins-internal.h"

static struct workqueue_struct *pins_revoke_wq;

/* Each search for what was not used for longest has a number. */
static atomic_long_t revoke_searches = ATOMIC_LONG_INIT(0);

/* How often to ask again for pins that are in use, or whose lock is taken, by the jiffy */
#define PINS_REVOKE_TRIES	8

/* How often who wants to have a cgroup use less asks, if others pin again meanwhile */
#define PINS_RECLAIM_TRIES	64

/**
 * struct pins_ask - what is to be taken back
 * @work: the search for it
 * @pins: of that cgroup; unless it is for a range, and of those below it
 * @task: who asks, and waits until that is done
 * @start_pfn: what lies behind that,
 * @end_pfn: and before that; or if it is 0,
 * @nr_pages: so much of what was used
 * @until: by then, in jiffies
 * @start: when the search has begun, in jiffies: what is used since then is in use
 * @patience: how long that may take, in jiffies, if it is for a range
 * @search: the number of this search
 * @yield: pins that are in use are not to be used anew
 * @interruptible: a signal ends it, not only one that kills
 * @some: whether any were taken back
 * @got: how many pages that has freed
 * @busy: whether pins are in use, or locked
 * @left: whether some were used after @until
 * @oldest: when the first of these were used
 */
struct pins_ask {
	struct work_struct work;
	struct pins_cgroup *pins;
	struct task_struct *task;
	unsigned long start_pfn;
	unsigned long end_pfn;
	unsigned long nr_pages;
	unsigned long until;
	unsigned long start;
	unsigned long patience;
	long search;
	bool yield;
	bool interruptible;
	bool some;
	unsigned long got;
	bool busy;
	bool left;
	unsigned long oldest;
};

/* A cgroup is made. */
void pins_revoke_init(struct pins_cgroup *pins)
{
	mutex_init(&pins->revocables_lock);
	INIT_LIST_HEAD(&pins->revocables);
}

/**
 * pins_revocable_add() - from now on pins may be taken back
 * @rev: the pins; all that says where and how many they are is set, and @rev->ops
 * @pins: the cgroup that pays for them, whose reference is consumed
 *
 * Context: process context, may sleep; the caller holds what @rev->ops->trylock tries.
 */
void pins_revocable_add(struct pins_revocable *rev, struct pins_cgroup *pins)
{
	rev->pins = pins;
	rev->asked = atomic_long_read(&revoke_searches);
	mutex_lock(&pins->revocables_lock);
	/* Whoever walks the list does not meet it. */
	list_add(&rev->list, &pins->revocables);
	atomic_long_add(rev->nr_pages, &pins->revocable);
	mutex_unlock(&pins->revocables_lock);
}

/**
 * pins_revocable_del() - pins are not taken back any more
 * @rev: the pins
 *
 * Context: process context, may sleep; the caller holds what @rev->ops->trylock tries.
 */
void pins_revocable_del(struct pins_revocable *rev)
{
	struct pins_cgroup *pins = rev->pins;

	mutex_lock(&pins->revocables_lock);
	list_del_init(&rev->list);
	atomic_long_sub(rev->nr_pages, &pins->revocable);
	rev->nr_pages = 0;
	mutex_unlock(&pins->revocables_lock);
}

/**
 * pins_revocable_free() - pins are gone for good, and nobody uses them
 * @rev: the pins, after pins_revocable_del()
 *
 * Context: process context.
 */
void pins_revocable_free(struct pins_revocable *rev)
{
	put_pins_cgroup(rev->pins);
}

/**
 * pins_revocable_repinned() - the owner has pinned some of it again
 * @rev: the pins, which may have been deleted meanwhile
 * @nr_pages: about how many pages
 * @start_pfn: they lie behind that,
 * @end_pfn: and before that
 * @usecs: how long that took
 *
 * Context: process context, may sleep; @rev is in use.
 */
void pins_revocable_repinned(struct pins_revocable *rev, unsigned long nr_pages,
			     unsigned long start_pfn, unsigned long end_pfn, u64 usecs)
{
	struct pins_cgroup *pins = rev->pins;

	mutex_lock(&pins->revocables_lock);
	if (!list_empty(&rev->list)) {
		rev->start_pfn = rev->nr_pages ? min(rev->start_pfn, start_pfn) : start_pfn;
		rev->end_pfn = rev->nr_pages ? max(rev->end_pfn, end_pfn) : end_pfn;
		rev->nr_pages += nr_pages;
		atomic_long_add(nr_pages, &pins->revocable);
	}
	mutex_unlock(&pins->revocables_lock);

	if (trace_pins_repin_enabled())
		trace_pins_repin(pins_cgroup_ino(pins_cgroup_id(pins)), nr_pages, usecs);
	pins_cgroup_count(pins, PINS_REPINNED, nr_pages);
	pins_cgroup_count(pins, PINS_REPIN_USEC, usecs);
}

/*
 * Ask for one that is locked, and therefore stays in the list. The mutex of the list is
 * dropped meanwhile: that takes long.
 */
static void ask_revocable(struct pins_ask *ask, struct pins_revocable *rev)
{
	struct pins_cgroup *pins = rev->pins;
	unsigned long nr_pages, before, after;
	int ret;

	mutex_unlock(&pins->revocables_lock);
	before = page_counter_read(&pins->counter);
	ret = rev->ops->revoke(rev, ask->start_pfn, ask->end_pfn, ask->yield);
	/* Another buffer may have some of it pinned, too. */
	after = page_counter_read(&pins->counter);
	cond_resched();
	mutex_lock(&pins->revocables_lock);
	ask->busy |= ret < 0;
	if (ret <= 0)
		return;

	ask->some = true;
	ask->got += before - min(after, before);
	/* What was pinned before nobody used it may have been added meanwhile. */
	nr_pages = rev->nr_pages;
	rev->nr_pages = 0;
	atomic_long_sub(nr_pages, &pins->revocable);
	if (trace_pins_revoke_enabled())
		trace_pins_revoke(pins_cgroup_ino(pins_cgroup_id(pins)), nr_pages);
	pins_cgroup_count(pins, PINS_REVOKED, nr_pages);
	pins_cgroup_event(pins, PINS_EVENT_REVOKED);
}

/* Is it the turn of that one? */
static bool ask_wants(struct pins_ask *ask, struct pins_revocable *rev)
{
	unsigned long used;

	if (!rev->nr_pages)
		return false;
	if (ask->end_pfn)
		return rev->start_pfn < ask->end_pfn && rev->end_pfn > ask->start_pfn;
	if (rev->asked - ask->search >= 0) {
		/* What a later search has asked in vain may be free a moment later. */
		ask->busy |= rev->asked != ask->search;
		return false;
	}
	used = rev->ops->used(rev);
	if (time_after(used, ask->start)) {
		ask->busy = true;
		return false;
	}
	if (time_after(used, ask->until)) {
		if (!ask->left || time_before(used, ask->oldest))
			ask->oldest = used;
		ask->left = true;
		return false;
	}
	rev->asked = ask->search;
	return true;
}

static bool ask_is_done(const struct pins_ask *ask)
{
	if (ask->end_pfn ? time_after(jiffies, ask->start + ask->patience) :
			   ask->got >= ask->nr_pages)
		return true;
	/* Not for work of io_uring, whose rings may be its own */
	return ask->interruptible ? task_sigpending(ask->task) :
				    fatal_signal_pending(ask->task);
}

/* Ask for pins of one cgroup. */
static void ask_cgroup(struct pins_ask *ask, struct pins_cgroup *pins)
{
	struct pins_revocable *rev;

	if (!mutex_trylock(&pins->revocables_lock)) {
		ask->busy = true;
		return;
	}
	list_for_each_entry(rev, &pins->revocables, list) {
		if (ask_is_done(ask))
			break;
		if (!ask_wants(ask, rev))
			continue;
		if (rev->ops->trylock(rev, ask->task)) {
			ask_revocable(ask, rev);
			rev->ops->unlock(rev, ask->task);
		} else {
			ask->busy = true;
		}
	}
	mutex_unlock(&pins->revocables_lock);
}

/*
 * The next cgroup below @root, itself included, whose pins may be taken back. It is kept,
 * and @pos no longer; so the caller may sleep in between.
 */
static struct cgroup_subsys_state *next_giving_way(struct cgroup_subsys_state *pos,
						   struct cgroup_subsys_state *root)
{
	struct cgroup_subsys_state *next = pos;

	rcu_read_lock();
	do {
		next = css_next_descendant_pre(next, root);
	} while (next && (!pins_cgroup_gives_way(css_pins(next)) || !css_tryget(next)));
	rcu_read_unlock();
	if (pos)
		css_put(pos);
	return next;
}

/*
 * What was not used for longest is not looked for one by one, which would take a walk
 * for each. All go together that were used in the first eighth of the time since then.
 */
static void ask_work(struct work_struct *work)
{
	struct pins_ask *ask = container_of(work, struct pins_ask, work);
	struct cgroup_subsys_state *css;

	ask->start = jiffies;
	if (ask->end_pfn) {
		ask_cgroup(ask, ask->pins);
		return;
	}
	do {
		ask->left = false;
		css = NULL;
		while ((css = next_giving_way(css, &ask->pins->css)))
			ask_cgroup(ask, css_pins(css));
		ask->until = ask->oldest + (jiffies - ask->oldest) / 8;
	} while (ask->left && !ask_is_done(ask));
}

/* Search, and wait for that. The worker looks for signals of who waits. */
static void ask_and_wait(struct pins_ask *ask)
{
	INIT_WORK_ONSTACK(&ask->work, ask_work);
	queue_work(pins_revoke_wq, &ask->work);
	flush_work(&ask->work);
	destroy_work_on_stack(&ask->work);
}

/**
 * pins_revoke_range() - take back the pins of a cgroup in a range
 * @pins: the cgroup
 * @start_pfn: its first page
 * @end_pfn: behind its last page
 * @yield: if they are in use, they are not to be used anew
 * @patience: when to give up, in jiffies from when it begins
 *
 * Context: process context, sleeps; the caller may hold any lock.
 * Return: 1 if some were; 0 if none lie there that can be; -EBUSY if they are in use, or
 * locked, and it makes sense to ask again.
 */
int pins_revoke_range(struct pins_cgroup *pins, unsigned long start_pfn,
		      unsigned long end_pfn, bool yield, unsigned long patience)
{
	struct pins_ask ask = {
		.pins = pins, .task = current,
		.start_pfn = start_pfn, .end_pfn = end_pfn, .yield = yield,
		.patience = patience,
	};

	/* Isolation asks once in a millisecond: not in vain */
	if (!atomic_long_read(&pins->revocable))
		return 0;
	ask_and_wait(&ask);
	return ask.some ? 1 : ask.busy ? -EBUSY : 0;
}

/*
 * Take back so many pages of a cgroup and those below it, or what there is. Return how
 * many.
 */
static unsigned long revoke_pages(struct pins_cgroup *root, unsigned long nr_pages,
				  bool interruptible, bool *busy)
{
	struct pins_ask ask = {
		.pins = root, .task = current,
		.nr_pages = nr_pages, .interruptible = interruptible,
		.search = atomic_long_inc_return(&revoke_searches),
		/* Nothing is that old: the first walk finds out. */
		.until = jiffies - MAX_JIFFY_OFFSET,
	};

	ask_and_wait(&ask);
	*busy = ask.busy;
	return ask.got;
}

/**
 * pins_cgroup_revocable() - how much could be taken back
 * @pins: of this cgroup and those below it
 *
 * Context: process context.
 * Return: about how many pages, if none of them is in use.
 */
unsigned long pins_cgroup_revocable(struct pins_cgroup *pins)
{
	struct cgroup_subsys_state *css;
	long nr = 0;

	rcu_read_lock();
	css_for_each_descendant_pre(css, &pins->css)
		if (pins_cgroup_gives_way(css_pins(css)))
			nr += atomic_long_read(&css_pins(css)->revocable);
	rcu_read_unlock();
	/* What is pinned by two buffers is in both. */
	return min_t(unsigned long, max(nr, 0L), page_counter_read(&pins->counter));
}

/**
 * pins_cgroup_least_max() - what no request of a cgroup can exceed
 * @pins: the cgroup
 *
 * Return: the lowest limit of it and its ancestors, in pages.
 */
unsigned long pins_cgroup_least_max(struct pins_cgroup *pins)
{
	unsigned long max = ULONG_MAX;

	for (; pins; pins = limited_parent(pins))
		max = min(max, READ_ONCE(pins->counter.max));
	return max;
}

/**
 * pins_revoke_for() - make room for a request that would be refused
 * @charge: the request
 *
 * Only if that may be enough, and no more than it needs. What it needs may only turn out
 * while it is charged; so whoever comes again gets twice as much.
 *
 * Context: process context, sleeps some jiffies at most; the caller may hold any lock.
 * Return: whether there is room for it now, so that it makes sense to try once more.
 */
bool pins_revoke_for(struct pins_charge *charge)
{
	unsigned int tries = 0;
	unsigned long room;

	if (!pins_may_revoke())
		return false;
	for (;;) {
		unsigned long want, got;
		bool busy = false;

		room = pins_cgroup_room(charge, NULL);
		if (room >= charge->needed)
			return true;
		want = charge->needed - room;
		if (max(charge->needed, charge->worst) >
		    pins_cgroup_least_max(charge->pins) ||
		    want > pins_cgroup_revocable(charge->limit))
			return false;
		got = revoke_pages(charge->limit, max(want, charge->revoked), false,
				   &busy);
		charge->revoked += got;
		if (fatal_signal_pending(current) || ++tries > PINS_REVOKE_TRIES)
			return false;
		/* Somebody may have the lock of a ring, or uses the buffer just now. */
		if (!got && !busy)
			return false;
		if (!got)
			schedule_timeout_killable(1);
	}
}

/**
 * pins_cgroup_reclaim() - take back pins
 * @pins: of this cgroup and those below it
 * @nr_pages: how many pages
 *
 * Context: process context, sleeps.
 * Return: 0, -EAGAIN if there were less, -EINTR for a signal.
 */
int pins_cgroup_reclaim(struct pins_cgroup *pins, unsigned long nr_pages)
{
	unsigned long most = min(nr_pages, page_counter_read(&pins->counter)), nr = 0, got;
	unsigned int tries, in_vain = 0;

	for (tries = 0; tries < PINS_RECLAIM_TRIES && nr < most; tries++) {
		bool busy = false;

		got = revoke_pages(pins, most - nr, true, &busy);
		nr += got;
		if (nr < most && task_sigpending(current))
			return -EINTR;
		if (got)
			continue;
		if (!busy || ++in_vain > PINS_REVOKE_TRIES)
			break;
		schedule_timeout_killable(1);
	}
	return nr < nr_pages ? -EAGAIN : 0;
}

static int __init pins_revoke_wq_init(void)
{
	/* Who asks may hold what a new worker needs, such as memory. */
	pins_revoke_wq = alloc_workqueue("pins_revoke", WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	if (!pins_revoke_wq)
		panic("pins: no workqueue\n");
	return 0;
}
core_initcall(pins_revoke_wq_init);
