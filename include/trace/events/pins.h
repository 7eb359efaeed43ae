/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM pins

#if !defined(_TRACE_PINS_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_PINS_H

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
 * A request was refused: by whose limit, its first folio, and how many bytes of
 * memory new to the cgroup it asked for.
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

/*
 * A request found a folio of it being moved, and waits, so many ns at most; or it
 * has waited; or that was all that it may wait. For the root cgroup, cgroup is 0.
 */
DECLARE_EVENT_CLASS(pins_wait,

	TP_PROTO(u64 cgroup, unsigned long pfn, u64 ns),

	TP_ARGS(cgroup, pfn, ns),

	TP_STRUCT__entry(
		__field(u64,		cgroup)
		__field(unsigned long,	pfn)
		__field(u64,		ns)
	),

	TP_fast_assign(
		__entry->cgroup	= cgroup;
		__entry->pfn	= pfn;
		__entry->ns	= ns;
	),

	TP_printk("cgroup=%llu pfn=0x%lx ns=%llu",
		  __entry->cgroup, __entry->pfn, __entry->ns)
);

DEFINE_EVENT(pins_wait, pins_wait_begin,
	TP_PROTO(u64 cgroup, unsigned long pfn, u64 ns),
	TP_ARGS(cgroup, pfn, ns)
);

DEFINE_EVENT(pins_wait, pins_wait_end,
	TP_PROTO(u64 cgroup, unsigned long pfn, u64 ns),
	TP_ARGS(cgroup, pfn, ns)
);

DEFINE_EVENT(pins_wait, pins_wait_timeout,
	TP_PROTO(u64 cgroup, unsigned long pfn, u64 ns),
	TP_ARGS(cgroup, pfn, ns)
);

#endif /* _TRACE_PINS_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
