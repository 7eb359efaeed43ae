// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that is moved.
 *
 * Who does DMA by page faults (SVA), or may not be late, loses time whenever memory of his
 * is moved, and pins it to be safe: then it is in the way of those, too, that have to move
 * it. Most that move memory only find that convenient. So count, for each cgroup, why its
 * memory was moved; and let who may take from others (pins.migrate) have it left alone by
 * them, without a pin.
 *
 * The wish is from the discussion of mempinfd(2), and so is the answer that a pin is the
 * wrong means: "controlling when migration actually happens" (David Hildenbrand, Feb 2021).
 *
 * Copyright (C) 2026 the pins authors
 */

#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/mm.h>
#include <linux/percpu.h>

#include "internal.h"
#include "migrate.h"

/* Nanoseconds that are not counted yet */
static DEFINE_PER_CPU(u32, moved_ns);

u64 __pins_move_begin(void)
{
	return ktime_get_ns();
}

void __pins_folio_moved(struct folio *folio, enum pins_stat_item item, long nr_pages,
			u64 start)
{
	u64 ns = ktime_get_ns() - start;
	struct pins_cgroup *pins;
	u32 rest;

	rcu_read_lock();
	pins = pins_folio_owner(folio);
	if (pins) {
		/* What is less than a microsecond is for the next; some may be lost. */
		ns += raw_cpu_read(moved_ns);
		pins_cgroup_count(pins, item, nr_pages);
		pins_cgroup_count(pins, PINS_MOVED_USEC,
				  div_u64_rem(ns, NSEC_PER_USEC, &rest));
		raw_cpu_write(moved_ns, rest);
	}
	rcu_read_unlock();
}

static enum pins_stat_item moved_why(int reason)
{
	switch (reason) {
	case MR_COMPACTION:
		return PINS_MOVED_COMPACT;
	case MR_NUMA_MISPLACED:
		return PINS_MOVED_NUMA;
	case MR_CONTIG_RANGE:
		return PINS_MOVED_CONTIG;
	case MR_MEMORY_HOTPLUG:
		return PINS_MOVED_OFFLINE;
	case MR_DEMOTION:
		return PINS_MOVED_DEMOTE;
	case MR_LONGTERM_PIN:
		return PINS_MOVED_STEER;
	default:
		return PINS_MOVED_OTHER;
	}
}

void __pins_folio_migrated(struct folio *folio, int reason, u64 start)
{
	__pins_folio_moved(folio, moved_why(reason), folio_nr_pages(folio), start);
}

bool __pins_folio_stays(struct folio *folio, long nr_pages)
{
	bool ret;

	rcu_read_lock();
	/* Who asks may have no reference: the answer may be about what it was. */
	ret = pins_cgroup_stays(pins_folio_owner(folio), nr_pages);
	rcu_read_unlock();
	return ret;
}
