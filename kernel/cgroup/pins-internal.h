/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Shared by the files of the pins controller.
 *
 * Copyright (C) 2026 the pins authors
 */
#ifndef _CGROUP_PINS_INTERNAL_H
#define _CGROUP_PINS_INTERNAL_H

#include <linux/atomic.h>
#include <linux/cgroup.h>
#include <linux/mutex.h>
#include <linux/page_counter.h>
#include <linux/percpu.h>
#include <linux/pins_cgroup.h>
#include <linux/spinlock.h>
#include <linux/u64_stats_sync.h>
#include <linux/wait.h>

/* Written on any CPU in any context, folded by pins_css_rstat_flush(). */
struct pins_stat_cpu {
	long now[NR_PINS_STATS];
	/* What has been folded; only where rstat is flushed */
	long folded[NR_PINS_STATS];
};

/* The lines of pins.events */
enum pins_event {
	PINS_EVENT_MAX,		/* its limit has refused a request */
	PINS_EVENT_BLOCKED,	/* its pins have kept memory from being emptied */
	PINS_EVENT_REFUSED,	/* a request of its own was refused */
	PINS_EVENT_REVOKED,	/* pins of it were taken back */
	NR_PINS_EVENTS,
};

struct pins_cgroup {
	struct cgroup_subsys_state	css;

	/* In pages. Its parent chain ends below the root cgroup. */
	struct page_counter		counter;

	/*
	 * The ancestor right below the root cgroup, or this one. No limit lies
	 * above it, so that its locks order all charges that can compete.
	 */
	struct pins_cgroup		*top;

	/*
	 * In @top. Makes the check of all limits and the charge one step, and
	 * guards what follows, in each cgroup below it. Raw, because it is taken
	 * inside the lock of a leaf of the pin map.
	 */
	raw_spinlock_t			charge_lock;

	/*
	 * Pages in @counter of requests that are not settled: they may yet be
	 * refused. With descendants, as @claimed.
	 */
	unsigned long			unsettled;

	/* Pages that are kept free for a request which was refused because of those */
	unsigned long			claimed;

	/* How many requests of this very cgroup have been settled */
	unsigned long			settled;

	/* In @top. Held by that request: there is one at a time. */
	struct mutex			claim_lock;

	/* In @top. Where it waits until requests are settled */
	wait_queue_head_t		settled_wait;

	/* Whether pins of it are just being released, see pins_release_begin() */
	atomic_t			releasing;

	/*
	 * Highest usage, but for what was @unsettled: since creation, and since
	 * the last reset of pins.peak through any file.
	 */
	unsigned long			watermark;
	unsigned long			local_watermark;

	/* How often that has happened to it; that, and to descendants */
	atomic64_t			events_local[NR_PINS_EVENTS];
	atomic64_t			events[NR_PINS_EVENTS];
	struct cgroup_file		events_file;
	struct cgroup_file		events_local_file;

	/*
	 * Open files that have reset pins.peak. With a lock of their own, outside
	 * charge_lock: there may be very many, and nobody shall wait for them who
	 * only pins.
	 */
	spinlock_t			peaks_lock;
	struct list_head		peaks;

#ifdef CONFIG_PINS_STEER
	/* Whether pins.steer is "block": for this cgroup and all below */
	bool				steers_blocks;
#endif

#ifdef CONFIG_PINS_REVOKE
	/* Whether pins.revoke is "idle": for this cgroup and all below */
	bool				revokes_idle;

	/* What is pinned for this very cgroup and can be pinned again; its pages */
	struct mutex			revocables_lock;
	struct list_head		revocables;
	atomic_long_t			revocable;
#endif

#ifdef CONFIG_PINS_MIGRATE
	/* Whether pins.migrate is "needed": for this cgroup and all below */
	bool				migrates_needed;
#endif

#ifdef CONFIG_PINS_MEMLOCK
	/* Whether pins.memlock is "max": for this cgroup and all below */
	bool				memlock_is_max;
#endif

#ifdef CONFIG_CGROUP_PINS_WAIT
	/* What pins.wait.max was set to: microseconds, or see pins-policy.c */
	unsigned int			wait_max;
#endif

	/* pins.stat, this cgroup and descendants; 32-bit machines read it in one piece */
	struct u64_stats_sync		stat_sync;
	s64				stat[NR_PINS_STATS];
	/* The same, of children, not folded yet; only where rstat is flushed */
	s64				stat_pending[NR_PINS_STATS];
	struct pins_stat_cpu __percpu	*stat_cpu;
};

static inline struct pins_cgroup *css_pins(struct cgroup_subsys_state *css)
{
	return container_of(css, struct pins_cgroup, css);
}

/* NULL for the root cgroup and for those right below it. */
static inline struct pins_cgroup *limited_parent(struct pins_cgroup *pins)
{
	return pins == pins->top ? NULL : css_pins(pins->css.parent);
}

s64 pins_cgroup_event(struct pins_cgroup *pins, enum pins_event event);

void pins_policy_free(struct pins_cgroup *pins);

#ifdef CONFIG_PINS_STEER

int pins_steer_show(struct seq_file *sf, void *v);
ssize_t pins_steer_write(struct kernfs_open_file *of, char *buf, size_t nbytes,
			 loff_t off);

#endif /* CONFIG_PINS_STEER */

#ifdef CONFIG_PINS_MIGRATE

int pins_migrate_show(struct seq_file *sf, void *v);
ssize_t pins_migrate_write(struct kernfs_open_file *of, char *buf, size_t nbytes,
			   loff_t off);

#endif /* CONFIG_PINS_MIGRATE */

#ifdef CONFIG_PINS_MEMLOCK

int pins_memlock_show(struct seq_file *sf, void *v);
ssize_t pins_memlock_write(struct kernfs_open_file *of, char *buf, size_t nbytes,
			   loff_t off);

#endif /* CONFIG_PINS_MEMLOCK */

#ifdef CONFIG_CGROUP_PINS_WAIT

void pins_policy_init(struct pins_cgroup *pins);
int pins_wait_max_show(struct seq_file *sf, void *v);
ssize_t pins_wait_max_write(struct kernfs_open_file *of, char *buf, size_t nbytes,
			    loff_t off);

#endif /* CONFIG_CGROUP_PINS_WAIT */

#ifdef CONFIG_PINS_REVOKE

void pins_revoke_init(struct pins_cgroup *pins);
unsigned long pins_cgroup_revocable(struct pins_cgroup *pins);
int pins_cgroup_reclaim(struct pins_cgroup *pins, unsigned long nr_pages);
int pins_revoke_show(struct seq_file *sf, void *v);
ssize_t pins_revoke_write(struct kernfs_open_file *of, char *buf, size_t nbytes,
			  loff_t off);

#endif /* CONFIG_PINS_REVOKE */

#endif /* _CGROUP_PINS_INTERNAL_H */
