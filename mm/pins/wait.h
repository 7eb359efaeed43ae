/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Requests and memory that is being emptied: what GUP, alloc_contig_range() and memory
 * hotplug call.
 *
 * Copyright (C) 2026 the pins authors
 */
#ifndef _MM_PINS_WAIT_H
#define _MM_PINS_WAIT_H

#include <linux/mm_types.h>
#include <linux/pins_wait.h>

/**
 * struct pins_wait - what a pin request loses to memory that has to move
 * @since: when it was held up first, in ns, or 0
 * @until: when it has lost as much as it may, in ns
 * @pfn: the folio that is in its way
 * @slept: it has not only moved folios
 * @timed_out: it has lost as much as it may
 * @pass: it cannot do more, and may not sleep
 */
struct pins_wait {
	u64 since;
	u64 until;
	unsigned long pfn;
	bool slept;
	bool timed_out;
	bool pass;
};

/* Both only if pins_may_wait() */
bool pins_must_wait(struct page **pages, unsigned long nr, unsigned long wanted,
		    unsigned int flags);
bool pins_wait(struct pins_wait *wait, struct mm_struct *mm, struct page **pages,
	       long *nr, int *locked, unsigned int flags);

struct pins_isolation;

#ifdef CONFIG_PINS_WAIT
struct pins_isolation *pins_isolation_begin(unsigned long start_pfn,
					    unsigned long end_pfn, gfp_t gfp_mask,
					    bool offline);
bool pins_isolation_wait(struct pins_isolation *isolation);
void pins_isolation_end(struct pins_isolation *isolation);
#else
static inline struct pins_isolation *
pins_isolation_begin(unsigned long start_pfn, unsigned long end_pfn, gfp_t gfp_mask,
		     bool offline)
{
	return NULL;
}

static inline bool pins_isolation_wait(struct pins_isolation *isolation)
{
	return false;
}

static inline void pins_isolation_end(struct pins_isolation *isolation)
{
}
#endif

#endif /* _MM_PINS_WAIT_H */
