/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What GUP and the page allocator call. Each inline is a static branch and, at
 * most, one test; nothing else runs until a cgroup uses the pins controller.
 *
 * Copyright (C) 2026 the pins authors
 */
#ifndef _LINUX_PINS_H
#define _LINUX_PINS_H

#include <linux/atomic.h>
#include <linux/jump_label.h>
#include <linux/mm_types.h>
#include <linux/page-flags.h>
#include <linux/types.h>

struct bio_vec;

struct pins_drain;

#ifdef CONFIG_CGROUP_PINS

/*
 * On while a non-root cgroup of the pins controller exists, or somebody waits for
 * memory to lose its pins.
 */
DECLARE_STATIC_KEY_FALSE(pins_key);

/*
 * Whether the pin map may hold a record of the folios of a bucket, so that an
 * unpin can tell with one load that it does not.
 *
 * Whoever drops a pin looks here afterwards, with a full barrier in between, be
 * the pin a long-term one or not: if it is the last one, a charge of the folio
 * ends with it. A record is added by somebody who holds a pin, and counted here
 * before that pin is dropped, again with a full barrier in between. So of two
 * that drop their pins, the one that finds the gate closed is seen to have done
 * so by the other, when it counts the pins that are left.
 */
#define PINS_GATE_BITS	12
extern atomic_t pins_gate[1 << PINS_GATE_BITS];

/*
 * The first page of each 512 decides, by its number. Where struct pages lie in
 * one aligned array, dividing the address does the same and is cheaper.
 */
static __always_inline atomic_t *pins_gate_of(const struct folio *folio)
{
	unsigned long block;

	if (IS_ENABLED(CONFIG_SPARSEMEM_VMEMMAP) &&
	    !(sizeof(struct page) & (sizeof(struct page) - 1)))
		block = (unsigned long)folio / (512 * sizeof(struct page));
	else
		block = page_to_pfn(&folio->page) / 512;
	return &pins_gate[block % (1 << PINS_GATE_BITS)];
}

static __always_inline bool pins_enabled(void)
{
	return static_branch_unlikely(&pins_key);
}

long __pins_charge_pages(struct mm_struct *mm, struct page **pages, long nr);
long __pins_charge_folios(struct folio **folios, long nr);
void __pins_unpin_pages(struct page **pages, unsigned long npages);
void __pins_unpin_bvecs(const struct bio_vec *bvecs, unsigned int nr);
void __pins_unpinned(struct folio *folio, bool large);

/**
 * pins_charge_pages() - charge long-term pins that were just taken
 * @mm: the address space that the pages belong to
 * @pages: the pinned pages
 * @nr: how many, or what GUP returned if it failed
 * @longterm: whether the pins are FOLL_LONGTERM; others are not charged
 *
 * Context: process context, may sleep; the caller may hold mmap_lock.
 * Return: @nr, or -ENOMEM when a limit refused them; then nothing is pinned.
 */
static __always_inline long pins_charge_pages(struct mm_struct *mm,
					      struct page **pages, long nr,
					      bool longterm)
{
	if (pins_enabled() && longterm && nr > 0)
		return __pins_charge_pages(mm, pages, nr);
	return nr;
}

/**
 * pins_charge_folios() - the same for memfd_pin_folios()
 * @folios: the folios, pinned once each
 * @nr: how many
 *
 * The memory has no mm here: the current task pays.
 *
 * Context: process context, may sleep.
 * Return: @nr, or -ENOMEM when a limit refused them; then nothing is pinned.
 */
static __always_inline long pins_charge_folios(struct folio **folios, long nr)
{
	if (pins_enabled() && nr > 0)
		return __pins_charge_folios(folios, nr);
	return nr;
}

/**
 * pins_unpinned() - uncharge a folio that has just lost pins, if it is charged
 * @folio: the folio, which may have been freed meanwhile unless @large
 * @large: whether it is a large folio; then references are still held
 *
 * Context: any but NMI.
 */
static __always_inline void pins_unpinned(struct folio *folio, bool large)
{
	if (!pins_enabled())
		return;
	smp_mb__after_atomic(); /* see pins_gate */
	if (unlikely(atomic_read(pins_gate_of(folio))))
		__pins_unpinned(folio, large);
}

/**
 * pins_unpin_pages() - drop an array of pins, and uncharge them together
 * @pages: the pages, some of which may be NULL
 * @npages: how many
 *
 * Context: any but NMI.
 * Return: whether the pins were dropped. If not, nothing was charged when they
 * were asked for, and the caller has to drop them.
 */
static __always_inline bool pins_unpin_pages(struct page **pages,
					     unsigned long npages)
{
	if (!pins_enabled())
		return false;
	__pins_unpin_pages(pages, npages);
	return true;
}

