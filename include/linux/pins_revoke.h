/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Long-term pins that give way: who can pin again what was taken back, and who asks.
 *
 * Copyright (C) 2026 the pins authors
 */
#ifndef _LINUX_PINS_REVOKE_H
#define _LINUX_PINS_REVOKE_H

#include <linux/jump_label_ratelimit.h>
#include <linux/list.h>
#include <linux/types.h>

struct pins_cgroup;
struct pins_charge;
struct pins_revocable;
struct task_struct;

/* On while some cgroup lets its pins be taken back */
extern struct static_key_false_deferred pins_revoke_key;

static __always_inline bool pins_may_revoke(void)
{
	return static_branch_unlikely(&pins_revoke_key.key);
}

/**
 * struct pins_revocable_ops - what the owner of revocable pins can do
 * @trylock: keep them from changing, on behalf of a task that waits for the caller. It may
 *	hold any lock, the right one as well: do not wait. Return: whether that was possible
 * @unlock: the reverse
 * @used: when they were used last, in jiffies; a hint
 * @revoke: drop them, if they lie between two pfns and nobody uses them; for an @end_pfn
 *	of 0, wherever they lie. With @yield, if somebody uses them, let nobody else begin
 *	to, for a short time. Locked; sleeps, but allocates nothing.
 *	Return: 1 if they were, 0 if none lie there, -EBUSY if in use
 */
struct pins_revocable_ops {
	bool (*trylock)(struct pins_revocable *rev, struct task_struct *task);
	void (*unlock)(struct pins_revocable *rev, struct task_struct *task);
	unsigned long (*used)(const struct pins_revocable *rev);
	int (*revoke)(struct pins_revocable *rev, unsigned long start_pfn,
		      unsigned long end_pfn, bool yield);
};

/**
 * struct pins_revocable - long-term pins that can be taken back
 * @list: in the list of its cgroup
 * @asked: the number of the last search that has asked for them
 * @pins: the cgroup that pays, which it keeps
 * @nr_pages: about how many pages they keep from moving
 * @start_pfn: all of them lie behind that,
 * @end_pfn: and before that
 * @ops: what can be done with them
 *
 * @list, @asked and what follows @pins are under the mutex of the list.
 */
struct pins_revocable {
	struct list_head list;
	long asked;
	struct pins_cgroup *pins;
	unsigned long nr_pages;
	unsigned long start_pfn;
	unsigned long end_pfn;
	const struct pins_revocable_ops *ops;
};

void pins_revocable_add(struct pins_revocable *rev, struct pins_cgroup *pins);
void pins_revocable_del(struct pins_revocable *rev);
void pins_revocable_free(struct pins_revocable *rev);
void pins_revocable_repinned(struct pins_revocable *rev, unsigned long nr_pages,
			     unsigned long start_pfn, unsigned long end_pfn, u64 usecs);

bool pins_cgroup_gives_way(struct pins_cgroup *pins);
unsigned long pins_cgroup_least_max(struct pins_cgroup *pins);
int pins_revoke_range(struct pins_cgroup *pins, unsigned long start_pfn,
		      unsigned long end_pfn, bool yield, unsigned long patience);
bool pins_revoke_for(struct pins_charge *charge);

#endif /* _LINUX_PINS_REVOKE_H */
