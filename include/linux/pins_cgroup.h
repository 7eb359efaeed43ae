/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The pins controller as the rest of the kernel sees it: it limits and counts
 * the bytes that a cgroup keeps from moving. It knows cgroups and numbers of
 * pages, never a page; mm/pins/ knows the pages.
 *
 * Copyright (C) 2026 the pins authors
 */
#ifndef _LINUX_PINS_CGROUP_H
#define _LINUX_PINS_CGROUP_H

#include <linux/jump_label_ratelimit.h>
#include <linux/types.h>

struct mem_cgroup;
struct mm_struct;
struct pins_cgroup;

/* The lines of pins.stat, in order. All are kept in pages. */
enum pins_stat_item {
	/* Held now; these add up to pins.current. */
	PINS_ANON,
	PINS_FILE,
	PINS_SHMEM,
	PINS_HUGETLB,
	PINS_DEVICE,
	NR_PINS_TYPES,

	/* Held now, whatever the type. */
	PINS_FOREIGN = NR_PINS_TYPES,
	PINS_MOVABLE_BLOCK,
	PINS_FILE_WRITE,

	/* Long-term pins ever taken and released. */
	PINS_PINS,
	PINS_UNPINS,
	NR_PINS_DELTAS,

	/* Pages that were moved before they were pinned, and that were to be. */
	PINS_STEERED_ZONE = NR_PINS_DELTAS,
	PINS_STEERED_BLOCK,
	PINS_STEER_FAILED,

	/* Requests that had to wait for memory to be moved, and how they fared. */
	PINS_WAIT,
	PINS_WAIT_USEC,
	PINS_WAIT_TIMEOUT,

	/* How often memory could not be emptied on account of these pins. */
	PINS_BLOCKED_CONTIG,
	PINS_BLOCKED_OFFLINE,
	PINS_BLOCKED_COMPACT,

	/* Pages whose pins were taken back, and that were pinned again. */
	PINS_REVOKED,
	PINS_REPINNED,
	PINS_REPIN_USEC,

	/* Requests refused because of a file, pages written back while pinned */
	PINS_FILE_REFUSED,
	PINS_WRITEBACK_PINNED,

	/* Pages of its memory that were moved, why, and how long that took. */
	PINS_MOVED_COMPACT,
	PINS_MOVED_NUMA,
	PINS_MOVED_CONTIG,
	PINS_MOVED_OFFLINE,
	PINS_MOVED_DEMOTE,
	PINS_MOVED_COLLAPSE,
	PINS_MOVED_KSM,
	PINS_MOVED_STEER,
	PINS_MOVED_OTHER,
	PINS_MOVED_USEC,

	/* Pages that were not, because they need not. */
	PINS_HELD_OFF,

	NR_PINS_STATS,
};

/**
 * struct pins_delta - what a request changes in the statistics of its cgroup
 * @stat: change of the lines of pins.stat that count pages
 */
struct pins_delta {
	long stat[NR_PINS_DELTAS];
};

/**
 * struct pins_charge - a pin request while it is being charged
 * @pins: the cgroup that pays
 * @charged: pages charged for it so far
 * @claims: it has had to wait for others
 * @claim: pages that are kept free for it then
 * @limit: the cgroup in whose limit there was no room
 * @needed: for how many pages
 * @final: there would not be without the other requests either
 * @revoked: how many pages were taken back for it
 * @worst: how many it may need, whatever is taken back
 */
struct pins_charge {
	struct pins_cgroup *pins;
	unsigned long charged;
	bool claims;
	unsigned long claim;
	struct pins_cgroup *limit;
	unsigned long needed;
	bool final;
	unsigned long revoked;
	unsigned long worst;
};

/* Records keep a css id in so many bits; no cgroup with a larger id goes online. */
#define PINS_CGROUP_ID_BITS	24

struct pins_cgroup *get_pins_cgroup_from_current(void);
struct pins_cgroup *get_pins_cgroup_from_mm(struct mm_struct *mm);
struct pins_cgroup *get_pins_cgroup_from_id(u32 id);
void put_pins_cgroup(struct pins_cgroup *pins);

u32 pins_cgroup_id(struct pins_cgroup *pins);
u64 pins_cgroup_ino(u32 id);
int pins_cgroup_path(struct pins_cgroup *pins, char *buf, size_t len);
bool pins_cgroup_foreign(struct pins_cgroup *pins, struct mem_cgroup *memcg);

bool pins_cgroup_try_charge(struct pins_charge *charge, unsigned long nr_pages);
void pins_cgroup_take_back(struct pins_charge *charge, unsigned long nr_pages);
int pins_cgroup_claim(struct pins_charge *charge);
void pins_cgroup_settle(struct pins_charge *charge);
unsigned long pins_cgroup_room(struct pins_charge *charge, unsigned long *settled);
unsigned long pins_cgroup_pinned(struct pins_cgroup *pins);
bool pins_cgroup_releasing(struct pins_cgroup *pins);
void pins_cgroup_refused(struct pins_charge *charge);
void pins_cgroup_account(struct pins_cgroup *pins,
			 const struct pins_delta *delta);

struct pins_cgroup *pins_cgroup_from_id(u32 id);
struct pins_cgroup *pins_cgroup_from_memcg(struct mem_cgroup *memcg);
void pins_cgroup_uncharge(struct pins_cgroup *pins, unsigned long nr_pages);
void pins_cgroup_release(struct pins_cgroup *pins, enum pins_stat_item type,
			 bool foreign, bool movable, bool file_write,
			 unsigned long nr_pages, unsigned long unpins);
void pins_cgroup_count(struct pins_cgroup *pins, enum pins_stat_item item, long n);
void pins_cgroup_blocked(struct pins_cgroup *pins, enum pins_stat_item item);

const char *pins_stat_name(enum pins_stat_item item);

u32 pins_attribution(void);

/* On while some cgroup steers pins out of movable pageblocks. */
extern struct static_key_false_deferred pins_steer_key;

bool pins_cgroup_steers_blocks(struct pins_cgroup *pins);

/* On while some cgroup has its memory moved only when it must. */
extern struct static_key_false_deferred pins_migrate_key;

bool pins_cgroup_stays(struct pins_cgroup *own, long nr_pages);
bool __pins_current_stays(void);

/**
 * pins_any_stays() - may pins_cgroup_stays() be true for any memory?
 *
 * Context: any.
 */
static inline bool pins_any_stays(void)
{
	return IS_ENABLED(CONFIG_PINS_MIGRATE) &&
	       static_branch_unlikely(&pins_migrate_key.key);
}

/**
 * pins_current_stays() - does memory of the current task stay, wherever it is used from?
 *
 * NUMA balancing asks before it takes access away to find that out. That takes the memory
 * from devices that mirror page tables, too, whatever is then said of a folio. Some of what
 * the task has mapped may belong to other cgroups.
 *
 * Context: process context.
 * Return: whether the task's cgroup says so, or an ancestor.
 */
static inline bool pins_current_stays(void)
{
	return pins_any_stays() && __pins_current_stays();
}

#ifdef CONFIG_CGROUP_PINS_WAIT

/* pins.wait.max: no limit */
#define PINS_WAIT_MAX	U64_MAX

u64 pins_cgroup_wait_max(u64 inherited);

#endif /* CONFIG_CGROUP_PINS_WAIT */

#endif /* _LINUX_PINS_CGROUP_H */
