/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Pins wait for memory that is being emptied: what is to be known outside of mm.
 *
 * Copyright (C) 2026 the pins authors
 */
#ifndef _LINUX_PINS_WAIT_H
#define _LINUX_PINS_WAIT_H

#include <linux/list.h>
#include <linux/sched.h>

/* The ranges that are */
extern struct list_head pins_isolations;

/* May pins have to wait at present? Usually not, so that this is all that they ask. */
static __always_inline bool pins_may_wait(void)
{
	return IS_ENABLED(CONFIG_PINS_WAIT) && unlikely(!list_empty(&pins_isolations));
}

/*
 * Around I/O that the current task issues, if I/O before it may complete only after that,
 * because it has to be polled for. That has pinned memory, so the task must not sleep
 * meanwhile until memory has lost its pins. Only if pins_may_wait(), which comes first.
 */
static __always_inline bool pins_nowait_save(bool polls)
{
#ifdef CONFIG_PINS_WAIT
	if (polls)
		current->pins_nowait = true;
#endif
	return polls;
}

static __always_inline void pins_nowait_restore(bool saved)
{
#ifdef CONFIG_PINS_WAIT
	if (unlikely(saved))
		current->pins_nowait = false;
#endif
}

#endif /* _LINUX_PINS_WAIT_H */
