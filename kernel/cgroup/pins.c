// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pinned memory controller for cgroups.
 *
 * I/O devices need memory that stays put: io_uring registered buffers, RDMA,
 * VFIO, AF_XDP and udmabuf pin it with FOLL_LONGTERM. Such memory cannot be
 * migrated, so that CMA, memory unplug and huge pages go without, for everyone.
 * This controller says how much of it a cgroup may hold, and how much it does.
 *
 * What a user can rely on:
 *
 * - Only long-term pins are charged. Direct I/O, which pins for microseconds,
 *   is not; nor is mlock(), whose pages can still be migrated.
 *
 * - The cgroup pays whose task pins its own memory. Memory of another process,
 *   or pinned by a kernel thread, is paid for by the owner of that memory's mm;
 *   when that has no process left, by whoever pins it. The root cgroup is not
 *   charged.
 *
 * - A folio counts whole, because all of it is stuck, and once per cgroup,
 *   however often that cgroup pins it.
 *
 * - A request that would exceed pins.max, here or in an ancestor, is refused
 *   with -ENOMEM and takes nothing. A request that fits is never refused on
 *   account of one that does not, and pinning again what the cgroup has pinned
 *   already is never refused. Nobody waits for another request, unless that holds
 *   what would otherwise be his.
 *
 * - pins.max may be set below pins.current: what is idle and may be taken back is, see
 *   pins-revoke.c, and nothing new is let in until usage has fallen.
 *
 * - A charge stays where it was made until the pins are gone, whichever process
 *   releases them, wherever the task has moved, and also when the cgroup has
 *   been removed: it then lives on, hidden, in its parent's count.
 *
 * Usage is kept in a page_counter. page_counter_try_charge() is not used: it
 * adds first and takes back later, so that a request which fails can refuse
 * another which fits. See pins_cgroup_try_charge(). Nor are its watermarks, which
 * would show what requests had before they were refused.
 *
 * Copyright (C) 2026 the pins authors
 */

#include <linux/kernel.h>
#include <linux/limits.h>
#include <linux/memcontrol.h>
#include <linux/pins.h>
#include <linux/ratelimit.h>
#include <linux/sched/mm.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/string_helpers.h>

#include "pins-internal.h"

DEFINE_STATIC_KEY_FALSE(pins_key);

static struct cgroup_subsys_state *
pins_css_alloc(struct cgroup_subsys_state *parent_css)
{
	struct pins_cgroup *pins, *parent = NULL;

	/* Who makes a cgroup pays for it. */
	pins = kzalloc(sizeof(*pins), GFP_KERNEL_ACCOUNT);
	if (!pins)
		return ERR_PTR(-ENOMEM);
	pins->stat_cpu = alloc_percpu_gfp(struct pins_stat_cpu, GFP_KERNEL_ACCOUNT);
	if (!pins->stat_cpu) {
		kfree(pins);
		return ERR_PTR(-ENOMEM);
	}

	if (parent_css && parent_css->parent)
		parent = css_pins(parent_css);
	page_counter_init(&pins->counter, parent ? &parent->counter : NULL, false);
	pins->top = parent ? parent->top : pins;
	raw_spin_lock_init(&pins->charge_lock);
	mutex_init(&pins->claim_lock);
	init_waitqueue_head(&pins->settled_wait);
	spin_lock_init(&pins->peaks_lock);
	INIT_LIST_HEAD(&pins->peaks);
	u64_stats_init(&pins->stat_sync);
#ifdef CONFIG_CGROUP_PINS_WAIT
	pins_policy_init(pins);
#endif
#ifdef CONFIG_PINS_REVOKE
	pins_revoke_init(pins);
#endif

	/* Before a task can be in it: from now on pins are recorded. */
	if (parent_css)
		static_branch_inc(&pins_key);
	return &pins->css;
}

static int pins_css_online(struct cgroup_subsys_state *css)
{
	/* More cgroups than a record can name */
	return css->id >> PINS_CGROUP_ID_BITS ? -ENOSPC : 0;
}

static void pins_css_free(struct cgroup_subsys_state *css)
{
	struct pins_cgroup *pins = css_pins(css);

	if (css->parent)
		static_branch_dec(&pins_key);
#if defined(CONFIG_PINS_STEER) || defined(CONFIG_PINS_REVOKE)
	pins_policy_free(pins);
#endif
	free_percpu(pins->stat_cpu);
	kfree(pins);
}

/**
 * get_pins_cgroup_from_current() - the cgroup that pays for the current task
 *
 * Context: process context.
 * Return: the cgroup, to be released with put_pins_cgroup(), or NULL for the
 * root cgroup, which is not charged.
 */
struct pins_cgroup *get_pins_cgroup_from_current(void)
{
	struct cgroup_subsys_state *css = task_get_css(current, pins_cgrp_id);

	/* css_put() is a no-op on the root css. */
	return css->parent ? css_pins(css) : NULL;
}

