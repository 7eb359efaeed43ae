/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How the pin map keeps records. For map.c and those who walk all of it.
 *
 * Copyright (C) 2026 the pins authors
 */
#ifndef _MM_PINS_LEAF_H
#define _MM_PINS_LEAF_H

#include <linux/bitfield.h>
#include <linux/llist.h>
#include <linux/mmzone.h>
#include <linux/spinlock.h>
#include <linux/xarray.h>

#include "internal.h"

#define PINS_LEAF_SHIFT		5
#define PINS_LEAF_SLOTS		BIT(PINS_LEAF_SHIFT)

/* 2 MB of 4 kB pages, as PINS_FILTER_PAGES */
#define PINS_LARGE_ORDER	9

/*
 * A record, if REC_LIST is clear; else a pointer to struct pins_list. 64 bits
 * on all machines.
 */
#define REC_LIST	BIT_ULL(0)
#define REC_TYPE	GENMASK_ULL(3, 1)	/* PINS_ANON ... PINS_DEVICE */
#define REC_FOREIGN	BIT_ULL(4)
#define REC_MOVABLE	BIT_ULL(5)		/* in a movable pageblock */
#define REC_DOUBT	BIT_ULL(6)		/* its cgroup may have fewer; one in a list */
#define REC_WRITE	BIT_ULL(7)		/* a page of a file, pinned to be written */
#define REC_ID		GENMASK_ULL(31, 8)	/* the cgroup */
#define REC_COUNT	GENMASK_ULL(63, 32)	/* its long-term pins */

static_assert(PINS_CGROUP_ID_BITS == 24);
static_assert(NR_PINS_TYPES <= 8);
static_assert(PINS_LEAF_SHIFT <= PINS_LARGE_ORDER);

/* Records of a folio that several cgroups have pinned, the oldest first. */
struct pins_list {
	union {
		struct {
			struct pins_list *next;	/* only if this one is full */
			unsigned long nr;
		};
		struct rcu_head rcu;
	};
	u64 rec[6];
};

struct pins_leaf {
	raw_spinlock_t lock;
	u8 used;		/* slots that are not 0 */
	bool queued:1;		/* in pins_queued */
	bool doubt:1;		/* an unpin has left records in place */
	bool dead:1;		/* no longer in the map */
	bool movable:1;		/* in a movable pageblock; unless @large */
	bool large;		/* in pins_large; read without the lock */
	u8 looks;		/* how often it was looked at; the worker's */
	unsigned long index;
	struct llist_node node;	/* in pins_queued */
	union {
		struct list_head list;	/* the worker's */
		struct rcu_head rcu;
	};
	u64 slot[PINS_LEAF_SLOTS];
};

/* Leaves by the place of their first slot: for folios below PINS_LARGE_ORDER, others */
extern struct xarray pins_small;
extern struct xarray pins_large;

static inline struct pins_list *slot_list(u64 slot)
{
	if (!(slot & REC_LIST))
		return NULL;
	return (struct pins_list *)(unsigned long)(slot & ~REC_LIST);
}

/* Walks the records in a slot. */
struct rec_iter {
	struct pins_list *list;
	unsigned int i;
};

static __always_inline u64 *rec_first(u64 *slot, struct rec_iter *it)
{
	it->list = slot_list(*slot);
	it->i = 0;
	if (unlikely(it->list))
		return it->list->rec;
	return *slot ? slot : NULL;
}

static __always_inline u64 *rec_next(struct rec_iter *it)
{
	if (likely(!it->list))
		return NULL;
	if (++it->i == it->list->nr) {
		it->list = it->list->next;
		it->i = 0;
	}
	return it->list ? &it->list->rec[it->i] : NULL;
}

bool pins_block_movable(struct page *page);
void pins_leaf_update(struct pins_leaf *leaf, unsigned long start, unsigned long last);

/* Is a folio of the leaf in a movable pageblock? One that fills it does no harm. */
static inline bool leaf_movable(struct pins_leaf *leaf, struct folio *folio)
{
	if (likely(!leaf->large))
		return leaf->movable;
	return folio_order(folio) < pageblock_order && pins_block_movable(&folio->page);
}

/* Count for the cgroup of a record: its pages keep it. KUnit ids name no cgroup. */
static inline void rec_count(u64 rec, enum pins_stat_item item, long n)
{
	struct pins_cgroup *pins = pins_cgroup_from_id(FIELD_GET(REC_ID, rec));

	if (pins)
		pins_cgroup_count(pins, item, n);
}

#endif /* _MM_PINS_LEAF_H */
