// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pinned pages of files.
 *
 * A file system prepares a page before somebody may write to it, and takes the right to
 * write away before it writes the page out: for its journal, its checksums, its copies of
 * blocks. Who has pinned the page goes on writing all the same, and nobody is told.
 *
 * So GUP refuses to pin such memory for the long term, to be written. Those who ask get
 * EFAULT, which names neither the file nor the reason: both are said here. Short-term
 * pins, as of direct I/O into a mapped file, are let through. What goes under writeback
 * while it is pinned is counted for the cgroup whose page cache it is: that has to know,
 * whoever has pinned it.
 *
 * What is pinned all the same, for the long term and to be written, is file_write in
 * pins.stat: see owner_writes_file() in map.c.
 *
 * Copyright (C) 2026 the pins authors
 */

#include <linux/fs.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/pagemap.h>

#include <trace/events/pins.h>

#include "../internal.h"
#include "files.h"
#include "internal.h"

/* What GUP refuses, see writable_file_mapping_allowed(); it has other reasons as well. */
static bool file_refuses(struct vm_area_struct *vma, unsigned int gup_flags)
{
	return (gup_flags & FOLL_LONGTERM) && (gup_flags & FOLL_WRITE) && vma->vm_file &&
	       !(vma->vm_flags & (VM_IO | VM_PFNMAP)) && !vma_is_fsdax(vma) &&
	       vma_needs_dirty_tracking(vma);
}

/* The part of pins_file_refused() that needs no inlining. */
void __pins_file_refused(struct vm_area_struct *vma, unsigned long addr,
			 unsigned int gup_flags)
{
	struct pins_cgroup *pins;

	if (!file_refuses(vma, gup_flags))
		return;
	pins = get_pins_cgroup_from_mm(vma->vm_mm);
	if (trace_pins_file_refused_enabled())
		trace_pins_file_refused(pins ? pins_cgroup_ino(pins_cgroup_id(pins)) : 0,
					file_inode(vma->vm_file),
					linear_page_index(vma, addr));
	if (!pins)
		return;
	pins_cgroup_count(pins, PINS_FILE_REFUSED, 1);
	put_pins_cgroup(pins);
}

/* The part of pins_file_writeback() that needs no inlining. */
void __pins_file_writeback(struct folio *folio)
{
	struct address_space *mapping = folio_mapping(folio);
	unsigned int pins = pins_folio_pins(folio);
	long nr_pages = folio_nr_pages(folio);
	struct pins_cgroup *owner;

	/* It may only be mapped very often. Swap has no inode, and swaps out no pins. */
	if (!pins || !mapping || !mapping->host)
		return;
	rcu_read_lock();
	owner = pins_folio_owner(folio);
	if (owner)
		pins_cgroup_count(owner, PINS_WRITEBACK_PINNED, nr_pages);
	if (trace_pins_file_writeback_enabled())
		trace_pins_file_writeback(owner ? pins_cgroup_ino(pins_cgroup_id(owner)) : 0,
					  pins_map_pinner(folio), mapping->host,
					  folio->index, nr_pages, pins);
	rcu_read_unlock();
}