/**
 * get_pins_cgroup_from_mm() - the cgroup that pays for pins of an mm's memory
 * @mm: the address space that is pinned, NULL for memory that has none
 *
 * A task pays for its own memory, and for what has no address space. What it pins of
 * another mm, or what a kernel thread pins, is paid for by the owner of that mm. A task
 * may pin on behalf of a cgroup that pays instead, see %PINS_PAYS.
 *
 * Context: process context; the caller keeps @mm alive.
 * Return: the cgroup, to be released with put_pins_cgroup(), or NULL if it is
 * the root cgroup.
 */
struct pins_cgroup *get_pins_cgroup_from_mm(struct mm_struct *mm)
{
	struct cgroup_subsys_state *css = NULL;
	struct task_struct *owner;

	/* What was taken back is pinned again for whom it was pinned before. */
	if (unlikely(current->active_pins & PINS_PAYS) &&
	    current->active_pins != PINS_NOBODY)
		return get_pins_cgroup_from_id(current->active_pins & ~PINS_PAYS);
	if ((mm == current->mm && !(current->flags & PF_KTHREAD)) || !mm)
		return get_pins_cgroup_from_current();

	rcu_read_lock();
	do {
		owner = rcu_dereference(mm->owner);
		if (unlikely(!owner))
			break;
		css = task_css(owner, pins_cgrp_id);
		if (!css->parent)
			css = NULL;
		/* The owner may be moving out of a cgroup that goes away. */
	} while (css && !css_tryget(css));
	rcu_read_unlock();

	/* All its processes are gone, somebody keeps it: who pins it pays. */
	if (unlikely(!owner))
		return get_pins_cgroup_from_current();
	return css ? css_pins(css) : NULL;
}

/**
 * get_pins_cgroup_from_id() - the cgroup that a record is about, to keep it
 * @id: the number in the record
 *
 * Context: any but NMI; the record cannot go meanwhile.
 * Return: the cgroup, to be released with put_pins_cgroup().
 */
struct pins_cgroup *get_pins_cgroup_from_id(u32 id)
{
	struct pins_cgroup *pins;

	rcu_read_lock();
	pins = pins_cgroup_from_id(id);
	if (pins)
		css_get(&pins->css);
	rcu_read_unlock();
	return pins;
}

/**
 * put_pins_cgroup() - release what get_pins_cgroup_from_*() returned
 * @pins: the cgroup
 *
 * Context: any but NMI.
 */
void put_pins_cgroup(struct pins_cgroup *pins)
{
	css_put(&pins->css);
}

/**
 * pins_cgroup_id() - the number that stands for a cgroup in a record
 * @pins: the cgroup
 *
 * It stays this cgroup's while a charge of it is held.
 *
 * Return: the css id, above 0.
 */
u32 pins_cgroup_id(struct pins_cgroup *pins)
{
	return pins->css.id;
}

/**
 * pins_cgroup_ino() - the cgroup id that user space knows, for tracing
 * @id: the number in a record, whose charge is still held
 *
 * Return: the inode number of the cgroup's directory.
 */
u64 pins_cgroup_ino(u32 id)
{
	struct cgroup_subsys_state *css;
	u64 ino;

	rcu_read_lock();
	css = css_from_id(id, &pins_cgrp_subsys);
	ino = css ? cgroup_id(css->cgroup) : 0;
	rcu_read_unlock();
	return ino;
}

/**
 * pins_cgroup_path() - where a cgroup is, or was
 * @pins: the cgroup
 * @buf: for its path below the root cgroup; cut off if it is longer
 * @len: the size of @buf
 *
 * Context: any but NMI.
 * Return: the length of the path, or -E2BIG if it was cut off.
 */
int pins_cgroup_path(struct pins_cgroup *pins, char *buf, size_t len)
{
	return cgroup_path(pins->css.cgroup, buf, len);
}

/**
 * pins_cgroup_foreign() - is memory of this memory cgroup foreign to a pinner?
 * @pins: the cgroup that pins
 * @memcg: the memory cgroup that the memory is charged to
 *
 * It is when @memcg lies outside the subtree of the memory cgroup that the
 * pinner's own memory is charged to.
 *
 * Context: RCU read side.
 */
bool pins_cgroup_foreign(struct pins_cgroup *pins, struct mem_cgroup *memcg)
{
	struct cgroup_subsys_state *own;

	own = cgroup_e_css(pins->css.cgroup, &memory_cgrp_subsys);
	return !cgroup_is_descendant(memcg->css.cgroup, own->cgroup);
}

/* What a cgroup has pinned for sure. */
static unsigned long settled_usage(struct pins_cgroup *pins)
{
	long usage;

	lockdep_assert_held(&pins->top->charge_lock);
	/* What is unsettled may have been unpinned already. */
	usage = page_counter_read(&pins->counter) - pins->unsettled;
	return max(usage, 0);
}

/**
 * pins_cgroup_try_charge() - charge pages of a request if all limits allow it
 * @charge: the request; says why, if not
 * @nr_pages: how many pages
 *
 * The limits are checked before anything is charged, under a lock that all
 * chargers below the same top cgroup share, so that no counter ever exceeds its
 * limit on account of a request, not even for a moment. Uncharging takes no lock:
 * it can only make a check succeed that would have failed.
 *
 * A request is charged piece by piece, and is settled when all of it is. If there is
 * no room because of others that are not settled, the refusal is not final: once the
 * caller has taken everything back, pins_cgroup_claim() waits for them.
 *
 * Each charged page keeps the cgroup alive, removed or not.
 *
 * Context: any but NMI, interrupts disabled: pages are charged in one step with what
 * is recorded of them.
 * Return: whether they were charged. Then pins_cgroup_settle() has to follow.
 */
