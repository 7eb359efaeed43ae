// SPDX-License-Identifier: GPL-2.0-only
/*
 * /sys/kernel/debug/pins/: which memory is pinned, and by whom.
 *
 * Copyright (C) 2026 the pins authors
 */

#include <linux/debugfs.h>
#include <linux/init.h>
#include <linux/limits.h>
#include <linux/seq_file.h>
#include <linux/string_helpers.h>

#include "internal.h"

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

static const struct file_operations pins_ranges_fops = {
	.owner = THIS_MODULE,
	.open = pins_ranges_open,
	.read = seq_read,
	.llseek = seq_lseek,
	.release = seq_release_private,
};

static int pins_records_get(void *data, u64 *val)
{
	*val = pins_map_records();
	return 0;
}

DEFINE_DEBUGFS_ATTRIBUTE(pins_records_fops, pins_records_get, NULL, "%llu\n");

static int __init pins_debugfs_init(void)
{
	struct dentry *dir = debugfs_create_dir("pins", NULL);

	debugfs_create_file("records", 0400, dir, NULL, &pins_records_fops);
	debugfs_create_file("ranges", 0400, dir, NULL, &pins_ranges_fops);
	return 0;
}
late_initcall(pins_debugfs_init);

