/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory that cannot be emptied on account of pins: what allocators and drivers call.
 *
 * Copyright (C) 2026 the pins authors
 */
#ifndef _LINUX_PINS_BLOCKED_H
#define _LINUX_PINS_BLOCKED_H

#include <linux/types.h>

/**
 * struct pins_blocked - memory that could not be emptied
 * @start_pfn: its first page
 * @end_pfn: behind its last page, 0 if nothing was found that was in the way
 * @pfn: the first folio that was
 * @pinned: whether that was on account of pins
 * @offline: whether it was to be taken offline
 * @waited: whether it was waited for the pins, in vain
 */
struct pins_blocked {
	unsigned long start_pfn;
	unsigned long end_pfn;
	unsigned long pfn;
	bool pinned;
	bool offline;
	bool waited;
};

void __pins_report_blocked(const struct pins_blocked *blocked);

/**
 * pins_report_blocked() - memory could not be had: say whose pins were in the way
 * @blocked: what pins_isolation_blocked() has filled in, for one or several ranges
 *
 * Context: process context, sleeps.
 */
static inline void pins_report_blocked(const struct pins_blocked *blocked)
{
	if (IS_ENABLED(CONFIG_PINS_BLOCKED) && IS_ENABLED(CONFIG_PINS_WAIT) &&
	    blocked->end_pfn)
		__pins_report_blocked(blocked);
}

#endif /* _LINUX_PINS_BLOCKED_H */
