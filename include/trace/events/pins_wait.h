/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM pins
#define TRACE_INCLUDE_FILE pins_wait

#if !defined(_TRACE_PINS_WAIT_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_PINS_WAIT_H

#include <linux/tracepoint.h>
#include <linux/types.h>

/* If it is in no cgroup but the root, or nobody knows, cgroup is 0. */
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

/* A request found a folio of it being moved, and waits, so many ns at most */
DEFINE_EVENT(pins_wait, pins_wait_begin,
	TP_PROTO(u64 cgroup, unsigned long pfn, u64 ns),
	TP_ARGS(cgroup, pfn, ns));

/* It has waited */
DEFINE_EVENT(pins_wait, pins_wait_end,
	TP_PROTO(u64 cgroup, unsigned long pfn, u64 ns),
	TP_ARGS(cgroup, pfn, ns));

/* That was all that it may wait. */
DEFINE_EVENT(pins_wait, pins_wait_timeout,
	TP_PROTO(u64 cgroup, unsigned long pfn, u64 ns),
	TP_ARGS(cgroup, pfn, ns));

#endif /* _TRACE_PINS_WAIT_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
