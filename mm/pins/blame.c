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
 * Compaction has other memory to choose from, and fails all the time: there it is
 * sampled what is in its way.
 *
 * And who has to free a DIMM finds in debugfs who has pinned what.
 *
 * Copyright (C) 2026 the pins authors
 */

#include <linux/debugfs.h>
#include <linux/limits.h>
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/ratelimit.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string_helpers.h>
#include <linux/xarray.h>

#include <trace/events/pins.h>

#include "../internal.h"
#include "internal.h"

/* One folio in so many that were in the way of compaction is looked up. */
#define PINS_BLAME_SAMPLE	32

static DEFINE_PER_CPU(unsigned int, pins_blame_seen);

#ifdef CONFIG_MEMORY_ISOLATION

/* A cgroup that is in the way */
struct pins_culprit {
	struct pins_cgroup *pins;
	unsigned long pages;		/* that it has pinned first */
	unsigned long shared;		/* that others have, too */
};

/* What has kept a range from being emptied */
struct pins_blame {
	unsigned long start_pfn;
	unsigned long end_pfn;
	bool offline;
	struct xarray culprits;		/* by number of the cgroup */
	unsigned long nr_culprits;
	unsigned long pinned;		/* pages; all of them are in one of these: */
	unsigned long uncharged;	/* no record tells whose pins */
	unsigned long unknown;		/* there was no memory to remember whose */
};

/* The folio of an entry has so many pages in the range. */
static void blame_entry(struct pins_blame *blame, struct pins_entry *entry,
			bool first, unsigned long nr_pages)
{
	unsigned int i;

	for (i = 0; i < PINS_ENTRY_OWNERS && entry->owner[i]; i++) {
		u32 id = pins_cgroup_id(entry->owner[i]);
		struct pins_culprit *culprit = xa_load(&blame->culprits, id);

		if (!culprit) {
			culprit = kzalloc(sizeof(*culprit), GFP_KERNEL);
			if (culprit && xa_err(xa_store(&blame->culprits, id, culprit,
						       GFP_KERNEL))) {
				kfree(culprit);
				culprit = NULL;
			}
			if (culprit) {
				blame->nr_culprits++;
				culprit->pins = entry->owner[i];
				entry->owner[i] = NULL;
			}
		}
		if (culprit && first && !i)
			culprit->pages += nr_pages;
		else if (culprit)
			culprit->shared += nr_pages;
		else if (first && !i)
			blame->unknown += nr_pages;
	}
}

static void blame_folio(struct pins_blame *blame, unsigned long pfn,
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
				blame->uncharged += nr_pages;
			entry.nr = 0;
		} else {
			blame_entry(blame, &entry, !skip, nr_pages);
		}
		if (more)
			pins_entry_put(&entry);
		cond_resched();
		skip += PINS_ENTRY_OWNERS;
	} while (skip < entry.nr);
}

/* Look at all pages of the range. */
static void blame_range(struct pins_blame *blame)
{
	unsigned long pfn = blame->start_pfn, next, first, nr_pages;

	for (; pfn < blame->end_pfn; pfn = next) {
		enum pins_obstacle obstacle;

		first = pfn;
		obstacle = pins_obstacle(&first, &next);
		if (!(next % 1024))
			cond_resched();
		if (obstacle != PINS_SHORT && obstacle != PINS_LONG)
			continue;
		nr_pages = min(next, blame->end_pfn) - pfn;
		blame->pinned += nr_pages;
		if (obstacle == PINS_LONG)
			blame_folio(blame, first, nr_pages);
		else
			blame->uncharged += nr_pages;
	}
}

/* How many of the cgroups are named in the log */
#define PINS_BLAME_NAMED	4

