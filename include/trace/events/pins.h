/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM pins

#if !defined(_TRACE_PINS_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_PINS_H

#include <linux/fs.h>
#include <linux/kdev_t.h>
#include <linux/tracepoint.h>
#include <linux/types.h>

/* A folio is charged to a cgroup, or no longer. */
DECLARE_EVENT_CLASS(pins_folio,

	TP_PROTO(u64 cgroup, unsigned long pfn, unsigned int order),

	TP_ARGS(cgroup, pfn, order),

	TP_STRUCT__entry(
		__field(u64,		cgroup)
		__field(unsigned long,	pfn)
		__field(unsigned int,	order)
	),

	TP_fast_assign(
		__entry->cgroup	= cgroup;
		__entry->pfn	= pfn;
		__entry->order	= order;
	),

	TP_printk("cgroup=%llu pfn=0x%lx order=%u bytes=%lu",
		  __entry->cgroup, __entry->pfn, __entry->order,
		  PAGE_SIZE << __entry->order)
);

DEFINE_EVENT(pins_folio, pins_charge,
	TP_PROTO(u64 cgroup, unsigned long pfn, unsigned int order),
	TP_ARGS(cgroup, pfn, order)
);

DEFINE_EVENT(pins_folio, pins_uncharge,
	TP_PROTO(u64 cgroup, unsigned long pfn, unsigned int order),
	TP_ARGS(cgroup, pfn, order)
);

/*
 * A request was refused: by whose limit, its first folio, or 0 if it had not pinned
 * anything yet, and how many bytes of memory new to the cgroup it asked for, as far as it
 * was looked at.
 */
TRACE_EVENT(pins_refuse,

	TP_PROTO(u64 cgroup, unsigned long pfn, unsigned int order,
		 unsigned long nr_pages),

	TP_ARGS(cgroup, pfn, order, nr_pages),

	TP_STRUCT__entry(
		__field(u64,		cgroup)
		__field(unsigned long,	pfn)
		__field(unsigned int,	order)
		__field(u64,		bytes)
	),

	TP_fast_assign(
		__entry->cgroup	= cgroup;
		__entry->pfn	= pfn;
		__entry->order	= order;
		__entry->bytes	= (u64)nr_pages * PAGE_SIZE;
	),

	TP_printk("cgroup=%llu pfn=0x%lx order=%u bytes=%llu",
		  __entry->cgroup, __entry->pfn, __entry->order,
		  __entry->bytes)
);

#ifdef CONFIG_PINS_REVOKE
/* The pins of a buffer were taken back. */
TRACE_EVENT(pins_revoke,

	TP_PROTO(u64 cgroup, unsigned long nr_pages),

	TP_ARGS(cgroup, nr_pages),

	TP_STRUCT__entry(
		__field(u64,		cgroup)
		__field(unsigned long,	nr_pages)
	),

	TP_fast_assign(
		__entry->cgroup		= cgroup;
		__entry->nr_pages	= nr_pages;
	),

	TP_printk("cgroup=%llu pages=%lu", __entry->cgroup, __entry->nr_pages)
);

/* A part of it was pinned again, which took so long. */
TRACE_EVENT(pins_repin,

	TP_PROTO(u64 cgroup, unsigned long nr_pages, u64 usecs),

	TP_ARGS(cgroup, nr_pages, usecs),

	TP_STRUCT__entry(
		__field(u64,		cgroup)
		__field(unsigned long,	nr_pages)
		__field(u64,		usecs)
	),

	TP_fast_assign(
		__entry->cgroup		= cgroup;
		__entry->nr_pages	= nr_pages;
		__entry->usecs		= usecs;
	),

	TP_printk("cgroup=%llu pages=%lu usecs=%llu", __entry->cgroup,
		  __entry->nr_pages, __entry->usecs)
);
#endif /* CONFIG_PINS_REVOKE */

#ifdef CONFIG_PINS_BLOCKED
/*
 * Memory that had to move could not, on account of so many pages that this cgroup
 * has pinned, and more that it has pinned besides others. For pins that are not
 * charged, cgroup is 0.
 */
TRACE_EVENT(pins_blocked,

	TP_PROTO(u64 cgroup, unsigned long start_pfn, unsigned long end_pfn,
		 unsigned long nr_pages, unsigned long nr_shared, bool offline),

	TP_ARGS(cgroup, start_pfn, end_pfn, nr_pages, nr_shared, offline),

	TP_STRUCT__entry(
		__field(u64,		cgroup)
		__field(unsigned long,	start_pfn)
		__field(unsigned long,	end_pfn)
		__field(unsigned long,	nr_pages)
		__field(unsigned long,	nr_shared)
		__field(bool,		offline)
	),

	TP_fast_assign(
		__entry->cgroup		= cgroup;
		__entry->start_pfn	= start_pfn;
		__entry->end_pfn	= end_pfn;
		__entry->nr_pages	= nr_pages;
		__entry->nr_shared	= nr_shared;
		__entry->offline	= offline;
	),

	TP_printk("cgroup=%llu start_pfn=0x%lx end_pfn=0x%lx pages=%lu shared=%lu offline=%d",
		  __entry->cgroup, __entry->start_pfn, __entry->end_pfn,
		  __entry->nr_pages, __entry->nr_shared, __entry->offline)
);

