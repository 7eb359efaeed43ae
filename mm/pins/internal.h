/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Shared by the files of mm/pins/: looking at folios, and moving them.
 *
 * Copyright (C) 2026 the pins authors
 */
#ifndef _MM_PINS_INTERNAL_H
#define _MM_PINS_INTERNAL_H

#include <linux/migrate.h>
#include <linux/mm.h>

#include "wait.h"

#ifdef CONFIG_64BIT
static_assert(!(offsetof(struct folio, _mapcount) % sizeof(u64)));
static_assert(offsetof(struct folio, _refcount) ==
	      offsetof(struct folio, _mapcount) + sizeof(atomic_t));

/* References of a small folio that are not of mappings; both of one moment */
static __always_inline s64 unmapped_refs(struct folio *folio)
{
	u64 both = atomic64_read((atomic64_t *)&folio->_mapcount);
	u32 refs = IS_ENABLED(CONFIG_CPU_BIG_ENDIAN) ? both : both >> 32;
	s32 mapcount = IS_ENABLED(CONFIG_CPU_BIG_ENDIAN) ? both >> 32 : both;

	/* It is kept less 1, and is a large negative one where it is a type. */
	return (s64)refs - max(mapcount, -1) - 1;
}
#else
static __always_inline s64 unmapped_refs(struct folio *folio)
{
	return (unsigned int)folio_ref_count(folio);
}
#endif

static __always_inline unsigned int folio_pins(struct folio *folio, bool large)
{
	s64 refs;

	if (large)
		return atomic_read(&folio->_pincount);
	/* A count that has become negative is a large one: GUP stops there. */
	refs = unmapped_refs(folio) + GUP_PIN_COUNTING_BIAS / 2;
	return refs > 0 ? (u64)refs / GUP_PIN_COUNTING_BIAS : 0;
}

/*
 * How many pins a folio has, long-term or not. The caller holds a reference. For a small
 * folio it is an estimate, which very many other references make too high.
 */
static inline unsigned int pins_folio_pins(struct folio *folio)
{
	return folio_pins(folio, folio_has_pincount(folio));
}

#ifdef CONFIG_CGROUP_PINS

#include <linux/memcontrol.h>

#include "map.h"

/* The cgroup that memory belongs to, or NULL. RCU read side, in which it stays. */
static inline struct pins_cgroup *pins_folio_owner(struct folio *folio)
{
	struct mem_cgroup *memcg = folio_memcg_check(folio);

	return memcg ? pins_cgroup_from_memcg(memcg) : NULL;
}

#else

/* Has it a pin for the long term? Nobody knows. */
static inline bool pins_folio_recorded(struct folio *folio)
{
	return false;
}

/* Drop the pins of a request. */
static inline void pins_give_back_pages(struct page **pages, unsigned long nr)
{
	unpin_user_pages(pages, nr);
}

#endif

/* What a page says about whether its folio can be moved; the worst comes last */
enum pins_obstacle {
	PINS_GONE,	/* it is free */
	PINS_READY,	/* it can be moved */
	PINS_FIXED,	/* the kernel's, or taken off the lists by somebody */
	PINS_WRITEBACK,	/* it is being written out, and can be moved then */
	PINS_BUSY,	/* somebody refers to it for another reason */
	PINS_SHORT,	/* pinned */
	PINS_LONG,	/* pinned, and known to be so for the long term */
};

/* How many folios to look at when it is to cost next to nothing */
#define PINS_LOOK	512UL

enum pins_obstacle pins_obstacle(unsigned long *pfn, unsigned long *next);
int pins_sleep(unsigned long pfn, u64 since, u64 until, unsigned int state, bool isolated);
unsigned int pins_migrate(struct list_head *folios, new_folio_t target,
			  unsigned long private, enum migrate_mode mode, int reason,
			  unsigned long *pinned);

extern unsigned int pins_drain_max_us;

/* Requests that have isolated folios, which the isolator then cannot find */
extern atomic_t pins_movers;

#ifdef CONFIG_PINS_WAIT
bool pins_isolation_at(unsigned long pfn, unsigned long nr_pages);
#else
static inline bool pins_isolation_at(unsigned long pfn, unsigned long nr_pages)
{
	return false;
}
#endif

#endif /* _MM_PINS_INTERNAL_H */
