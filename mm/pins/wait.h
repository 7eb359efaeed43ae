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

struct pins_isolation;

/**
 * struct pins_wait - what a pin request loses to memory that has to move
 * @since: when it was held up, or @lost was brought up to date; in ns, 0 if it is not
 * @lost: for how long so far, in ns
 * @pfn: the folio that is in its way
 * @slept: it has not only moved folios
 * @counted: which the statistics know
 * @timed_out: it has lost as much as it may
 * @pass: it cannot do more, and may not sleep
 */
struct pins_wait {
	u64 since;
	u64 lost;
	unsigned long pfn;
	bool slept;
	bool counted;
	bool timed_out;
	bool pass;
};

bool __pins_must_wait(struct page **pages, unsigned long nr, unsigned long wanted,
		      unsigned int flags);
bool pins_wait(struct pins_wait *wait, struct mm_struct *mm, struct page **pages,
	       long *nr, int *locked, unsigned int flags);

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
static __always_inline bool pins_must_wait(struct page **pages, unsigned long nr,
					   unsigned long wanted, unsigned int flags)
{
	return pins_may_wait() && __pins_must_wait(pages, nr, wanted, flags);
}

#ifdef CONFIG_PINS_WAIT

struct pins_isolation *pins_isolation_begin(unsigned long start_pfn,
					    unsigned long end_pfn, gfp_t gfp_mask,
					    bool offline);
bool pins_isolation_wait(struct pins_isolation *isolation);
void pins_isolation_end(struct pins_isolation *isolation);

#else /* !CONFIG_PINS_WAIT */

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

#endif /* CONFIG_PINS_WAIT */
#endif /* _MM_PINS_WAIT_H */