/*
 * Memory that had to move could not: how many of its pages were pinned, by whomever; how
 * many were under writeback, were referred to by others, are the kernel's or just being
 * moved, or could be moved as far as can be seen. Not all of it may have been looked at.
 */
TRACE_EVENT(pins_blocked_range,

	TP_PROTO(unsigned long start_pfn, unsigned long end_pfn, unsigned long pinned,
		 unsigned long writeback, unsigned long referenced, unsigned long fixed,
		 unsigned long movable, bool offline),

	TP_ARGS(start_pfn, end_pfn, pinned, writeback, referenced, fixed, movable, offline),

	TP_STRUCT__entry(
		__field(unsigned long,	start_pfn)
		__field(unsigned long,	end_pfn)
		__field(unsigned long,	pinned)
		__field(unsigned long,	writeback)
		__field(unsigned long,	referenced)
		__field(unsigned long,	fixed)
		__field(unsigned long,	movable)
		__field(bool,		offline)
	),

	TP_fast_assign(
		__entry->start_pfn	= start_pfn;
		__entry->end_pfn	= end_pfn;
		__entry->pinned		= pinned;
		__entry->writeback	= writeback;
		__entry->referenced	= referenced;
		__entry->fixed		= fixed;
		__entry->movable	= movable;
		__entry->offline	= offline;
	),

	TP_printk("start_pfn=0x%lx end_pfn=0x%lx pinned=%lu writeback=%lu referenced=%lu fixed=%lu movable=%lu offline=%d",
		  __entry->start_pfn, __entry->end_pfn, __entry->pinned,
		  __entry->writeback, __entry->referenced, __entry->fixed,
		  __entry->movable, __entry->offline)
);
#endif /* CONFIG_PINS_BLOCKED */

#ifdef CONFIG_PINS_FILES
/*
 * A request of this cgroup to pin for the long term, to write, was refused with EFAULT,
 * because of this page of a file whose file system has to know when it changes.
 */
TRACE_EVENT(pins_file_refused,

	TP_PROTO(u64 cgroup, struct inode *inode, pgoff_t index),

	TP_ARGS(cgroup, inode, index),

	TP_STRUCT__entry(
		__field(u64,		cgroup)
		__field(dev_t,		dev)
		__field(u64,		ino)
		__field(u64,		offset)
	),

	TP_fast_assign(
		__entry->cgroup	= cgroup;
		__entry->dev	= inode->i_sb->s_dev;
		__entry->ino	= inode->i_ino;
		__entry->offset	= (u64)index << PAGE_SHIFT;
	),

	TP_printk("cgroup=%llu dev=%d:%d ino=%llu offset=%llu",
		  __entry->cgroup, MAJOR(__entry->dev), MINOR(__entry->dev),
		  __entry->ino, __entry->offset)
);

/*
 * Pages of a file went under writeback while they had so many pins. They are charged to
 * the memory of one cgroup; pinner is one that has pinned them for the long term, or 0.
 */
TRACE_EVENT(pins_file_writeback,

	TP_PROTO(u64 cgroup, u64 pinner, struct inode *inode, pgoff_t index,
		 unsigned long nr_pages, unsigned int pins),

	TP_ARGS(cgroup, pinner, inode, index, nr_pages, pins),

	TP_STRUCT__entry(
		__field(u64,		cgroup)
		__field(u64,		pinner)
		__field(dev_t,		dev)
		__field(u64,		ino)
		__field(u64,		offset)
		__field(unsigned long,	nr_pages)
		__field(unsigned int,	pins)
	),

	TP_fast_assign(
		__entry->cgroup		= cgroup;
		__entry->pinner		= pinner;
		__entry->dev		= inode->i_sb->s_dev;
		__entry->ino		= inode->i_ino;
		__entry->offset		= (u64)index << PAGE_SHIFT;
		__entry->nr_pages	= nr_pages;
		__entry->pins		= pins;
	),

	TP_printk("cgroup=%llu pinner=%llu dev=%d:%d ino=%llu offset=%llu pages=%lu pins=%u",
		  __entry->cgroup, __entry->pinner, MAJOR(__entry->dev),
		  MINOR(__entry->dev), __entry->ino, __entry->offset,
		  __entry->nr_pages, __entry->pins)
);
#endif /* CONFIG_PINS_FILES */

#endif /* _TRACE_PINS_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