bool pins_cgroup_try_charge(struct pins_charge *charge, unsigned long nr_pages)
{
	struct pins_cgroup *pins = charge->pins, *top = pins->top, *p;
	unsigned long claim;

	raw_spin_lock(&top->charge_lock);
	for (p = pins; p; p = limited_parent(p)) {
		unsigned long usage = page_counter_read(&p->counter);

		if (usage + p->claimed - charge->claim + nr_pages > p->counter.max) {
			charge->limit = p;
			charge->needed = charge->charged + nr_pages;
			charge->final = settled_usage(p) + charge->needed > p->counter.max;
			raw_spin_unlock(&top->charge_lock);
			return false;
		}
	}
	page_counter_charge(&pins->counter, nr_pages);
	claim = min(charge->claim, nr_pages);
	for (p = pins; p; p = limited_parent(p)) {
		p->unsettled += nr_pages;
		p->claimed -= claim;
	}
	charge->charged += nr_pages;
	charge->claim -= claim;
	raw_spin_unlock(&top->charge_lock);

	css_get_many(&pins->css, nr_pages);
	return true;
}

/**
 * pins_cgroup_take_back() - uncharge pages of a request that is refused
 * @charge: the request
 * @nr_pages: how many pages
 *
 * Context: any but NMI, interrupts disabled. The pages still hold the cgroup, as
 * after pins_cgroup_uncharge().
 */
void pins_cgroup_take_back(struct pins_charge *charge, unsigned long nr_pages)
{
	struct pins_cgroup *pins = charge->pins, *top = pins->top, *p;
	/* It may have got hold of pages that were charged for an earlier one. */
	unsigned long nr = min(nr_pages, charge->charged);

	raw_spin_lock(&top->charge_lock);
	page_counter_uncharge(&pins->counter, nr_pages);
	for (p = pins; p; p = limited_parent(p))
		p->unsettled -= nr;
	charge->charged -= nr;
	raw_spin_unlock(&top->charge_lock);
}

/* What a request still has charged belongs to others of its cgroup, or to nobody. */
static void end_charge(struct pins_charge *charge)
{
	struct pins_cgroup *p;

	lockdep_assert_held(&charge->pins->top->charge_lock);
	for (p = charge->pins; p; p = limited_parent(p)) {
		unsigned long usage;

		p->unsettled -= charge->charged;
		if (charge->claims)
			p->claimed = 0;
		usage = settled_usage(p);
		if (usage > p->local_watermark) {
			p->local_watermark = usage;
			p->watermark = max(p->watermark, usage);
		}
	}
	charge->charged = 0;
	charge->claim = 0;
	charge->pins->settled++;
}

/* Who waits looks again: a request has been charged, or has taken everything back. */
static void wake_claim(struct pins_cgroup *top)
{
	if (wq_has_sleeper(&top->settled_wait))
		wake_up(&top->settled_wait);
}

/*
 * Are the requests gone because of which one was refused, or is there room beside them?
 * As long as there is not, no other is charged.
 */
static bool claim_may_go(struct pins_charge *charge)
{
	struct pins_cgroup *p = charge->limit;
	bool ret;

	raw_spin_lock_irq(&p->top->charge_lock);
	ret = !p->unsettled ||
	      page_counter_read(&p->counter) + charge->claim <= p->counter.max;
	raw_spin_unlock_irq(&p->top->charge_lock);
	return ret;
}

/**
 * pins_cgroup_claim() - wait for the requests because of which one was refused
 * @charge: the request, which has taken everything back
 *
 * From now on as much as it needed so far is kept free for it, and as much again, so
 * that others cannot come in between for ever. Those who need it are refused, not for
 * good, and come here as well: one at a time.
 *
 * Context: process context, sleeps until other requests have been charged, or
 * refused.
 * Return: 0 to try again, or -EINTR for a task that is being killed.
 */
int pins_cgroup_claim(struct pins_charge *charge)
{
	struct pins_cgroup *top = charge->pins->top, *p;

	/* It is not in the way of the one that claims now. */
	raw_spin_lock_irq(&top->charge_lock);
	end_charge(charge);
	raw_spin_unlock_irq(&top->charge_lock);
	wake_claim(top);

	if (!charge->claims) {
		if (mutex_lock_killable(&top->claim_lock))
			return -EINTR;
		charge->claims = true;
	}
	raw_spin_lock_irq(&top->charge_lock);
	/* The same in all of them: what is kept free for it must not be in its own way. */
	charge->claim = 2 * charge->needed;
	for (p = charge->pins; p; p = limited_parent(p))
		charge->claim = min(charge->claim, p->counter.max);
	for (p = charge->pins; p; p = limited_parent(p))
		p->claimed = charge->claim;
	raw_spin_unlock_irq(&top->charge_lock);

	return wait_event_killable(top->settled_wait, claim_may_go(charge)) ? -EINTR : 0;
}

