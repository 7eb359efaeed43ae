/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The pins controller: what GUP and the page allocator call. Each inline is a static
 * branch and, at most, one test. Nothing else runs until a cgroup uses the controller.
 * What is declared here without being built is not called.
 *
 * Copyright (C) 2026 the pins authors
 */
#ifndef _MM_PINS_CHARGE_H
#define _MM_PINS_CHARGE_H

#include <linux/atomic.h>
#include <linux/mm_types.h>
#include <linux/page-flags.h>
#include <linux/pins.h>

/*
 * Whether the pin map may hold a record of the folios of a bucket, so that an unpin can
 * tell with one load that it does not. A record is counted here before its pins can be
 * dropped.
 *
 * While somebody drops a pin that has no record, another may come with a record, drop
 * his, and find it in place of his own. If that was the last one, a charge ends with it.
 * Of a small folio the worker has to find out. A large one may be split after that, so
 * who drops its pin looks here again, with a full barrier in between. A record is counted
 * here with a full barrier before its pins are dropped, too: so of two that drop their
 * pins, the one that finds nothing here is seen to have done so by the other, when that
 * counts the pins that are left.
 */
#define PINS_FILTER_BITS	12
#define PINS_FILTER_PAGES	512
extern atomic_t pins_filter[1 << PINS_FILTER_BITS];

/*
 * The first page of each PINS_FILTER_PAGES decides, by its number. Where struct pages lie in
 * one aligned array, dividing the address does the same and is cheaper.
 */
static __always_inline atomic_t *pins_filter_of(const struct folio *folio)
{
	unsigned long block;

	if (IS_ENABLED(CONFIG_SPARSEMEM_VMEMMAP) &&
	    !(sizeof(struct page) & (sizeof(struct page) - 1)))
		block = (unsigned long)folio / (PINS_FILTER_PAGES * sizeof(struct page));
	else
		block = page_to_pfn(&folio->page) / PINS_FILTER_PAGES;
	return &pins_filter[block % (1 << PINS_FILTER_BITS)];
}

bool __pins_refused(struct mm_struct *mm, unsigned long start, unsigned long nr_pages,
		    unsigned int gup_flags, bool locked);
long __pins_charge_pages(struct mm_struct *mm, struct page **pages, long nr,
			 unsigned int gup_flags);
long __pins_charge_folios(struct folio **folios, long nr);
void __pins_unpin_pages(struct page **pages, unsigned long npages);
void __pins_unpin_folio(struct folio *folio, unsigned int n);
void __pins_unpinned(struct folio *folio);
void __pins_range_removed(unsigned long start_pfn, unsigned long end_pfn);
void __pins_added(struct folio *folio, unsigned int n);
bool pins_map_recorded(struct folio *folio);
void __pins_block_changed(struct page *page);

/* Are the pins of a request charged? */
static __always_inline bool pins_charges(unsigned int gup_flags)
{
	return pins_enabled() && (gup_flags & FOLL_LONGTERM);
}

/**
 * pins_refused() - is a request refused before it pins anything?
 * @mm: the address space, NULL for memfd_pin_folios()
 * @start: its first address
 * @nr_pages: how many pages it is to pin
 * @gup_flags: those of others than FOLL_LONGTERM are not
 * @locked: whether the caller holds mmap_lock
 *
 * If not, it may be when it is charged.
 *
 * Context: process context, sleeps.
 * Return: whether it has to fail with -ENOMEM, because a limit has no room for it.
 */
static __always_inline bool pins_refused(struct mm_struct *mm, unsigned long start,
					 unsigned long nr_pages, unsigned int gup_flags,
					 bool locked)
{
	return pins_charges(gup_flags) &&
	       __pins_refused(mm, start, nr_pages, gup_flags, locked);
}

