/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Pinned pages of files: what GUP and writeback call.
 *
 * Copyright (C) 2026 the pins authors
 */
#ifndef _MM_PINS_FILES_H
#define _MM_PINS_FILES_H

#include <linux/mm.h>
#include <linux/pins.h>

void __pins_file_refused(struct vm_area_struct *vma, unsigned long addr,
			 unsigned int gup_flags);
void __pins_file_writeback(struct folio *folio);

/**
 * pins_file_refused() - GUP may not pin memory of a mapping
 * @vma: the mapping
 * @addr: where the request had got to
 * @gup_flags: what it asked for
 *
 * It is counted if it was refused because the file system has to know who writes.
 *
 * Context: process context; the caller holds mmap_lock.
 */
static inline void pins_file_refused(struct vm_area_struct *vma, unsigned long addr,
				     unsigned int gup_flags)
{
	if (IS_ENABLED(CONFIG_PINS_FILES) && pins_enabled())
		__pins_file_refused(vma, addr, gup_flags);
}

/**
 * pins_file_writeback() - a folio goes under writeback
 * @folio: the folio, locked
 *
 * Context: any but NMI.
 */
static __always_inline void pins_file_writeback(struct folio *folio)
{
	if (IS_ENABLED(CONFIG_PINS_FILES) && pins_enabled() &&
	    unlikely(folio_maybe_dma_pinned(folio)))
		__pins_file_writeback(folio);
}

#endif /* _MM_PINS_FILES_H */