/* Name those with most pages, in one line. */
static void blame_log(struct pins_blame *blame)
{
	struct pins_culprit *top[PINS_BLAME_NAMED] = {}, *culprit;
	unsigned long named = 0, index;
	char *line, *path;
	int i, j, len;

	line = kmalloc(2 * PATH_MAX, GFP_KERNEL);
	if (!line)
		return;
	path = line + PATH_MAX;

	xa_for_each(&blame->culprits, index, culprit) {
		for (i = 0; i < PINS_BLAME_NAMED; i++)
			if (!top[i] || culprit->pages > top[i]->pages)
				break;
		if (i == PINS_BLAME_NAMED)
			continue;
		for (j = PINS_BLAME_NAMED - 1; j > i; j--)
			top[j] = top[j - 1];
		top[i] = culprit;
	}

	len = 0;
	line[0] = 0;
	for (i = 0; i < PINS_BLAME_NAMED && top[i]; i++) {
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
	if (blame->nr_culprits > PINS_BLAME_NAMED)
		len += scnprintf(line + len, PATH_MAX - len, ", %lu by %lu more cgroups",
				 blame->pinned - blame->uncharged - named,
				 blame->nr_culprits - PINS_BLAME_NAMED);
	else if (blame->unknown)
		len += scnprintf(line + len, PATH_MAX - len, ", %lu by other cgroups",
				 blame->unknown);
	if (blame->uncharged)
		len += scnprintf(line + len, PATH_MAX - len,
				 ", %lu short-term or by the root cgroup",
				 blame->uncharged);
	pr_info("pins: %s [mem %#018llx-%#018llx] failed: %lu of %lu pages pinned%s\n",
		blame->offline ? "offlining" : "emptying",
		(u64)PFN_PHYS(blame->start_pfn), (u64)PFN_PHYS(blame->end_pfn) - 1,
		blame->pinned, blame->end_pfn - blame->start_pfn, line);
	kfree(line);
}

/**
 * pins_blame() - a range of memory could not be emptied
 * @start_pfn: its first page
 * @end_pfn: behind its last page
 * @offline: whether it was to be offlined
 *
 * If that is not because of pins, nothing is said. It is logged also for those who
 * allocate with %__GFP_NOWARN, since all gigantic pages are: it is no warning.
 *
 * Context: process context, sleeps.
 */
void pins_blame(unsigned long start_pfn, unsigned long end_pfn, bool offline)
{
	static DEFINE_RATELIMIT_STATE(ratelimit, DEFAULT_RATELIMIT_INTERVAL,
				      DEFAULT_RATELIMIT_BURST);
	struct pins_blame blame = {
		.start_pfn = start_pfn,
		.end_pfn = end_pfn,
		.offline = offline,
	};
	struct pins_culprit *culprit;
	unsigned long index;

	xa_init(&blame.culprits);
	blame_range(&blame);
	if (!blame.pinned)
		return;

	/* Missed lines are in the tracepoint. */
	ratelimit_set_flags(&ratelimit, RATELIMIT_MSG_ON_RELEASE);
	if (__ratelimit(&ratelimit))
		blame_log(&blame);
	if (blame.uncharged)
		trace_pins_blocked(0, start_pfn, end_pfn, blame.uncharged, 0, offline);
	xa_for_each(&blame.culprits, index, culprit) {
		trace_pins_blocked(pins_cgroup_ino(index), start_pfn, end_pfn,
				   culprit->pages, culprit->shared, offline);
		pins_cgroup_blocked(culprit->pins, offline ? PINS_BLOCKED_OFFLINE :
							     PINS_BLOCKED_CONTIG);
		put_pins_cgroup(culprit->pins);
		kfree(culprit);
	}
	xa_destroy(&blame.culprits);
}

#endif /* CONFIG_MEMORY_ISOLATION */

void __pins_blame_compact(struct folio *folio)
{
	/* On another CPU meanwhile, it is one more or less. */
	if (raw_cpu_inc_return(pins_blame_seen) % PINS_BLAME_SAMPLE ||
	    !atomic_read(pins_gate_of(folio)))
		return;
	pins_map_count(folio, PINS_BLOCKED_COMPACT, PINS_BLAME_SAMPLE);
}

void __pins_blame_compact_list(struct list_head *folios)
{
	struct folio *folio;

	list_for_each_entry(folio, folios, lru)
		if (folio_maybe_dma_pinned(folio))
			__pins_blame_compact(folio);
}

/*
 * The listing: a line for each run of folios that follow each other and are alike.
 * The position in the file is a page frame, so that it does not matter what comes
 * and goes while it is read.
 */
struct pins_range {
	struct pins_entry entry;
	unsigned long end;
	char path[PATH_MAX];
};

static bool pins_alike(struct pins_range *range, struct pins_entry *next)
{
	return next->pfn == range->end &&
	       next->type == range->entry.type &&
	       next->movable == range->entry.movable &&
	       next->nr == range->entry.nr && next->nr <= PINS_ENTRY_OWNERS &&
	       next->nid == range->entry.nid &&
	       !memcmp(next->owner, range->entry.owner, sizeof(next->owner));
}

static void *pins_ranges_start(struct seq_file *sf, loff_t *pos)
{
	struct pins_range *range = sf->private;
	struct pins_entry next;
	bool alike;

	if (*pos > ULONG_MAX || !pins_map_next(*pos, 0, &range->entry))
		return NULL;
	*pos = range->entry.pfn;
	range->end = *pos + range->entry.nr_pages;
	do {
		if (signal_pending(current) || !pins_map_next(range->end, 0, &next))
			break;
		alike = pins_alike(range, &next);
		if (alike)
			range->end += next.nr_pages;
		pins_entry_put(&next);
		cond_resched();
	} while (alike);
	return range;
}

static void *pins_ranges_next(struct seq_file *sf, void *v, loff_t *pos)
{
	struct pins_range *range = v;

	*pos = range->end;
	pins_entry_put(&range->entry);
	return pins_ranges_start(sf, pos);
}

static void pins_ranges_stop(struct seq_file *sf, void *v)
{
	struct pins_range *range = v;

	if (range)
		pins_entry_put(&range->entry);
}

static int pins_ranges_show(struct seq_file *sf, void *v)
{
	struct pins_range *range = v;
	struct pins_entry *entry = &range->entry;
	unsigned int i;

	seq_printf(sf, "%#018llx-%#018llx node %d %s %s %lu",
		   (u64)PFN_PHYS(entry->pfn), (u64)PFN_PHYS(range->end) - 1,
		   entry->nid, entry->movable ? "movable" : "unmovable",
		   pins_stat_name(entry->type),
		   (range->end - entry->pfn) * PAGE_SIZE);
	for (i = 0; i < PINS_ENTRY_OWNERS && entry->owner[i]; i++) {
		pins_cgroup_path(entry->owner[i], range->path, sizeof(range->path));
		seq_putc(sf, ' ');
		seq_escape_mem(sf, range->path, strlen(range->path),
			       ESCAPE_ANY_NP | ESCAPE_APPEND, " \\");
	}
	if (entry->nr > PINS_ENTRY_OWNERS)
		seq_printf(sf, " +%u", entry->nr - PINS_ENTRY_OWNERS);
	seq_putc(sf, '\n');
	return 0;
}

static const struct seq_operations pins_ranges_ops = {
	.start = pins_ranges_start,
	.next = pins_ranges_next,
	.stop = pins_ranges_stop,
	.show = pins_ranges_show,
};

static int pins_ranges_open(struct inode *inode, struct file *file)
{
	return seq_open_private(file, &pins_ranges_ops, sizeof(struct pins_range));
}

const struct file_operations pins_ranges_fops = {
	.owner = THIS_MODULE,
	.open = pins_ranges_open,
	.read = seq_read,
	.llseek = seq_lseek,
	.release = seq_release_private,
};