/**
 * pins_cgroup_settle() - a request has been charged, or has taken everything back
 * @charge: the request, which may be charged anew
 *
 * Only now does it show in pins.current and pins.peak.
 *
 * Context: process context.
 */
void pins_cgroup_settle(struct pins_charge *charge)
{
	struct pins_cgroup *top = charge->pins->top;

	raw_spin_lock_irq(&top->charge_lock);
	end_charge(charge);
	raw_spin_unlock_irq(&top->charge_lock);

	if (charge->claims)
		mutex_unlock(&top->claim_lock);
	charge->claims = false;
	wake_claim(top);
}

/**
 * pins_cgroup_room() - how much a request could be charged
 * @charge: the request; its @limit is set to the cgroup that allows least
 * @settled: how many requests of its cgroup have been settled, or NULL
 *
 * Other requests that are not settled are not taken into account: who needs more
 * than that will be refused.
 *
 * Context: process context.
 * Return: the number of pages.
 */
unsigned long pins_cgroup_room(struct pins_charge *charge, unsigned long *settled)
{
	struct pins_cgroup *top = charge->pins->top, *p;
	unsigned long room = ULONG_MAX;

	raw_spin_lock_irq(&top->charge_lock);
	for (p = charge->pins; p; p = limited_parent(p)) {
		unsigned long max = p->counter.max;
		unsigned long left = max - min(max, settled_usage(p));

		if (left < room) {
			room = left;
			charge->limit = p;
		}
	}
	if (settled)
		*settled = charge->pins->settled;
	raw_spin_unlock_irq(&top->charge_lock);
	return room;
}

/**
 * pins_cgroup_pinned() - how much a cgroup has pinned, at most
 * @pins: the cgroup
 *
 * Return: the number of pages, those of descendants included.
 */
unsigned long pins_cgroup_pinned(struct pins_cgroup *pins)
{
	return page_counter_read(&pins->counter);
}

/**
 * pins_release_begin() - pins are going to be released by somebody else, soon
 * @id: whose they are, as from pins_current_id()
 *
 * A request of that cgroup that does not fit waits until they are, for a while.
 *
 * Context: process context.
 * Return: to be handed to pins_release_end().
 */
struct pins_cgroup *pins_release_begin(u32 id)
{
	struct pins_cgroup *pins;

	if (!static_branch_unlikely(&pins_key))
		return NULL;
	rcu_read_lock();
	pins = pins_cgroup_from_id(id);
	if (pins && (!pins->css.parent || !css_tryget(&pins->css)))
		pins = NULL;
	rcu_read_unlock();
	if (pins)
		atomic_inc(&pins->releasing);
	return pins;
}

/**
 * pins_release_end() - they have been released
 * @pins: what pins_release_begin() returned
 *
 * Context: process context.
 */
void pins_release_end(struct pins_cgroup *pins)
{
	if (!pins)
		return;
	/* What has been uncharged is seen by those who see this. */
	atomic_dec_return_release(&pins->releasing);
	put_pins_cgroup(pins);
}

/**
 * pins_cgroup_releasing() - are pins of a cgroup just being released?
 * @pins: the cgroup
 */
bool pins_cgroup_releasing(struct pins_cgroup *pins)
{
	return atomic_read_acquire(&pins->releasing);
}

/**
 * pins_cgroup_event() - something has happened to a cgroup
 * @pins: the cgroup
 * @event: what
 *
 * Context: process context.
 * Return: how often that has happened to it.
 */
s64 pins_cgroup_event(struct pins_cgroup *pins, enum pins_event event)
{
	s64 nr = atomic64_inc_return(&pins->events_local[event]);

	cgroup_file_notify(&pins->events_local_file);
	for (; pins; pins = limited_parent(pins)) {
		atomic64_inc(&pins->events[event]);
		cgroup_file_notify(&pins->events_file);
	}
	return nr;
}

/* Tenants choose the names. */
static char *quoted_path(struct pins_cgroup *pins)
{
	char *path = kmalloc(PATH_MAX, GFP_KERNEL), *quoted = NULL;

	if (path && cgroup_path(pins->css.cgroup, path, PATH_MAX) > 0)
		quoted = kstrdup_quotable(path, GFP_KERNEL);
	kfree(path);
	return quoted;
}

/* Many a program does not tell its user what errno it got, see pids.c. */
static void log_refusal(struct pins_charge *charge)
{
	static DEFINE_RATELIMIT_STATE(ratelimit, DEFAULT_RATELIMIT_INTERVAL,
				      DEFAULT_RATELIMIT_BURST);
	char *own, *limit;

	if (!__ratelimit(&ratelimit))
		return;
	own = quoted_path(charge->pins);
	limit = quoted_path(charge->limit);
	pr_info("pins: refused %s[%d] in \"%s\" to pin %llu kB more: pins.max of \"%s\" is %llu kB\n",
		current->comm, task_pid_nr(current), own ?: "?",
		(u64)charge->needed * PAGE_SIZE / SZ_1K, limit ?: "?",
		(u64)READ_ONCE(charge->limit->counter.max) * PAGE_SIZE / SZ_1K);
	kfree(own);
	kfree(limit);
}

