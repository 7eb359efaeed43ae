/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Writeback meets pinned folios: what fsync(), flusher threads and file systems call.
 *
 * Copyright (C) 2026 the pins authors
 */
#ifndef _LINUX_PINS_WRITEBACK_H
#define _LINUX_PINS_WRITEBACK_H

#include <linux/fs.h>
#include <linux/writeback.h>

#ifdef CONFIG_PINS_WRITEBACK

bool __pins_leave_folio(struct folio *folio, struct writeback_control *wbc);
int __pins_do_writepages(struct address_space *mapping, struct writeback_control *wbc);
int __pins_sync_range(struct address_space *mapping, loff_t start, loff_t end);

/**
 * pins_leave_folio() - is a folio to be left dirty, because it is pinned?
 * @folio: the folio, locked and dirty, and not under writeback
 * @wbc: how the file system is to write
 *
 * To be asked by ->writepages() where it may still go on to the next folio, as it does for
 * one that is clean. If it is not, nobody has write access by a page table afterwards.
 *
 * Context: process context, as folio_mkclean().
 */
static inline bool pins_leave_folio(struct folio *folio, struct writeback_control *wbc)
{
	return unlikely(wbc->leave) && __pins_leave_folio(folio, wbc);
}

/**
 * pins_do_writepages() - do_writepages() for the pages of an inode that is dirty
 * @mapping: its mapping
 * @wbc: what is to be written
 *
 * It leaves what is pinned if this is background writeback, and for sync() waits for it.
 * Only a shared mapping that can be written can give pins that write.
 *
 * Context: process context, sleeps; no folio is locked.
 * Return: as do_writepages().
 */
static inline int pins_do_writepages(struct address_space *mapping,
				     struct writeback_control *wbc)
{
	if (mapping_writably_mapped(mapping))
		return __pins_do_writepages(mapping, wbc);
	return do_writepages(mapping, wbc);
}

/**
 * pins_sync_range() - before fsync(): write what is not pinned, and wait for what is
 * @mapping: the mapping of the file
 * @start: the first byte that is to be synced
 * @end: the last one
 *
 * Context: process context, sleeps for vm.pins_drain_max_us at most; the caller holds
 * nothing that those need who release pins.
 * Return: 0, or what has gone wrong; the data may be lost, so fsync() has to say so.
 */
static inline int pins_sync_range(struct address_space *mapping, loff_t start, loff_t end)
{
	return mapping_writably_mapped(mapping) ? __pins_sync_range(mapping, start, end) : 0;
}

#else

static inline bool pins_leave_folio(struct folio *folio, struct writeback_control *wbc)
{
	return false;
}

static inline int pins_do_writepages(struct address_space *mapping,
				     struct writeback_control *wbc)
{
	return do_writepages(mapping, wbc);
}

static inline int pins_sync_range(struct address_space *mapping, loff_t start, loff_t end)
{
	return 0;
}

#endif

#endif /* _LINUX_PINS_WRITEBACK_H */
