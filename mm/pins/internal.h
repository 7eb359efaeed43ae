/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Shared by the files of mm/pins/.
 *
 * Copyright (C) 2026 the pins authors
 */
#ifndef _MM_PINS_INTERNAL_H
#define _MM_PINS_INTERNAL_H

#include <linux/mm.h>
#include <linux/pins.h>
#include <linux/pins_cgroup.h>

/**
 * struct pins_batch - pins of one cgroup that were released, to be uncharged
 * @id: the cgroup's number, 0 when there is nothing
 * @nr_pages: how many pages to uncharge; if there are any, they keep the cgroup.
 *	A batch without does not leave the RCU section in which it was filled.
 * @delta: what changes in its statistics
 */
struct pins_batch {
	u32 id;
	unsigned long nr_pages;
	struct pins_delta delta;
};

void pins_batch_flush(struct pins_batch *batch);

/* The most runs that are released together, and slots in a leaf of the map */
#define PINS_BATCH	32

/**
 * struct pins_run - neighbouring entries of a request that lie in one folio
 * @folio: the folio
 * @n: how many pins of it they are
 */
struct pins_run {
	struct folio *folio;
	unsigned int n;
};

/**
 * struct pins_iter - walks the runs of a request
 * @pages: the pages of a request, or
 * @folios: its folios
 * @nr: how many there are
 * @pos: the entry that the walk has reached
 * @whole: each run ends where its folio or the request does. Known when a walk
 *	from end to end has found no @broken one; later walks need not look.
 * @broken: a run ended before that
 * @refused: how many new pages a limit refused
 */
struct pins_iter {
	struct page **pages;
	struct folio **folios;
	unsigned long nr;
	unsigned long pos;
	bool whole;
	bool broken;
	unsigned long refused;
};

/* The run at the current position; entries without a folio have none. */
static __always_inline struct pins_run pins_iter_run(struct pins_iter *it)
{
	struct pins_run run = { .n = 1 };
	unsigned long left, most;
	struct page **pages;
	struct page *page;

	if (it->folios) {
		run.folio = it->folios[it->pos];
		return run;
	}

	pages = it->pages + it->pos;
	page = *pages;
	if (unlikely(!page))
		return run;
	run.folio = page_folio(page);
	if (!folio_test_large(run.folio))
		return run;

	left = folio_nr_pages(run.folio) - folio_page_idx(run.folio, page);
	most = min(it->nr - it->pos, left);
	if (it->whole) {
		run.n = most;
		return run;
	}

	/*
	 * Look at each page: some of a folio that is mapped by PTEs may have
	 * been replaced. Where struct pages are not contiguous, a run ends
	 * early, and the next one is of the same folio.
	 */
	while (run.n < most && pages[run.n] == page + run.n)
		run.n++;
	if (run.n < most)
		it->broken = true;
	return run;
}

/* GUP hands out the zero page as it is, without a pin. */
static __always_inline bool pins_run_pinned(const struct pins_run *run)
{
	return likely(run->folio) && !is_zero_folio(run->folio);
}

/*
 * Drop the pins of a run, but for references that keep the folio and that the
 * caller drops when it has reconciled: their number is left in @run.
 */
static __always_inline void pins_drop(struct pins_run *run)
{
	if (folio_test_large(run->folio)) {
		atomic_sub(run->n, &run->folio->_pincount);
	} else {
		folio_ref_sub(run->folio, run->n * GUP_PIN_COUNTING_BIAS - 1);
		run->n = 1;
	}
}

/**
 * struct pins_owner - a request as the map sees it
 * @pins: the cgroup that pays
 * @id: its number
 * @reserved: pages that have been charged and are not yet used
 * @delta: what the records added so far change
 * @memcg: the memory cgroup last compared. Only ever compared: it may be gone.
 * @foreign: whether its memory is foreign to @pins
 */
struct pins_owner {
	struct pins_cgroup *pins;
	u32 id;
	unsigned long reserved;
	struct pins_delta delta;
	struct mem_cgroup *memcg;
	bool foreign;
};

unsigned int pins_folio_pins(struct folio *folio);
bool pins_map_holds(struct folio *folio, u32 id);
int pins_map_add(struct pins_iter *it, struct pins_owner *owner);
void pins_map_remove(struct pins_iter *it, u32 id, struct pins_batch *batch);
unsigned int pins_map_unpin(struct pins_iter *it, struct pins_run *put,
			    struct pins_batch *batch);
void pins_map_fit(struct folio *folio, struct pins_batch *batch);

#endif /* _MM_PINS_INTERNAL_H */
