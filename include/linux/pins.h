/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Long-term pins and the pins controller: what drivers call. What mm calls is in
 * mm/pins.h.
 *
 * Copyright (C) 2026 the pins authors
 */
#ifndef _LINUX_PINS_H
#define _LINUX_PINS_H

#include <linux/jump_label.h>
#include <linux/jump_label_ratelimit.h>
#include <linux/list.h>
#include <linux/sched.h>
#include <linux/types.h>

struct bio_vec;
struct pins_cgroup;

/**
 * struct pins_blocked - memory that could not be emptied on account of pins
 * @start_pfn: its first page
 * @end_pfn: behind its last page, 0 if pins were not in the way
 * @pfn: the first pinned folio that was found
 * @offline: whether it was to be taken offline
 * @waited: whether it was waited for the pins, in vain
 */
struct pins_blocked {
	unsigned long start_pfn;
	unsigned long end_pfn;
	unsigned long pfn;
	bool offline;
	bool waited;
};

/*
 * To switch a static key patches kernel text and interrupts all CPUs. Whoever a
 * cgroup is delegated to can write its files, so a key stays on for a while after
 * its last user is gone. pins_key needs no such delay: the delegated cgroup itself
 * keeps it on.
 */
#define PINS_KEY_LINGER	(10 * HZ)

/* On while a non-root cgroup of the pins controller exists */
DECLARE_STATIC_KEY_FALSE(pins_key);

/* On while some cgroup steers pins out of movable pageblocks. */
extern struct static_key_false_deferred pins_steer_key;

static __always_inline bool pins_enabled(void)
{
	return IS_ENABLED(CONFIG_CGROUP_PINS) && static_branch_unlikely(&pins_key);
}

void __pins_unpin_bvecs(const struct bio_vec *bvecs, unsigned int nr);

/**
 * pins_unpin_bvecs() - drop pins, one for each segment, and uncharge them together
 * @bvecs: the segments
 * @nr: how many
 *
 * Context: any but NMI.
 * Return: how many were unpinned, all or none. The caller has to unpin the rest.
 */
static __always_inline unsigned int pins_unpin_bvecs(const struct bio_vec *bvecs,
						     unsigned int nr)
{
	if (!pins_enabled())
		return 0;
	__pins_unpin_bvecs(bvecs, nr);
	return nr;
}

/* For set_active_pins(): pins that nobody is charged for; no cgroup has that number */
#define PINS_NOBODY	U32_MAX

#ifdef CONFIG_CGROUP_PINS

u32 pins_current_id(void);
u32 set_active_pins(u32 id);
struct pins_cgroup *pins_release_begin(u32 id);
void pins_release_end(struct pins_cgroup *pins);

#else /* !CONFIG_CGROUP_PINS */

static inline u32 pins_current_id(void)
{
	return 0;
}

static inline u32 set_active_pins(u32 id)
{
	return 0;
}

static inline struct pins_cgroup *pins_release_begin(u32 id)
{
	return NULL;
}

static inline void pins_release_end(struct pins_cgroup *pins)
{
}

#endif /* CONFIG_CGROUP_PINS */

/* On while some task may wait for memory that is being emptied. */
extern struct static_key_true_deferred pins_wait_key;

/* The ranges that are */
extern struct list_head pins_isolations;

void __pins_report_blocked(const struct pins_blocked *blocked);

/**
 * pins_report_blocked() - memory could not be had: say whose pins were in the way
 * @blocked: what pins_isolation_wait() has filled in, for one or several ranges
 *
 * Context: process context, sleeps.
 */
static inline void pins_report_blocked(const struct pins_blocked *blocked)
{
	if (IS_ENABLED(CONFIG_CGROUP_PINS) && IS_ENABLED(CONFIG_PINS_WAIT) &&
	    blocked->end_pfn)
		__pins_report_blocked(blocked);
}

/**
 * pins_may_wait() - may pins have to wait at present?
 *
 * Return: whether pins_wait() has to be called for requests that can wait.
 */
static __always_inline bool pins_may_wait(void)
{
	return IS_ENABLED(CONFIG_PINS_WAIT) && static_branch_likely(&pins_wait_key.key) &&
	       unlikely(!list_empty(&pins_isolations));
}

/**
 * pins_wait_update_key() - a setting lets tasks wait, or no longer does
 * @did: whether it did before
 * @does: whether it does now
 *
 * Context: process context; the setting does not change meanwhile.
 */
static inline void pins_wait_update_key(bool did, bool does)
{
	if (!IS_ENABLED(CONFIG_PINS_WAIT))
		return;
	if (does && !did)
		static_branch_deferred_inc(&pins_wait_key);
	if (did && !does)
		static_branch_slow_dec_deferred(&pins_wait_key);
}

#ifdef CONFIG_PINS_WAIT

/**
 * pins_nowait_save() - the current task is about to issue I/O
 * @polls: whether I/O before it may complete only after that, because it has to be
 *	polled for
 *
 * Such I/O has pinned memory, so that the task must not wait meanwhile for memory to
 * lose its pins. Only if pins_may_wait(), which comes first, so that whether it polls
 * need not be found out otherwise.
 *
 * Return: to be handed to pins_nowait_restore().
 */
static __always_inline bool pins_nowait_save(bool polls)
{
	if (polls)
		current->pins_nowait = true;
	return polls;
}

static __always_inline void pins_nowait_restore(bool saved)
{
	if (unlikely(saved))
		current->pins_nowait = false;
}

#else /* !CONFIG_PINS_WAIT */

static inline bool pins_nowait_save(bool polls)
{
	return false;
}

static inline void pins_nowait_restore(bool saved)
{
}

#endif /* CONFIG_PINS_WAIT */
#endif /* _LINUX_PINS_H */
