/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Shared by the files of mm/pins/ that charge pins, and know who has them.
 *
 * Copyright (C) 2026 the pins authors
 */
#ifndef _MM_PINS_MAP_H
#define _MM_PINS_MAP_H

#include <linux/bvec.h>
#include <linux/mm.h>
#include <linux/pins_cgroup.h>

#include "charge.h"

struct pins_list;

/**
 * struct pins_batch - pins of one sort and cgroup that were released
 * @key: what their records have in common, 0 when there are none
 * @uncharge: pages to uncharge before the leaf is unlocked
 * @nr_pages: pages uncharged, which keep the cgroup until the batch is flushed
 * @pins: the cgroup, once there are such pages
 * @unpins: how many pins
 * @charge: set if they are taken back from a request that is being charged
 * @unused: pieces of lists to free once the leaf is unlocked
 */
struct pins_batch {
	u64 key;
	unsigned long uncharge;
	unsigned long nr_pages;
	struct pins_cgroup *pins;
	unsigned long unpins;
	struct pins_charge *charge;
	struct pins_list *unused;
};

void pins_batch_uncharge(struct pins_batch *batch);
void pins_batch_flush(struct pins_batch *batch);

/* The most runs that are released together */
#define PINS_BATCH	32

/**
 * struct pins_run - neighbouring entries of a request that lie in one folio
 * @folio: the folio
 * @n: how many pins of it they are
 * @large: whether it is large, and its pins are counted; on 32-bit machines, some
 *	large folios have no room for a count, and are treated like small ones
 * @dropped: whether its pins have been dropped
 * @slot: of its leaf in the pin map, once that was looked up
 */
struct pins_run {
	struct folio *folio;
	unsigned int n;
	bool large;
	bool dropped;
	u8 slot;
};

/* Has its folio more than one page, whether or not its pins are counted? */
static __always_inline bool run_is_large(const struct pins_run *run)
{
	return run->large ||
	       (!IS_ENABLED(CONFIG_64BIT) && folio_test_large(run->folio));
}

static __always_inline unsigned long run_nr_pages(const struct pins_run *run)
{
	return run_is_large(run) ? folio_nr_pages(run->folio) : 1;
}

/**
 * struct pins_iter - walks the runs of a request
 * @pages: the pages of a request, or
 * @folios: its folios, or
 * @bvecs: segments with one pin each
 * @nr: how many there are
 * @pos: the entry that the walk has reached
 */
struct pins_iter {
	struct page **pages;
	struct folio **folios;
	const struct bio_vec *bvecs;
	unsigned long nr;
	unsigned long pos;
};

/*
 * How many of @most pages follow each other, counted from the first. Where struct
 * pages are not contiguous they seem to end early, which does no harm.
 */
static __always_inline unsigned int pins_contiguous(struct page **pages,
						    unsigned long most)
{
	struct page **p = pages + 1, **end = pages + most, *page = *pages + 1;

	/* Huge pages spend most of their time here. */
	while (end - p >= 4 && p[0] == page && p[1] == page + 1 &&
	       p[2] == page + 2 && p[3] == page + 3) {
		p += 4;
		page += 4;
	}
	while (p < end && *p == page) {
		p++;
		page++;
	}
	return p - pages;
}

/* The run at the current position; entries without a folio have none. */
static __always_inline struct pins_run pins_iter_run(struct pins_iter *it)
{
	struct pins_run run = { .n = 1 };
	unsigned long most;
	struct page *page;

	if (unlikely(it->folios)) {
		run.folio = it->folios[it->pos];
		run.large = run.folio && folio_has_pincount(run.folio);
		return run;
	}
	if (unlikely(it->bvecs)) {
		run.folio = page_folio(it->bvecs[it->pos].bv_page);
		run.large = folio_has_pincount(run.folio);
		return run;
	}

	page = it->pages[it->pos];
	if (unlikely(!page))
		return run;
	run.folio = page_folio(page);
	run.large = folio_has_pincount(run.folio);
	if (likely(!run.large))
		return run;

	/*
	 * Look at each page: some of a folio that is mapped by PTEs may have
	 * been replaced.
	 */
	most = folio_nr_pages(run.folio) - folio_page_idx(run.folio, page);
	run.n = pins_contiguous(it->pages + it->pos, min(it->nr - it->pos, most));
	return run;
}

