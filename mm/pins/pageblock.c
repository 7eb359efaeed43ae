// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pageblocks change their type: keeps up what pins.stat calls movable_block, the
 * pinned memory that lies where movable memory lives.
 *
 * Copyright (C) 2026 the pins authors
 */

#include <linux/bitmap.h>
#include <linux/irq_work.h>
#include <linux/memblock.h>
#include <linux/memory_hotplug.h>
#include <linux/memremap.h>
#include <linux/page-isolation.h>
#include <linux/workqueue.h>

#include "leaf.h"

/**
 * pins_block_movable() - is a page where movable memory lives?
 * @page: the page
 *
 * Then pinning it leaves less for huge pages. What is isolated counts: it is to be
 * emptied, which only movable memory can be.
 *
 * Context: any.
 */
bool pins_block_movable(struct page *page)
{
	int type = get_pageblock_migratetype(page);

	return (is_migrate_movable(type) || is_migrate_isolate(type)) &&
	       !is_zone_device_page(page);
}

/* Note whether the folio of a record is in a movable pageblock now. */
static void rec_set_movable(u64 *rec, struct folio *folio, bool movable)
{
	long nr_pages = folio_nr_pages(folio);

	if (!(*rec & REC_MOVABLE) == !movable)
		return;
	*rec ^= REC_MOVABLE;
	rec_count(*rec, PINS_MOVABLE_BLOCK, movable ? nr_pages : -nr_pages);
}

/**
 * pins_leaf_update() - look again in which pageblocks the folios of a leaf are
 * @leaf: the leaf, which may be empty, and its memory going away: see pins_obstacle()
 * @start: the first page frame to look at
 * @last: the last one
 *
 * Context: process context.
 */
void pins_leaf_update(struct pins_leaf *leaf, unsigned long start, unsigned long last)
{
	unsigned int shift = leaf->large ? PINS_LARGE_ORDER : 0;
	unsigned long pfn = (leaf->index << PINS_LEAF_SHIFT) << shift;
	unsigned int i = 0, used;
	struct rec_iter it;
	unsigned long flags;
	u64 *rec;

	rcu_read_lock();
	do {
		raw_spin_lock_irqsave(&leaf->lock, flags);
		if (!leaf->large) {
			struct page *page = pfn_to_online_page(pfn);

			leaf->movable = page && pins_block_movable(page);
		}
		if (leaf->slot[i] && pfn >= start && pfn <= last) {
			struct folio *folio = pfn_folio(pfn);
			bool movable = leaf_movable(leaf, folio);

			for (rec = rec_first(&leaf->slot[i], &it); rec; rec = rec_next(&it))
				rec_set_movable(rec, folio, movable);
		}
		used = leaf->used;
		/* A list may be as long as many folios. */
		raw_spin_unlock_irqrestore(&leaf->lock, flags);
		pfn += 1UL << shift;
	} while (used && ++i < PINS_LEAF_SLOTS);
	rcu_read_unlock();
}

/* Pageblocks whose type has changed, by the bucket of pins_filter that they are in */
static DECLARE_BITMAP(pins_changed, 1 << PINS_FILTER_BITS);

static void pins_blocks_update(struct work_struct *work)
{
	unsigned long bit, block, index;
	struct pins_leaf *leaf;

	for_each_set_bit(bit, pins_changed, 1 << PINS_FILTER_BITS) {
		if (!test_and_clear_bit(bit, pins_changed))
			continue;
		for (block = bit; block * PINS_FILTER_PAGES < max_pfn;
		     block += 1 << PINS_FILTER_BITS) {
			unsigned long start = block * PINS_FILTER_PAGES;
			unsigned long last = start + PINS_FILTER_PAGES - 1;

			rcu_read_lock();
			xa_for_each_range(&pins_small, index, leaf,
					  start >> PINS_LEAF_SHIFT,
					  last >> PINS_LEAF_SHIFT)
				pins_leaf_update(leaf, start, last);
			leaf = xa_load(&pins_large, block >> PINS_LEAF_SHIFT);
			if (leaf)
				pins_leaf_update(leaf, start, last);
			rcu_read_unlock();
			cond_resched();
		}
	}
}

static DECLARE_WORK(pins_blocks_work, pins_blocks_update);

static void pins_blocks_irq(struct irq_work *work)
{
	schedule_work(&pins_blocks_work);
}

static struct irq_work pins_blocks_irq_work = IRQ_WORK_INIT(pins_blocks_irq);

/*
 * As zone->lock is held, the rest is left to a worker. Leaves that are new look for
 * themselves: whoever makes one looks at the type after it is in the map, and the worker
 * looks at the map after the type has been set. Not behind pins_key: an empty leaf may
 * outlive that, and be used again.
 */
void __pins_block_changed(struct page *page)
{
	unsigned long pfn = pageblock_start_pfn(page_to_pfn(page));
	unsigned long end = pfn + pageblock_nr_pages;

	smp_mb(); /* pairs with leaf_create() */
	if (xa_empty(&pins_small) && xa_empty(&pins_large))
		return;
	for (; pfn < end; pfn += PINS_FILTER_PAGES)
		set_bit(pfn / PINS_FILTER_PAGES % (1 << PINS_FILTER_BITS), pins_changed);
	irq_work_queue(&pins_blocks_irq_work);
}
