/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Long-term pins that give way: for drivers that can pin again what they have pinned.
 *
 * Copyright (C) 2026 the pins authors
 */
#ifndef _LINUX_PINS_REVOKE_H
#define _LINUX_PINS_REVOKE_H

#include <linux/jump_label.h>
#include <linux/jump_label_ratelimit.h>
#include <linux/list.h>
#include <linux/types.h>

struct pins_cgroup;
struct pins_revoker;

/* On while some cgroup lets its pins be taken back */
extern struct static_key_false_deferred pins_revoke_key;

static __always_inline bool pins_may_revoke(void)
{
	return IS_ENABLED(CONFIG_PINS_REVOKE) &&
	       static_branch_unlikely(&pins_revoke_key.key);
}

/**
 * struct pins_revoke - which pins are to be taken back
 * @start_pfn: all in the range that begins here,
 * @end_pfn: and ends here; or, if this is 0,
 * @pins: of this cgroup and its descendants, those of the buffer that was not used for
 *	longest
 */
struct pins_revoke {
	unsigned long start_pfn;
	unsigned long end_pfn;
	struct pins_cgroup *pins;
};

/**
 * struct pins_revoker_ops - what a driver can do
 * @oldest: when, in jiffies, was that buffer used?
 *	Return: whether there is one
 * @revoke: take the pins back.
 *	Return: about how many pages were unpinned, or will be once requests are done;
 *	-EBUSY if that cannot be said now
 *
 * The caller may hold any lock: do not wait for one, rather leave the buffers alone.
 */
struct pins_revoker_ops {
	bool (*oldest)(struct pins_revoker *revoker, const struct pins_revoke *what,
		       unsigned long *used);
	long (*revoke)(struct pins_revoker *revoker, const struct pins_revoke *what);
};

/**
 * struct pins_revoker - who can give pins back, such as a ring of io_uring
 * @list: in the list of all
 * @ops: how
 */
struct pins_revoker {
	struct list_head list;
	const struct pins_revoker_ops *ops;
};

void pins_revoker_add(struct pins_revoker *revoker);
void pins_revoker_del(struct pins_revoker *revoker);

#ifdef CONFIG_PINS_REVOKE

unsigned long pins_revoke_pages(struct pins_cgroup *pins, unsigned long nr_pages);

#else /* !CONFIG_PINS_REVOKE */

static inline unsigned long pins_revoke_pages(struct pins_cgroup *pins,
					      unsigned long nr_pages)
{
	return 0;
}

#endif /* CONFIG_PINS_REVOKE */

bool pins_cgroup_revocable(struct pins_cgroup *pins, struct pins_cgroup *ancestor);
bool pins_id_revocable(u32 id);
void pins_cgroup_count_repinnable(struct pins_cgroup *pins, long nr_pages);
void pins_cgroup_revoked(struct pins_cgroup *pins, unsigned long nr_pages);
void pins_cgroup_repinned(struct pins_cgroup *pins, unsigned long nr_pages, u64 usecs);

#endif /* _LINUX_PINS_REVOKE_H */
