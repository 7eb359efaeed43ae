// SPDX-License-Identifier: GPL-2.0-only
/*
 * A migration failed: whose pins?
 *
 * When memory that has to move cannot, because it is pinned, each cgroup with
 * long-term pins in the way is told so: in its pins.events, and in pins.stat. The
 * kernel log and a tracepoint say how many pages whose pins have kept. Pins that no
 * record is about are either short-term ones, or of tasks in the root cgroup: which
 * of the two, the kernel does not know.
 *
 * An allocation may try many places. It notes where pins were in its way, and only when
 * it has failed for good it calls pins_report_blocked(), once. All of these
 * places are looked at if it has waited there in vain. If not, failing is to cost no
 * more than it costs without us: then it is some folios from the first pin on.
 *
 * What is in the way without being pinned is told of as well: pages that are under
 * writeback, that others refer to, or that are not to be moved. It is in the log if pins
 * are, and else only in a tracepoint. Some could be moved by all that can be seen here:
 * nobody has tried any more, or a file system holds on to their buffers.
 *
 * Compaction has other memory to choose from, and fails all the time: there it is
 * sampled what is in its way.
 *
 * Copyright (C) 2026 the pins authors
 */

#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/ratelimit.h>
#include <linux/slab.h>

#include <trace/events/pins.h>

#include "../internal.h"
#include "blocked.h"
#include "internal.h"

/* One folio in so many that were in the way of compaction is looked up. */
#define PINS_BLOCKED_SAMPLE	32

static DEFINE_PER_CPU(unsigned int, pins_blocked_seen);

#ifdef CONFIG_PINS_WAIT

/* A cgroup that is in the way */
struct pins_blocker {
	struct pins_cgroup *pins;
	unsigned long pages;		/* that it has pinned first */
	unsigned long shared;		/* that others have, too */
};

/* What has kept a range from being emptied */
struct pins_blockers {
	struct xarray cgroups;		/* by number of the cgroup */
	unsigned long nr;
	unsigned long pinned;		/* pages; all of them are in one of these: */
	unsigned long uncharged;	/* no record tells whose pins */
	unsigned long unknown;		/* there was no memory to remember whose */
	unsigned long pages[PINS_LONG + 1];	/* that were seen, by what they say */
};

/* The folio of an entry has so many pages in the range. */
static void blockers_entry(struct pins_blockers *blockers, struct pins_entry *entry,
			   bool first, unsigned long nr_pages)
{
	unsigned int i;

	for (i = 0; i < PINS_ENTRY_OWNERS && entry->owner[i]; i++) {
		u32 id = pins_cgroup_id(entry->owner[i]);
		struct pins_blocker *blocker = xa_load(&blockers->cgroups, id);

		if (!blocker) {
			/* Who allocates may have to do without I/O. */
			blocker = kzalloc(sizeof(*blocker), GFP_NOIO);
			if (blocker && xa_err(xa_store(&blockers->cgroups, id, blocker,
						       GFP_NOIO))) {
				kfree(blocker);
				blocker = NULL;
			}
			if (blocker) {
				blockers->nr++;
				blocker->pins = entry->owner[i];
				entry->owner[i] = NULL;
			}
		}
		if (blocker && first && !i)
			blocker->pages += nr_pages;
		else if (blocker)
			blocker->shared += nr_pages;
		else if (first && !i)
			blockers->unknown += nr_pages;
	}
}

static void blockers_folio(struct pins_blockers *blockers, unsigned long pfn,
			   unsigned long nr_pages)
{
	struct pins_entry entry;
	unsigned int skip = 0;
	bool more;

	do {
		/* Its pins may have gone in the meantime. */
		more = pins_map_next(pfn, skip, &entry);
		if (!more || entry.pfn != pfn) {
			if (!skip)
				blockers->uncharged += nr_pages;
			entry.nr = 0;
		} else {
			blockers_entry(blockers, &entry, !skip, nr_pages);
		}
		if (more)
			pins_entry_put(&entry);
		cond_resched();
		skip += PINS_ENTRY_OWNERS;
	} while (skip < entry.nr);
}