/* How many pages are looked at before others get the CPU */
#define PINS_RESCHED	1024

/* Let them have it, if the run that the walk has just left was the last of so many. */
static __always_inline void pins_iter_resched(const struct pins_iter *it,
					      const struct pins_run *run)
{
	if (unlikely(it->pos % PINS_RESCHED < run->n))
		cond_resched();
}

/* GUP hands out the zero page as it is, without a pin. */
static __always_inline bool pins_run_pinned(const struct pins_run *run)
{
	return likely(run->folio) && !is_zero_folio(run->folio);
}

/**
 * struct pins_owner - a request as the map sees it
 * @charge: what it is charged, and to whom
 * @id: the number of that cgroup
 * @delta: what the records added so far change
 * @memcg_data: of the folio last looked at. Only ever compared: the memory cgroup
 *	that it is about may be gone.
 * @foreign: whether its memory is foreign to the cgroup
 * @writes: whether it is FOLL_WRITE
 * @spare: pieces of list for folios that others have pinned
 * @nr_spare: how many there are
 */
struct pins_owner {
	struct pins_charge charge;
	u32 id;
	struct pins_delta delta;
	unsigned long memcg_data;
	bool foreign;
	bool writes;
	struct pins_list *spare[16];
	unsigned int nr_spare;
};

/*
 * Drop the pins of a request, of which none has a record. If the task's cgroup has other
 * pins of the same folios, these are not taken for them.
 */
static inline void pins_give_back(const struct pins_iter *it)
{
	u32 id = set_active_pins(PINS_NOBODY);

	if (it->pages)
		unpin_user_pages(it->pages, it->nr);
	else
		unpin_folios(it->folios, it->nr);
	set_active_pins(id);
}

static inline void pins_give_back_pages(struct page **pages, unsigned long nr)
{
	struct pins_iter it = { .pages = pages, .nr = nr };

	pins_give_back(&it);
}

/* How long a request waits for pins that are just being released */
#define PINS_RELEASE_PATIENCE	HZ

bool pins_wait_released(struct pins_charge *charge, unsigned long *until);

bool pins_map_may_hold(struct folio *folio, u32 id);
int pins_map_add(struct pins_iter *it, struct pins_owner *owner);
void pins_map_more(struct folio *folio, u32 id, unsigned int n);
long pins_map_remove(struct pins_iter *it, struct pins_owner *owner);
void pins_map_done(struct pins_owner *owner);
void pins_map_unpin(struct pins_run *runs, unsigned int nr, struct pins_batch *batch);

/* The most owners of a folio that are told at a time */
#define PINS_ENTRY_OWNERS	8U

/**
 * struct pins_entry - a folio with long-term pins
 * @pfn: its first page
 * @nr_pages: how many pages it has
 * @nid: the node that it is on
 * @type: what sort of memory it is: PINS_ANON, ...
 * @movable: whether it is in a movable pageblock
 * @nr: how many cgroups have pinned it
 * @owner: some of them; those behind the last are NULL
 */
struct pins_entry {
	unsigned long pfn;
	unsigned long nr_pages;
	int nid;
	enum pins_stat_item type;
	bool movable;
	unsigned int nr;
	struct pins_cgroup *owner[PINS_ENTRY_OWNERS];
};

u64 pins_map_pinner(struct folio *folio);
void pins_map_count(struct folio *folio, enum pins_stat_item item, long n);
bool pins_map_next(unsigned long pfn, unsigned int skip, struct pins_entry *entry);
void pins_entry_put(struct pins_entry *entry);
unsigned long pins_map_records(void);

#endif /* _MM_PINS_MAP_H */