/**
 * pins_unpin_bvecs() - the same for segments with one pin each
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

/**
 * pins_folio_freed() - forget a folio that goes back to the page allocator
 * @folio: the folio, nobody else has a reference
 *
 * Context: any but NMI.
 */
static __always_inline void pins_folio_freed(struct folio *folio)
{
	if (pins_enabled() && unlikely(atomic_read(pins_gate_of(folio))))
		__pins_unpinned(folio, folio_test_large(folio));
}

#else /* !CONFIG_CGROUP_PINS */

static inline long pins_charge_pages(struct mm_struct *mm, struct page **pages,
				     long nr, bool longterm)
{
	return nr;
}

static inline long pins_charge_folios(struct folio **folios, long nr)
{
	return nr;
}

static inline void pins_unpinned(struct folio *folio, bool large)
{
}

static inline bool pins_unpin_pages(struct page **pages, unsigned long npages)
{
	return false;
}

static inline unsigned int pins_unpin_bvecs(const struct bio_vec *bvecs,
					    unsigned int nr)
{
	return 0;
}

static inline void pins_folio_freed(struct folio *folio)
{
}

#endif /* CONFIG_CGROUP_PINS */

/**
 * struct pins_wait - what a pin request has waited for memory that has to move
 * @start: since when, 0 if it has not waited
 * @waited: for how long so far, in ns
 * @pass: it will not wait any more
 */
struct pins_wait {
	ktime_t start;
	u64 waited;
	bool pass;
};

#if defined(CONFIG_CGROUP_PINS) && defined(CONFIG_MEMORY_ISOLATION)

/* On while memory is being emptied, and for some seconds longer. */
DECLARE_STATIC_KEY_FALSE(pins_drain_key);

/* On while some cgroup lets its tasks wait for that. */
DECLARE_STATIC_KEY_FALSE(pins_wait_key);

struct pins_drain *pins_drain_begin(unsigned long start_pfn,
				    unsigned long end_pfn, bool offline);
bool pins_drain_wait(struct pins_drain *drain);
void pins_drain_end(struct pins_drain *drain);

bool __pins_held_up(struct page **pages, unsigned long nr, unsigned long wanted,
		    unsigned int flags);
bool pins_wait(struct pins_wait *wait, struct mm_struct *mm, struct page **pages,
	       long *nr, int *locked, unsigned int flags);
void __pins_folio_moved(struct folio *folio);

/**
 * pins_may_wait() - may pins have to wait at present?
 *
 * Return: whether pins_wait() has to be called for requests that can wait.
 */
static __always_inline bool pins_may_wait(void)
{
	return static_branch_unlikely(&pins_drain_key) &&
	       static_branch_unlikely(&pins_wait_key);
}

/**
 * pins_held_up() - may a request that the fast path has pinned have to wait?
 * @pages: the pages that were pinned
 * @nr: how many
 * @wanted: how many are to be
 * @flags: FOLL_ flags
 *
 * Context: process context.
 * Return: whether it has to be given back and start over in the slow path, where
 * pins_wait() waits.
 */
static __always_inline bool pins_held_up(struct page **pages, unsigned long nr,
					 unsigned long wanted, unsigned int flags)
{
	return pins_may_wait() && __pins_held_up(pages, nr, wanted, flags);
}

/**
 * pins_folio_moved() - tell those who wait that a folio has been migrated, or not
 * @folio: where its contents were; it need no longer exist
 *
 * Context: process context.
 */
static __always_inline void pins_folio_moved(struct folio *folio)
{
	if (pins_may_wait())
		__pins_folio_moved(folio);
}

#else /* !CONFIG_CGROUP_PINS || !CONFIG_MEMORY_ISOLATION */

static inline struct pins_drain *
pins_drain_begin(unsigned long start_pfn, unsigned long end_pfn, bool offline)
{
	return NULL;
}

static inline bool pins_drain_wait(struct pins_drain *drain)
{
	return false;
}

static inline void pins_drain_end(struct pins_drain *drain)
{
}

static inline bool pins_may_wait(void)
{
	return false;
}

static inline bool pins_held_up(struct page **pages, unsigned long nr,
				unsigned long wanted, unsigned int flags)
{
	return false;
}

static inline bool pins_wait(struct pins_wait *wait, struct mm_struct *mm,
			     struct page **pages, long *nr, int *locked,
			     unsigned int flags)
{
	return false;
}

static inline void pins_folio_moved(struct folio *folio)
{
}

#endif /* CONFIG_CGROUP_PINS && CONFIG_MEMORY_ISOLATION */
#endif /* _LINUX_PINS_H */