/* Look at so many folios of a range. */
static void blockers_find(struct pins_blockers *blockers, unsigned long pfn,
			  unsigned long end_pfn, unsigned long most)
{
	unsigned long next, first, nr_pages;

	for (; pfn < end_pfn && most; pfn = next) {
		enum pins_obstacle obstacle;

		first = pfn;
		obstacle = pins_obstacle(&first, &next);
		cond_resched();
		if (obstacle != PINS_GONE)
			most--;
		nr_pages = min(next, end_pfn) - pfn;
		blockers->pages[obstacle] += nr_pages;
		if (obstacle < PINS_SHORT)
			continue;
		blockers->pinned += nr_pages;
		if (obstacle == PINS_LONG)
			blockers_folio(blockers, first, nr_pages);
		else
			blockers->uncharged += nr_pages;
	}
}

/* How many of the cgroups are named in the log */
#define PINS_BLOCKERS_NAMED	4

/*
 * Name those with most pages, in one line. It is as severe as what the kernel says
 * itself: offlining dumps pages, gigantic pages are allocated with %__GFP_NOWARN.
 */
static void blockers_log(struct pins_blockers *blockers,
			 const struct pins_blocked *blocked)
{
	struct pins_blocker *top[PINS_BLOCKERS_NAMED] = {}, *blocker;
	unsigned long named = 0, index;
	char *line, *path;
	int i, j, len;

	line = kmalloc(2 * PATH_MAX, GFP_NOIO);
	if (!line)
		return;
	path = line + PATH_MAX;

	xa_for_each(&blockers->cgroups, index, blocker) {
		for (i = 0; i < PINS_BLOCKERS_NAMED; i++)
			if (!top[i] || blocker->pages > top[i]->pages)
				break;
		if (i == PINS_BLOCKERS_NAMED)
			continue;
		for (j = PINS_BLOCKERS_NAMED - 1; j > i; j--)
			top[j] = top[j - 1];
		top[i] = blocker;
	}

	len = scnprintf(line, PATH_MAX,
			"pins: %s [mem %#018llx-%#018llx] failed: %lu of %lu pages pinned",
			blocked->offline ? "offlining" : "emptying",
			(u64)PFN_PHYS(blocked->start_pfn),
			(u64)PFN_PHYS(blocked->end_pfn) - 1, blockers->pinned,
			blocked->end_pfn - blocked->start_pfn);
	for (i = 0; i < PINS_BLOCKERS_NAMED && top[i]; i++) {
		pins_cgroup_path(top[i]->pins, path, 200);
		len += scnprintf(line + len, PATH_MAX - len, ", %lu by ",
				 top[i]->pages);
		/* Tenants choose the names. */
		len += string_escape_mem(path, strlen(path), line + len,
					 PATH_MAX - len, ESCAPE_ANY_NP | ESCAPE_APPEND,
					 " \\");
		line[len] = 0;
		if (top[i]->shared)
			len += scnprintf(line + len, PATH_MAX - len,
					 " (and %lu with others)", top[i]->shared);
		named += top[i]->pages;
	}
	if (blockers->nr > PINS_BLOCKERS_NAMED)
		len += scnprintf(line + len, PATH_MAX - len, ", %lu by %lu more cgroups",
				 blockers->pinned - blockers->uncharged - named,
				 blockers->nr - PINS_BLOCKERS_NAMED);
	else if (blockers->unknown)
		len += scnprintf(line + len, PATH_MAX - len, ", %lu by other cgroups",
				 blockers->unknown);
	if (blockers->uncharged)
		len += scnprintf(line + len, PATH_MAX - len,
				 ", %lu short-term or by the root cgroup",
				 blockers->uncharged);
	if (blockers->pages[PINS_WRITEBACK])
		len += scnprintf(line + len, PATH_MAX - len, "; %lu under writeback",
				 blockers->pages[PINS_WRITEBACK]);
	if (blockers->pages[PINS_BUSY])
		len += scnprintf(line + len, PATH_MAX - len, "; %lu referenced by others",
				 blockers->pages[PINS_BUSY]);
	if (blocked->offline)
		pr_warn("%s\n", line);
	else
		pr_info("%s\n", line);
	kfree(line);
}

