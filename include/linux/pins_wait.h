/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Pins wait for memory that is being emptied: what is to be known outside of mm.
 *
 * Copyright (C) 2026 the pins authors
 */
#ifndef _LINUX_PINS_WAIT_H
#define _LINUX_PINS_WAIT_H

#include <linux/jump_label.h>
#include <linux/jump_label_ratelimit.h>
#include <linux/list.h>
#include <linux/sched.h>

/*
 * To switch a static key patches kernel text and interrupts all CPUs. So that it
 * is not done again and again, a key stays on for a while after its last user is gone.
 */
#define PINS_KEY_LINGER	(10 * HZ)

/* On while some task may wait for memory that is being emptied. */
extern struct static_key_true_deferred pins_wait_key;

/* The ranges that are */
extern struct list_head pins_isolations;

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
#endif /* _LINUX_PINS_WAIT_H */