/**
 * pins_cgroup_refused() - a request is refused for good
 * @charge: the request
 *
 * Context: process context, sleeps.
 */
void pins_cgroup_refused(struct pins_charge *charge)
{
	pins_cgroup_event(charge->limit, PINS_EVENT_MAX);
	if (pins_cgroup_event(charge->pins, PINS_EVENT_REFUSED) == 1)
		log_refusal(charge);
}

/**
 * pins_cgroup_account() - account for the pins of a request
 * @pins: the cgroup
 * @delta: what they change in the statistics
 *
 * Context: any but NMI.
 */
void pins_cgroup_account(struct pins_cgroup *pins, const struct pins_delta *delta)
{
	int cpu = get_cpu(); /* the counters and the list belong to one CPU */
	int i;

	for (i = 0; i < NR_PINS_DELTAS; i++)
		if (delta->stat[i])
			this_cpu_add(pins->stat_cpu->now[i], delta->stat[i]);
	css_rstat_updated(&pins->css, cpu);
	put_cpu();
}

/**
 * pins_cgroup_from_id() - the cgroup that a record is about
 * @id: the number in the record
 *
 * It stays while one of its pages is charged. Else it may be gone, but no other
 * takes its number as long as the RCU section lasts in which the record was seen.
 *
 * Context: RCU read side.
 * Return: the cgroup, or NULL if it is gone.
 */
struct pins_cgroup *pins_cgroup_from_id(u32 id)
{
	struct cgroup_subsys_state *css = css_from_id(id, &pins_cgrp_subsys);

	return css ? css_pins(css) : NULL;
}

/**
 * pins_cgroup_uncharge() - uncharge pages
 * @pins: the cgroup that was charged
 * @nr_pages: how many pages
 *
 * Context: any but NMI. The pages still hold the cgroup, until they are handed
 * to pins_cgroup_release().
 */
void pins_cgroup_uncharge(struct pins_cgroup *pins, unsigned long nr_pages)
{
	page_counter_uncharge(&pins->counter, nr_pages);
}

/**
 * pins_cgroup_release() - account for pins that are gone, and let go of the cgroup
 * @pins: the cgroup
 * @type: what sort of memory it was
 * @foreign: whether it was foreign
 * @movable: whether it was in movable pageblocks
 * @file_write: whether it was of a file, to be written
 * @nr_pages: how many pages of it were uncharged
 * @unpins: how many pins there were
 *
 * Context: any but NMI, RCU read side. @pins may be gone after that.
 */
void pins_cgroup_release(struct pins_cgroup *pins, enum pins_stat_item type,
			 bool foreign, bool movable, bool file_write,
			 unsigned long nr_pages, unsigned long unpins)
{
	int cpu = get_cpu(); /* as in pins_cgroup_account() */

	this_cpu_sub(pins->stat_cpu->now[type], nr_pages);
	if (foreign)
		this_cpu_sub(pins->stat_cpu->now[PINS_FOREIGN], nr_pages);
	if (movable)
		this_cpu_sub(pins->stat_cpu->now[PINS_MOVABLE_BLOCK], nr_pages);
	if (file_write)
		this_cpu_sub(pins->stat_cpu->now[PINS_FILE_WRITE], nr_pages);
	this_cpu_add(pins->stat_cpu->now[PINS_UNPINS], unpins);
	css_rstat_updated(&pins->css, cpu);
	put_cpu();

	if (nr_pages)
		css_put_many(&pins->css, nr_pages);
}

/**
 * pins_cgroup_count() - add to a line of pins.stat
 * @pins: the cgroup
 * @item: the line
 * @n: how much, in its unit
 *
 * Context: any but NMI.
 */
void pins_cgroup_count(struct pins_cgroup *pins, enum pins_stat_item item, long n)
{
	int cpu = get_cpu(); /* as in pins_cgroup_account() */

	this_cpu_add(pins->stat_cpu->now[item], n);
	css_rstat_updated(&pins->css, cpu);
	put_cpu();
}

/**
 * pins_cgroup_from_memcg() - the cgroup that memory belongs to
 * @memcg: the memory cgroup that it is charged to
 *
 * If the controller is not enabled there, it is the nearest ancestor where it is.
 *
 * Context: any, RCU read side.
 * Return: the cgroup, which stays during this RCU section, or NULL for the root cgroup.
 */
struct pins_cgroup *pins_cgroup_from_memcg(struct mem_cgroup *memcg)
{
	struct cgroup_subsys_state *css;

	css = cgroup_e_css(memcg->css.cgroup, &pins_cgrp_subsys);
	return css->parent ? css_pins(css) : NULL;
}

/**
 * pins_cgroup_blocked() - memory that had to move could not, on account of pins
 * @pins: the cgroup that holds them
 * @item: %PINS_BLOCKED_CONTIG or %PINS_BLOCKED_OFFLINE
 *
 * Context: process context.
 */