/**
 * pins_charge_pages() - charge long-term pins that were just taken
 * @mm: the address space that the pages belong to
 * @pages: the pinned pages
 * @nr: how many, or what GUP returned if it failed
 * @gup_flags: the pins of others than FOLL_LONGTERM are not charged
 *
 * Context: process context, may sleep; the caller may hold mmap_lock.
 * Return: @nr, or -ENOMEM when a limit refused them; then nothing is pinned.
 */
static __always_inline long pins_charge_pages(struct mm_struct *mm,
					      struct page **pages, long nr,
					      unsigned int gup_flags)
{
	if (pins_charges(gup_flags) && nr > 0)
		return __pins_charge_pages(mm, pages, nr, gup_flags);
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
 * pins_added() - the current task has pinned a folio once more
 * @folio: a folio that it has pinned for the long term before
 * @n: how many pins were added
 *
 * They cost nothing, but the folio is charged until they are gone as well.
 *
 * Context: any but NMI.
 */
static __always_inline void pins_added(struct folio *folio, unsigned int n)
{
	if (pins_enabled() && unlikely(atomic_read(pins_filter_of(folio))))
		__pins_added(folio, n);
}

/**
 * pins_unpin_folio() - drop pins of a folio, and uncharge it if that was the last one
 * @folio: the folio, not the zero page
 * @n: how many pins
 *
 * Context: any but NMI.
 * Return: whether the pins were dropped. If not, nobody is charged for them, and the
 * caller has to drop them.
 */
static __always_inline bool pins_unpin_folio(struct folio *folio, unsigned int n)
{
	if (!pins_enabled() || likely(!atomic_read(pins_filter_of(folio))))
		return false;
	__pins_unpin_folio(folio, n);
	return true;
}

/**
 * pins_unpinned_large() - uncharge a large folio that has lost a pin, if it is charged
 * @folio: the folio, of which references are still held
 *
 * Context: any but NMI.
 */
static __always_inline void pins_unpinned_large(struct folio *folio)
{
	if (!pins_enabled())
		return;
	smp_mb__after_atomic(); /* see pins_filter */
	if (unlikely(atomic_read(pins_filter_of(folio))))
		__pins_unpinned(folio);
}

/**
 * pins_unpin_pages() - drop an array of pins, and uncharge them together
 * @pages: the pages, some of which may be NULL
 * @npages: how many
 *
 * Context: any but NMI.
 * Return: whether the pins were dropped. If not, nobody is charged for them, and the
 * caller has to drop them.
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
 * pins_folio_freed() - forget a folio that goes back to the page allocator, or a device
 * @folio: the folio, nobody else has a reference
 *
 * Context: any but NMI.
 */
static __always_inline void pins_folio_freed(struct folio *folio)
{
	if (pins_enabled() && unlikely(atomic_read(pins_filter_of(folio))))
		__pins_unpinned(folio);
}

/**
 * pins_range_removed() - memory of a device goes away
 * @start_pfn: its first page
 * @end_pfn: behind its last page
 *
 * Its pages need not be free then. They have no records after that.
 *
 * Context: process context.
 */
static inline void pins_range_removed(unsigned long start_pfn, unsigned long end_pfn)
{
	if (IS_ENABLED(CONFIG_CGROUP_PINS))
		__pins_range_removed(start_pfn, end_pfn);
}

/**
 * pins_folio_recorded() - has a cgroup a long-term pin on a folio?
 * @folio: the folio, which the caller holds a reference on
 *
 * Then it cannot move, and pinning it again costs nothing.
 *
 * Context: any but NMI.
 */
static inline bool pins_folio_recorded(struct folio *folio)
{
	return pins_enabled() && atomic_read(pins_filter_of(folio)) &&
	       pins_map_recorded(folio);
}

/**
 * pins_block_changed() - a pageblock has got another type
 * @page: any of its pages
 *
 * Context: any but NMI; the caller may hold zone->lock.
 */
static inline void pins_block_changed(struct page *page)
{
	if (IS_ENABLED(CONFIG_CGROUP_PINS))
		__pins_block_changed(page);
}

#endif /* _MM_PINS_CHARGE_H */
