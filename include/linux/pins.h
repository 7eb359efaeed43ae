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

#ifdef CONFIG_CGROUP_PINS

/* On while a non-root cgroup of the pins controller exists. */
DECLARE_STATIC_KEY_FALSE(pins_key);

/*
 * How many records the pin map holds for the folios of a bucket, so that an
 * unpin or a free can tell with one load that the map does not know the folio.
 *
 * A pin adds its record before its caller gets the page, so whoever releases
 * that pin sees a count above zero. Everybody else may see a stale zero: a pin
 * that was never recorded has nothing to release.
 */
#define PINS_GATE_BITS	12
extern atomic_t pins_gate[1 << PINS_GATE_BITS];

/* 512 neighbouring struct pages (2 MB of 4 kB pages) share a bucket. */
static __always_inline atomic_t *pins_gate_of(const struct folio *folio)
{
	unsigned long block = (unsigned long)folio / (512 * sizeof(struct page));

	return &pins_gate[block % (1 << PINS_GATE_BITS)];
}

static __always_inline bool pins_enabled(void)
{
	return static_branch_unlikely(&pins_key);
}

/* May the pin map hold a record of this folio? */
static __always_inline bool pins_tracked(const struct folio *folio)
{
	return pins_enabled() && unlikely(atomic_read(pins_gate_of(folio)));
}

long __pins_charge_pages(struct mm_struct *mm, struct page **pages, long nr);
long __pins_charge_folios(struct folio **folios, long nr);
bool __pins_unpin_folio(struct folio *folio, int refs);
void __pins_unpin_pages(struct page **pages, unsigned long npages);
void __pins_folio_freed(struct folio *folio);

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
 * pins_unpin_folio() - release pins of a folio
 * @folio: the folio
 * @refs: how many pins
 *
 * Context: any but NMI.
 * Return: whether they were released; if not, they are not charged, and the
 * caller has to do it.
 */
static __always_inline bool pins_unpin_folio(struct folio *folio, int refs)
{
	return pins_tracked(folio) && __pins_unpin_folio(folio, refs);
}

/**
 * pins_unpin_pages() - release an array of pins together
 * @pages: the pages, some of which may be NULL
 * @npages: how many
 *
 * Saves the cost of uncharging each page on its own.
 *
 * Context: any but NMI.
 * Return: whether the pins were released; if not, nothing is charged, and the
 * caller has to do it.
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
 * pins_folio_freed() - forget a folio that goes back to the page allocator
 * @folio: the folio, nobody else has a reference
 *
 * Context: any but NMI.
 */
static __always_inline void pins_folio_freed(struct folio *folio)
{
	if (pins_tracked(folio))
		__pins_folio_freed(folio);
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

static inline bool pins_unpin_folio(struct folio *folio, int refs)
{
	return false;
}

static inline bool pins_unpin_pages(struct page **pages, unsigned long npages)
{
	return false;
}

static inline void pins_folio_freed(struct folio *folio)
{
}

#endif /* CONFIG_CGROUP_PINS */
#endif /* _LINUX_PINS_H */
