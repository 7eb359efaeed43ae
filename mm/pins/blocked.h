/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What keeps memory from moving: what compaction, and those who empty memory, call.
 *
 * Copyright (C) 2026 the pins authors
 */
#ifndef _MM_PINS_BLOCKED_H
#define _MM_PINS_BLOCKED_H

#include <linux/mm_types.h>
#include <linux/pins.h>
#include <linux/pins_blocked.h>

struct pins_isolation;

void __pins_isolation_blocked(struct pins_isolation *isolation,
			      struct pins_blocked *blocked);
void __pins_blocked_compact(struct folio *folio);
void __pins_blocked_compact_list(struct list_head *folios);

/**
 * pins_blocked_compact() - compaction has found a folio that it cannot move
 * @folio: the folio; the caller has a reference
 *
 * Context: any but NMI.
 */
static __always_inline void pins_blocked_compact(struct folio *folio)
{
	if (IS_ENABLED(CONFIG_PINS_BLOCKED) && pins_enabled())
		__pins_blocked_compact(folio);
}

/**
 * pins_blocked_compact_list() - the same for folios that compaction has isolated
 * @folios: the folios
 *
 * Context: any but NMI.
 */
static __always_inline void pins_blocked_compact_list(struct list_head *folios)
{
	if (IS_ENABLED(CONFIG_PINS_BLOCKED) && pins_enabled())
		__pins_blocked_compact_list(folios);
}

/**
 * pins_isolation_blocked() - is it on account of pins that a range cannot be emptied?
 * @isolation: what pins_isolation_begin() returned
 * @blocked: is told if so; zero before the first range, which may be followed by others
 *
 * Call it when pins_isolation_wait() says that there is nothing more to be hoped for.
 *
 * Context: process context.
 */
static inline void pins_isolation_blocked(struct pins_isolation *isolation,
					  struct pins_blocked *blocked)
{
	if (IS_ENABLED(CONFIG_PINS_BLOCKED) && IS_ENABLED(CONFIG_PINS_WAIT))
		__pins_isolation_blocked(isolation, blocked);
}

#endif /* _MM_PINS_BLOCKED_H */