void pins_cgroup_blocked(struct pins_cgroup *pins, enum pins_stat_item item)
{
	pins_cgroup_count(pins, item, 1);
	pins_cgroup_event(pins, PINS_EVENT_BLOCKED);
}

/**
 * pins_current_id() - the number of the current task's cgroup
 *
 * Context: process context.
 */
u32 pins_current_id(void)
{
	u32 id;

	rcu_read_lock();
	id = task_css(current, pins_cgrp_id)->id;
	rcu_read_unlock();
	return id;
}

/**
 * set_active_pins() - say on whose behalf the current task pins and unpins
 * @id: number of the cgroup, 0 for the task's own, or %PINS_NOBODY; or with %PINS_PAYS
 *	added, of one that the caller keeps
 *
 * For code like io_uring's ring exit, a worker that frees what others pinned.
 * It only matters for folios that several cgroups have pinned.
 *
 * Context: process context.
 * Return: what was set before, to be restored.
 */
u32 set_active_pins(u32 id)
{
	u32 old = current->active_pins;

	current->active_pins = id;
	return old;
}

/**
 * pins_attribution() - whose pins are probably being released right now
 *
 * Context: any.
 * Return: the number of a cgroup, or 0 if there is no telling.
 */
u32 pins_attribution(void)
{
	/* An interrupt says nothing about the task that it interrupted. */
	if (!in_task())
		return 0;
	return (current->active_pins & ~PINS_PAYS) ?: pins_current_id();
}

static void pins_css_rstat_flush(struct cgroup_subsys_state *css, int cpu)
{
	struct pins_cgroup *pins = css_pins(css);
	struct pins_cgroup *parent = limited_parent(pins);
	struct pins_stat_cpu *stat_cpu = per_cpu_ptr(pins->stat_cpu, cpu);
	int i;

	u64_stats_update_begin(&pins->stat_sync);
	for (i = 0; i < NR_PINS_STATS; i++) {
		long now = READ_ONCE(stat_cpu->now[i]);
		s64 delta = pins->stat_pending[i] + (now - stat_cpu->folded[i]);

		stat_cpu->folded[i] = now;
		pins->stat_pending[i] = 0;
		WRITE_ONCE(pins->stat[i], pins->stat[i] + delta);
		if (parent)
			parent->stat_pending[i] += delta;
	}
	u64_stats_update_end(&pins->stat_sync);
}

static const char * const stat_names[NR_PINS_STATS] = {
	[PINS_ANON]	= "anon",
	[PINS_FILE]	= "file",
	[PINS_SHMEM]	= "shmem",
	[PINS_HUGETLB]	= "hugetlb",
	[PINS_DEVICE]	= "device",
	[PINS_FOREIGN]	= "foreign",
	[PINS_MOVABLE_BLOCK] = "movable_block",
	[PINS_FILE_WRITE] = "file_write",
	[PINS_PINS]	= "pins",
	[PINS_UNPINS]	= "unpins",
	[PINS_STEERED_ZONE] = "steered_zone",
	[PINS_STEERED_BLOCK] = "steered_block",
	[PINS_STEER_FAILED] = "steer_failed",
	[PINS_WAIT]	= "wait",
	[PINS_WAIT_USEC] = "wait_usec",
	[PINS_WAIT_TIMEOUT] = "wait_timeout",
	[PINS_BLOCKED_CONTIG] = "blocked_contig",
	[PINS_BLOCKED_OFFLINE] = "blocked_offline",
	[PINS_BLOCKED_COMPACT] = "blocked_compact",
	[PINS_REVOKED]	= "revoked",
	[PINS_REPINNED]	= "repinned",
	[PINS_REPIN_USEC] = "repin_usec",
	[PINS_FILE_REFUSED] = "file_refused",
	[PINS_WRITEBACK_PINNED] = "writeback_pinned",
	[PINS_MOVED_COMPACT] = "moved_compact",
	[PINS_MOVED_NUMA] = "moved_numa",
	[PINS_MOVED_CONTIG] = "moved_contig",
	[PINS_MOVED_OFFLINE] = "moved_offline",
	[PINS_MOVED_DEMOTE] = "moved_demote",
	[PINS_MOVED_COLLAPSE] = "moved_collapse",
	[PINS_MOVED_KSM] = "moved_ksm",
	[PINS_MOVED_STEER] = "moved_steer",
	[PINS_MOVED_OTHER] = "moved_other",
	[PINS_MOVED_USEC] = "moved_usec",
	[PINS_HELD_OFF]	= "held_off",
};

/**
 * pins_stat_name() - what a line of pins.stat is called
 * @item: the line
 */
const char *pins_stat_name(enum pins_stat_item item)
{
	return stat_names[item];
}

