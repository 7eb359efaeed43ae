/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Long-term pins and the pins controller: what drivers call. What mm calls is in
 * mm/pins/charge.h.
 *
 * Copyright (C) 2026 the pins authors
 */
#ifndef _LINUX_PINS_H
#define _LINUX_PINS_H

#include <linux/jump_label.h>
#include <linux/types.h>

struct bio_vec;
struct pins_cgroup;

/*
 * On while a non-root cgroup of the pins controller exists. Whoever a cgroup is delegated
 * to cannot flip it: that cgroup itself keeps it on.
 */
DECLARE_STATIC_KEY_FALSE(pins_key);

static __always_inline bool pins_enabled(void)
{
	return IS_ENABLED(CONFIG_CGROUP_PINS) && static_branch_unlikely(&pins_key);
}

void __pins_unpin_bvecs(const struct bio_vec *bvecs, unsigned int nr);

/**
 * pins_unpin_bvecs() - drop pins, one for each segment, and uncharge them together
 * @bvecs: the segments
 * @nr: how many
 *
 * Context: any but NMI.
 * Return: how many were unpinned, all or none. The caller has to unpin the rest.
 */
static __always_inline unsigned int pins_unpin_bvecs(const struct bio_vec *bvecs,
						     unsigned int nr)
{
	if (!pins_enabled())
		return 0;
	__pins_unpin_bvecs(bvecs, nr);
	return nr;
}

/* For set_active_pins(): pins that nobody is charged for; no cgroup has that number */
#define PINS_NOBODY	U32_MAX

/* Added to a number: that cgroup also pays for what the task pins */
#define PINS_PAYS	(U32_MAX / 2 + 1)

#ifdef CONFIG_CGROUP_PINS

u32 pins_current_id(void);
u32 set_active_pins(u32 id);
struct pins_cgroup *pins_release_begin(u32 id);
void pins_release_end(struct pins_cgroup *pins);

#else /* !CONFIG_CGROUP_PINS */

static inline u32 pins_current_id(void)
{
	return 0;
}

static inline u32 set_active_pins(u32 id)
{
	return 0;
}

static inline struct pins_cgroup *pins_release_begin(u32 id)
{
	return NULL;
}

static inline void pins_release_end(struct pins_cgroup *pins)
{
}

#endif /* CONFIG_CGROUP_PINS */

#endif /* _LINUX_PINS_H */
