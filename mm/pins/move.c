// SPDX-License-Identifier: GPL-2.0-only
/*
 * Moving folios, for those who wait and those who steer.
 *
 * Copyright (C) 2026 the pins authors
 */

#include <linux/migrate.h>
#include <linux/mm.h>

#include "../internal.h"
#include "internal.h"

/*
 * migrate_pages() splits large folios for which it gets none: there is one. It may
 * split them all the same; for the pieces this is none.
 */
static struct folio *pins_large_target(struct folio *folio, unsigned long target)
{
	struct folio **ret = (struct folio **)target;

	if (!*ret || folio_order(*ret) != folio_order(folio))
		return NULL;
	return xchg(ret, NULL);
}

static void pins_large_unused(struct folio *folio, unsigned long target)
{
	*(struct folio **)target = folio;
}

static unsigned int pins_migrate_large(struct folio *folio, struct folio *target,
				       enum migrate_mode mode, int reason)
{
	unsigned int moved = 0;
	LIST_HEAD(list);

	list_move(&folio->lru, &list);
	if (target)
		migrate_pages(&list, pins_large_target, pins_large_unused,
			      (unsigned long)&target, mode, reason, &moved);
	if (target)
		folio_put(target);
	putback_movable_pages(&list);
	return moved;
}

/**
 * pins_migrate() - move isolated folios, and do not split large ones
 * @folios: the folios; those that cannot be moved are put back
 * @target: allocates where to
 * @private: for @target
 * @mode: how
 * @reason: what for
 *
 * Context: process context, sleeps.
 * Return: how many pages were moved.
 */
unsigned int pins_migrate(struct list_head *folios, new_folio_t target,
			  unsigned long private, enum migrate_mode mode, int reason)
{
	unsigned int moved = 0, small = 0;
	struct folio *folio, *next;

	list_for_each_entry_safe(folio, next, folios, lru)
		if (folio_test_large(folio))
			moved += pins_migrate_large(folio, target(folio, private),
						    mode, reason);
	if (!list_empty(folios))
		migrate_pages(folios, target, NULL, private, mode, reason, &small);
	putback_movable_pages(folios);
	return moved + small;
}