static int pins_stat_show(struct seq_file *sf, void *v)
{
	struct pins_cgroup *pins = css_pins(seq_css(sf));
	s64 stat[NR_PINS_STATS];
	unsigned int start;
	int i;

	css_rstat_flush(&pins->css);
	do {
		start = u64_stats_fetch_begin(&pins->stat_sync);
		for (i = 0; i < NR_PINS_STATS; i++)
			stat[i] = READ_ONCE(pins->stat[i]);
	} while (u64_stats_fetch_retry(&pins->stat_sync, start));

	for (i = 0; i < NR_PINS_STATS; i++) {
		/* CPUs are folded one after the other: a sum may dip below 0. */
		u64 val = max_t(s64, stat[i], 0);

		if (i < PINS_PINS)
			val *= PAGE_SIZE;
		seq_printf(sf, "%s %llu\n", stat_names[i], val);
#ifdef CONFIG_PINS_REVOKE
		if (i == PINS_MOVABLE_BLOCK)
			seq_printf(sf, "revocable %llu\n",
				   (u64)pins_cgroup_revocable(pins) * PAGE_SIZE);
#endif
	}
	return 0;
}

static u64 pins_current_read(struct cgroup_subsys_state *css,
			     struct cftype *cft)
{
	struct pins_cgroup *pins = css_pins(css);
	unsigned long usage;

	raw_spin_lock_irq(&pins->top->charge_lock);
	usage = settled_usage(pins);
	raw_spin_unlock_irq(&pins->top->charge_lock);
	return (u64)usage * PAGE_SIZE;
}

static int pins_max_show(struct seq_file *sf, void *v)
{
	unsigned long max = READ_ONCE(css_pins(seq_css(sf))->counter.max);

	if (max == PAGE_COUNTER_MAX)
		seq_puts(sf, "max\n");
	else
		seq_printf(sf, "%llu\n", (u64)max * PAGE_SIZE);
	return 0;
}

/*
 * Unlike page_counter_memparse(), refuse what is empty or does not fit 64 bits:
 * memparse() reads "" as 0 and lets 16E wrap around to 0, which would shut a
 * cgroup that was meant to be open.
 */
static int pins_parse_pages(char *buf, unsigned long *nr_pages)
{
	static const char units[] = "kmgtpe";
	const char *unit;
	int shift = 0;
	size_t len;
	u64 bytes;

	buf = strstrip(buf);
	if (!strcmp(buf, "max")) {
		*nr_pages = PAGE_COUNTER_MAX;
		return 0;
	}

	/* A last letter is a unit, unless it is a hexadecimal digit. */
	len = strlen(buf);
	if (len && kstrtou64(buf, 0, &bytes)) {
		unit = strchr(units, tolower(buf[len - 1]));
		if (unit) {
			shift = 10 * (unit - units + 1);
			buf[len - 1] = '\0';
		}
	}
	if (kstrtou64(buf, 0, &bytes) || *buf == '+' || bytes > U64_MAX >> shift)
		return -EINVAL;

	*nr_pages = min_t(u64, (bytes << shift) / PAGE_SIZE, PAGE_COUNTER_MAX);
	return 0;
}

static ssize_t pins_max_write(struct kernfs_open_file *of, char *buf,
			      size_t nbytes, loff_t off)
{
	struct pins_cgroup *pins = css_pins(of_css(of));
	unsigned long max, __maybe_unused usage;
	int err;

	err = pins_parse_pages(buf, &max);
	if (err)
		return err;

	/* A request is judged by the old limit or the new one. */
	raw_spin_lock_irq(&pins->top->charge_lock);
	WRITE_ONCE(pins->counter.max, max);
	raw_spin_unlock_irq(&pins->top->charge_lock);

#ifdef CONFIG_PINS_REVOKE
	/* What cannot be taken back stays: new memory is refused until usage has fallen. */
	usage = page_counter_read(&pins->counter);
	if (usage > max)
		pins_cgroup_reclaim(pins, usage - max);
#endif
	return nbytes;
}

#ifdef CONFIG_PINS_REVOKE
static ssize_t pins_reclaim_write(struct kernfs_open_file *of, char *buf,
				  size_t nbytes, loff_t off)
{
	unsigned long nr_pages;
	int err;

	err = pins_parse_pages(buf, &nr_pages);
	if (!err && nr_pages == PAGE_COUNTER_MAX)
		err = -EINVAL;
	if (!err)
		err = pins_cgroup_reclaim(css_pins(of_css(of)), nr_pages);
	return err ?: nbytes;
}
#endif

/*
 * pins.peak works as memory.peak does: each open file has the value from which
 * it was reset, and all share the watermark that has grown since the last reset.
 */
#define OFP_PEAK_UNSET	(-1UL)

static int pins_peak_open(struct kernfs_open_file *of)
{
	of_peak(of)->value = OFP_PEAK_UNSET;
	return 0;
}

static void pins_peak_release(struct kernfs_open_file *of)
{
	struct pins_cgroup *pins = css_pins(of_css(of));
	struct cgroup_of_peak *ofp = of_peak(of);

	if (ofp->value == OFP_PEAK_UNSET)
		return;
	spin_lock(&pins->peaks_lock);
	list_del(&ofp->list);
	spin_unlock(&pins->peaks_lock);
}

static int pins_peak_show(struct seq_file *sf, void *v)
{
	struct pins_cgroup *pins = css_pins(seq_css(sf));
	struct cgroup_of_peak *ofp = of_peak(sf->private);
	u64 peak;

	spin_lock(&pins->peaks_lock);
	raw_spin_lock_irq(&pins->top->charge_lock);
	if (ofp->value == OFP_PEAK_UNSET)
		peak = pins->watermark;
	else
		peak = max_t(u64, ofp->value, pins->local_watermark);
	raw_spin_unlock_irq(&pins->top->charge_lock);
	spin_unlock(&pins->peaks_lock);

	seq_printf(sf, "%llu\n", peak * PAGE_SIZE);
	return 0;
}

