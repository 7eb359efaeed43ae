/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory that is moved: what is told to its cgroup, and what is left alone. What
 * migration, compaction, NUMA balancing, KSM and khugepaged call.
 *
 * Copyright (C) 2026 the pins authors
 */
#ifndef _MM_PINS_MIGRATE_H
#define _MM_PINS_MIGRATE_H

#include <linux/migrate_mode.h>
#include <linux/pins.h>
#include <linux/pins_cgroup.h>

struct folio;

u64 __pins_move_begin(void);
void __pins_folio_moved(struct folio *folio, enum pins_stat_item item, long nr_pages,
			u64 start);
void __pins_folio_migrated(struct folio *folio, int reason, u64 start);
bool __pins_folio_stays(struct folio *folio, long nr_pages);

/**
 * pins_move_begin() - memory is going to be moved
 *
 * Context: any.
 * Return: when, for those who are told that it was; 0 if nobody asks.
 */
static inline u64 pins_move_begin(void)
{
	if (IS_ENABLED(CONFIG_PINS_MIGRATE) && static_branch_unlikely(&pins_key))
		return __pins_move_begin();
	return 0;
}

/**
 * pins_folio_moved() - memory has been moved
 * @folio: of whose cgroup it is; the caller keeps it
 * @item: why, %PINS_MOVED_COLLAPSE or %PINS_MOVED_KSM
 * @nr_pages: how many pages
 * @start: what pins_move_begin() returned
 *
 * Context: any but NMI.
 */
static inline void pins_folio_moved(struct folio *folio, enum pins_stat_item item,
				    long nr_pages, u64 start)
{
	if (IS_ENABLED(CONFIG_PINS_MIGRATE) && start)
		__pins_folio_moved(folio, item, nr_pages, start);
}

/**
 * pins_folio_migrated() - a folio has been migrated
 * @folio: the new one, which has its charge; the caller keeps it
 * @reason: an enum migrate_reason
 * @start: what pins_move_begin() returned
 *
 * Context: process context.
 */
static inline void pins_folio_migrated(struct folio *folio, int reason, u64 start)
{
	if (IS_ENABLED(CONFIG_PINS_MIGRATE) && start)
		__pins_folio_migrated(folio, reason, start);
}

/**
 * pins_folio_stays() - is memory to be left where it is, if it need not move?
 * @folio: the memory, which may change under the caller's hands
 * @nr_pages: how many pages of it are left alone then
 *
 * Who only moves memory because that is convenient asks: compaction, NUMA balancing, KSM,
 * khugepaged.
 *
 * Context: any but NMI.
 */
static inline bool pins_folio_stays(struct folio *folio, long nr_pages)
{
	return pins_any_stays() && __pins_folio_stays(folio, nr_pages);
}

#endif /* _MM_PINS_MIGRATE_H */
