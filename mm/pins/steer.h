/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where long-term pins lie: what GUP calls.
 *
 * Copyright (C) 2026 the pins authors
 */
#ifndef _MM_PINS_STEER_H
#define _MM_PINS_STEER_H

#include <linux/mm_types.h>
#include <linux/pins_cgroup.h>

/**
 * struct pins_steer - a long-term request, while its pages move to a better place
 * @mm: the address space that the pages belong to, NULL if they have none
 * @tried: whether they were to leave movable pageblocks, which is tried once
 * @moved: some were moved in this round
 * @napped: it has waited for somebody who holds a page
 * @blocked: the first page of a folio that could not be, 0 if there was none
 * @left: how many pages could not be
 * @rounds: how often it was tried again
 * @until: when it gives up unless some are moved, 0 if nothing was in its way yet
 * @waited: how long it has waited for pins, in ns
 */
struct pins_steer {
	struct mm_struct *mm;
	bool tried;
	bool moved;
	bool napped;
	unsigned long blocked;
	unsigned long left;
	unsigned int rounds;
	ktime_t until;
	u64 waited;
};

bool __pins_in_movable_block(struct page **pages, unsigned long nr);
void __pins_steered(struct pins_steer *steer, unsigned int moved,
		    struct list_head *left);
bool __pins_steer(struct pins_steer *steer, struct page **pages,
		  struct folio **folios, unsigned long nr, long *ret);

/**
 * pins_in_movable_block() - should what the fast path has pinned be moved first?
 * @pages: the pages that were pinned
 * @nr: how many
 * @longterm: whether the pins are FOLL_LONGTERM
 *
 * Context: process context.
 * Return: whether it has to be given back and start over in the slow path, where
 * pins_steer() moves it.
 */
static __always_inline bool pins_in_movable_block(struct page **pages, unsigned long nr,
						  bool longterm)
{
	return IS_ENABLED(CONFIG_PINS_STEER) && static_branch_unlikely(&pins_steer_key.key) &&
	       longterm && __pins_in_movable_block(pages, nr);
}

/**
 * pins_steered() - GUP has moved folios of a request, or not
 * @steer: the request
 * @moved: how many pages were moved
 * @left: folios that could not be
 *
 * Context: process context.
 */
static inline void pins_steered(struct pins_steer *steer, unsigned int moved,
				struct list_head *left)
{
	if (IS_ENABLED(CONFIG_PINS_STEER))
		__pins_steered(steer, moved, left);
}

/**
 * pins_steer() - move the pages of a long-term request, or see what has come of it
 * @steer: the request
 * @pages: what was pinned, or
 * @folios: the same
 * @nr: how many
 * @ret: 0 if they were allowed to stay, and are still pinned. Else none is: -EAGAIN
 *	when they have been moved, or will be with more patience, or an error. That
 *	is what it is replaced by in the end, -ENOMEM when it took too long.
 *
 * Context: process context, sleeps; the caller may hold mmap_lock.
 * Return: whether to pin them again. Then none is pinned.
 */
static __always_inline bool pins_steer(struct pins_steer *steer, struct page **pages,
				       struct folio **folios, unsigned long nr,
				       long *ret)
{
	if (!IS_ENABLED(CONFIG_PINS_STEER))
		return *ret == -EAGAIN;
	if (likely(!*ret) && !static_branch_unlikely(&pins_steer_key.key))
		return false;
	return __pins_steer(steer, pages, folios, nr, ret);
}

#endif /* _MM_PINS_STEER_H */