static ssize_t pins_peak_write(struct kernfs_open_file *of, char *buf,
			       size_t nbytes, loff_t off)
{
	struct pins_cgroup *pins = css_pins(of_css(of));
	struct cgroup_of_peak *ofp = of_peak(of), *peer;
	unsigned long seen, usage;

	spin_lock(&pins->peaks_lock);
	raw_spin_lock_irq(&pins->top->charge_lock);
	seen = pins->local_watermark;
	usage = settled_usage(pins);
	pins->local_watermark = usage;
	raw_spin_unlock_irq(&pins->top->charge_lock);

	/* The others get what they had seen before the watermark started anew. */
	list_for_each_entry(peer, &pins->peaks, list)
		peer->value = max_t(u64, peer->value, seen);
	if (ofp->value == OFP_PEAK_UNSET)
		list_add(&ofp->list, &pins->peaks);
	ofp->value = usage;
	spin_unlock(&pins->peaks_lock);
	return nbytes;
}

static int show_events(struct seq_file *sf, const atomic64_t *events)
{
	seq_printf(sf, "max %lld\n", (s64)atomic64_read(&events[PINS_EVENT_MAX]));
	seq_printf(sf, "blocked %lld\n", (s64)atomic64_read(&events[PINS_EVENT_BLOCKED]));
	seq_printf(sf, "refused %lld\n", (s64)atomic64_read(&events[PINS_EVENT_REFUSED]));
	seq_printf(sf, "revoked %lld\n", (s64)atomic64_read(&events[PINS_EVENT_REVOKED]));
	return 0;
}

static int pins_events_show(struct seq_file *sf, void *v)
{
	return show_events(sf, css_pins(seq_css(sf))->events);
}

static int pins_events_local_show(struct seq_file *sf, void *v)
{
	return show_events(sf, css_pins(seq_css(sf))->events_local);
}

static struct cftype pins_files[] = {
	{
		.name = "current",
		.flags = CFTYPE_NOT_ON_ROOT,
		.read_u64 = pins_current_read,
	},
	{
		.name = "max",
		.flags = CFTYPE_NOT_ON_ROOT,
		.seq_show = pins_max_show,
		.write = pins_max_write,
	},
	{
		.name = "peak",
		.flags = CFTYPE_NOT_ON_ROOT,
		.open = pins_peak_open,
		.release = pins_peak_release,
		.seq_show = pins_peak_show,
		.write = pins_peak_write,
	},
	{
		.name = "events",
		.flags = CFTYPE_NOT_ON_ROOT,
		.file_offset = offsetof(struct pins_cgroup, events_file),
		.seq_show = pins_events_show,
	},
	{
		.name = "events.local",
		.flags = CFTYPE_NOT_ON_ROOT,
		.file_offset = offsetof(struct pins_cgroup, events_local_file),
		.seq_show = pins_events_local_show,
	},
	{
		.name = "stat",
		.flags = CFTYPE_NOT_ON_ROOT,
		.seq_show = pins_stat_show,
	},
#ifdef CONFIG_PINS_STEER
	{
		.name = "steer",
		.flags = CFTYPE_NOT_ON_ROOT,
		.seq_show = pins_steer_show,
		.write = pins_steer_write,
	},
#endif
#ifdef CONFIG_PINS_REVOKE
	{
		.name = "revoke",
		.flags = CFTYPE_NOT_ON_ROOT,
		.seq_show = pins_revoke_show,
		.write = pins_revoke_write,
	},
	{
		.name = "reclaim",
		.flags = CFTYPE_NOT_ON_ROOT,
		.write = pins_reclaim_write,
	},
#endif
#ifdef CONFIG_PINS_MIGRATE
	{
		.name = "migrate",
		.flags = CFTYPE_NOT_ON_ROOT,
		.seq_show = pins_migrate_show,
		.write = pins_migrate_write,
	},
#endif
#ifdef CONFIG_PINS_MEMLOCK
	{
		.name = "memlock",
		.flags = CFTYPE_NOT_ON_ROOT,
		.seq_show = pins_memlock_show,
		.write = pins_memlock_write,
	},
#endif
#ifdef CONFIG_CGROUP_PINS_WAIT
	{
		.name = "wait.max",
		.flags = CFTYPE_NOT_ON_ROOT,
		.seq_show = pins_wait_max_show,
		.write = pins_wait_max_write,
	},
#endif
	{ }	/* terminate */
};

struct cgroup_subsys pins_cgrp_subsys = {
	.css_alloc = pins_css_alloc,
	.css_online = pins_css_online,
	.css_free = pins_css_free,
	.css_rstat_flush = pins_css_rstat_flush,
	.dfl_cftypes = pins_files,
};

#ifdef CONFIG_PINS_KUNIT_TEST
#include "pins-kunit.h"
#endif