/* Each sort has its own, so that none is missed for the sake of the other. */
static bool blockers_ratelimit(bool offline)
{
	static DEFINE_RATELIMIT_STATE(offlining, DEFAULT_RATELIMIT_INTERVAL,
				      DEFAULT_RATELIMIT_BURST);
	static DEFINE_RATELIMIT_STATE(emptying, DEFAULT_RATELIMIT_INTERVAL,
				      DEFAULT_RATELIMIT_BURST);
	struct ratelimit_state *rs = offline ? &offlining : &emptying;

	/* Missed lines are in the tracepoint. */
	ratelimit_set_flags(rs, RATELIMIT_MSG_ON_RELEASE);
	return __ratelimit(rs);
}

void __pins_report_blocked(const struct pins_blocked *blocked)
{
	unsigned long start_pfn = blocked->start_pfn, end_pfn = blocked->end_pfn;
	struct pins_blockers blockers = {};
	struct pins_blocker *blocker;
	unsigned long index;

	if (!blocked->pinned && !trace_pins_blocked_range_enabled())
		return;
	xa_init(&blockers.cgroups);
	if (blocked->waited)
		blockers_find(&blockers, start_pfn, end_pfn, ULONG_MAX);
	else
		blockers_find(&blockers, max(blocked->pfn, start_pfn), end_pfn, PINS_LOOK);
	trace_pins_blocked_range(start_pfn, end_pfn, blockers.pinned,
				 blockers.pages[PINS_WRITEBACK], blockers.pages[PINS_BUSY],
				 blockers.pages[PINS_FIXED], blockers.pages[PINS_READY],
				 blocked->offline);
	if (!blockers.pinned)
		return;

	/* What is said of a cgroup does not depend on whether somebody traces. */
	if (blocked->pinned && blockers_ratelimit(blocked->offline))
		blockers_log(&blockers, blocked);
	if (blockers.uncharged && blocked->pinned)
		trace_pins_blocked(0, start_pfn, end_pfn, blockers.uncharged, 0,
				   blocked->offline);
	xa_for_each(&blockers.cgroups, index, blocker) {
		if (blocked->pinned) {
			trace_pins_blocked(pins_cgroup_ino(index), start_pfn, end_pfn,
					   blocker->pages, blocker->shared,
					   blocked->offline);
			pins_cgroup_blocked(blocker->pins, blocked->offline ?
					    PINS_BLOCKED_OFFLINE : PINS_BLOCKED_CONTIG);
		}
		put_pins_cgroup(blocker->pins);
		kfree(blocker);
	}
	xa_destroy(&blockers.cgroups);
}
EXPORT_SYMBOL_GPL(__pins_report_blocked);

#endif /* CONFIG_PINS_WAIT */

void __pins_blocked_compact(struct folio *folio)
{
	/* On another CPU meanwhile, it is one more or less. */
	if (raw_cpu_inc_return(pins_blocked_seen) % PINS_BLOCKED_SAMPLE ||
	    !atomic_read(pins_filter_of(folio)))
		return;
	pins_map_count(folio, PINS_BLOCKED_COMPACT, PINS_BLOCKED_SAMPLE);
}

void __pins_blocked_compact_list(struct list_head *folios)
{
	struct folio *folio;

	list_for_each_entry(folio, folios, lru)
		if (pins_folio_pins(folio))
			__pins_blocked_compact(folio);
}
