// SPDX-License-Identifier: GPL-2.0-only
/*
 * The pin map: which cgroups hold long-term pins on a folio. It knows no limit.
 *
 * Pins are released in other groupings than they were taken, and mixed with
 * short-term ones. One rule holds all the same, see "Reconcile" in
 * Documentation/mm/pins.rst:
 *
 *	The recorded pins of a folio never add up to more than its pin count.
 *
 * An unpin drops the pins and lowers the records to fit. A pin is taken, then lowers
 * the records of others to fit the other pins, then adds its own. Both do so under the
 * lock of the leaf, so that the pin count contains all pins that are recorded.
 *
 * The pin count of a large folio is exact. That of a small one is never too low, and
 * too high while 512 other references are held. What an unpin leaves in place is
 * therefore looked at again, see pins_look().
 *
 * An unpin keeps a reference until it has unlocked the leaf, because a folio that is
 * freed forgets its records, under the same lock: no record outlives its folio.
 *
 * A leaf covers 128 kB of 4 kB pages. Dense pins cost 0.23% of the memory, a pin that
 * lies alone 7%, and a share of the XArray's nodes; 2 MB huge pages cost 0.0004%.
 *
 * leaf->lock is raw and disables interrupts, because pins are released in
 * interrupts and under raw spinlocks. At most 32 folios are looked at while it
 * is held, or one list. Leaves are found under RCU. Only the worker takes leaves
 * out of the XArray, under its xa_lock, and marks them dead under leaf->lock.
 * Pages are charged under the lock of their leaf, in one step with the record.
 *
 *	xa_lock
 *	    leaf->lock
 *	        charge_lock (kernel/cgroup/pins.c)
 *
 * Copyright (C) 2026 the pins authors
 */

#include <linux/init.h>
#include <linux/memcontrol.h>
#include <linux/memremap.h>
#include <linux/slab.h>
#include <linux/workqueue.h>
#include <trace/events/pins.h>

#include "leaf.h"

/*
 * Leaves by the place of their first slot, for folios below PINS_LARGE_ORDER and
 * for the others. The memory cgroup of the task that pins pays for them.
 */
struct xarray pins_small = XARRAY_INIT(pins_small, XA_FLAGS_ACCOUNT);
struct xarray pins_large = XARRAY_INIT(pins_large, XA_FLAGS_ACCOUNT);

static struct kmem_cache *pins_leaf_cache;
static struct kmem_cache *pins_list_cache;

atomic_t pins_filter[1 << PINS_FILTER_BITS];

/* Where the records of a folio are. */
struct pins_place {
	struct xarray *map;
	unsigned long index;
	unsigned int slot;
};

static __always_inline struct pins_place pins_place(const struct pins_run *run)
{
	unsigned long pos = folio_pfn(run->folio);
	struct xarray *map = &pins_small;

	if (run->large && folio_order(run->folio) >= PINS_LARGE_ORDER) {
		map = &pins_large;
		pos >>= PINS_LARGE_ORDER;
	}
	return (struct pins_place){
		.map = map,
		.index = pos >> PINS_LEAF_SHIFT,
		.slot = pos % PINS_LEAF_SLOTS,
	};
}

/* Go to the place of another run, if it is in the same leaf. */
static __always_inline bool place_next(struct pins_place *place,
				       const struct pins_run *run)
{
	struct pins_place next = pins_place(run);

	place->slot = next.slot;
	return next.map == place->map && next.index == place->index;
}

/* A list of several pieces may be as long as many folios. */
static __always_inline bool slot_long(u64 slot)
{
	return unlikely(slot & REC_LIST) && slot_list(slot)->next;
}

static void pins_look(struct work_struct *work);
static DECLARE_DELAYED_WORK(pins_look_work, pins_look);

/* Leaves that are to be looked at soon */
static LLIST_HEAD(pins_queued);
#define PINS_LOOK_SOON	(HZ / 8)

static void __leaf_queue(struct pins_leaf *leaf)
{
	if (llist_add(&leaf->node, &pins_queued))
		mod_delayed_work(system_dfl_wq, &pins_look_work, PINS_LOOK_SOON);
}

/* Have the worker look at a leaf soon: it is empty, or what it says may be outdated. */
static __always_inline void leaf_queue(struct pins_leaf *leaf)
{
	lockdep_assert_held(&leaf->lock);
	if (leaf->queued)
		return;
	leaf->queued = true;
	__leaf_queue(leaf);
}

/* An unpin has left a record in place, see "Pin counts". */
static __always_inline void leaf_doubt(struct pins_leaf *leaf)
{
	leaf->doubt = true;
	leaf_queue(leaf);
}

/*
 * Slots of the leaf have come into use. Those of a leaf for small folios share a
 * bucket of pins_filter, where the leaf is counted.
 */
static __always_inline void leaf_get(struct pins_leaf *leaf, struct folio *folio,
				     unsigned int nr)
{
	lockdep_assert_held(&leaf->lock);
	if (!leaf->used || unlikely(leaf->large))
		atomic_inc(pins_filter_of(folio));
	leaf->used += nr;
}

/* Slots of the leaf are no longer in use. For large folios, one at a time. */
static __always_inline void leaf_put(struct pins_leaf *leaf, struct folio *folio,
				     unsigned int nr)
{
	lockdep_assert_held(&leaf->lock);
	leaf->used -= nr;
	if (!leaf->used || unlikely(leaf->large))
		atomic_dec(pins_filter_of(folio));
	if (!leaf->used)
		leaf_queue(leaf);
}

/* Make sure that the place has a leaf, if possible. May sleep. */
static int leaf_create(struct pins_place *place)
{
	struct pins_leaf *leaf, *old;

	leaf = kmem_cache_zalloc(pins_leaf_cache, GFP_KERNEL);
	if (!leaf)
		return -ENOMEM;
	raw_spin_lock_init(&leaf->lock);
	leaf->index = place->index;
	leaf->large = place->map == &pins_large;

	INIT_LIST_HEAD(&leaf->list);

	/* In case that it is never used; until it is there, no worker frees it. */
	leaf->queued = true;
	old = xa_cmpxchg(place->map, place->index, NULL, leaf, GFP_KERNEL);
	if (old) {
		kmem_cache_free(pins_leaf_cache, leaf);
		return xa_err(old);
	}
	smp_mb(); /* see __pins_block_changed() */
	pins_leaf_update(leaf, 0, ULONG_MAX);
	__leaf_queue(leaf);
	return 0;
}

static enum pins_stat_item pins_type(struct folio *folio)
{
	if (folio_test_hugetlb(folio))
		return PINS_HUGETLB;
	/* GUP moves anonymous device memory to the host first. */
	if (folio_test_anon(folio))
		return PINS_ANON;
	if (folio_is_zone_device(folio))
		return PINS_DEVICE;
	/* Not by the mapping, which truncation may take away */
	if (folio_test_swapbacked(folio))
		return PINS_SHMEM;
	return PINS_FILE;
}

/* Find out whether memory like this folio's is foreign to the owner. RCU read side. */
static void owner_compare(struct pins_owner *owner, struct folio *folio)
{
	struct mem_cgroup *memcg = folio_memcg_check(folio);

	owner->memcg_data = READ_ONCE(folio->memcg_data);
	owner->foreign = memcg && pins_cgroup_foreign(owner->charge.pins, memcg);
}

static __always_inline u64 rec_make(struct pins_owner *owner, unsigned int n,
				    enum pins_stat_item type, bool movable)
{
	return FIELD_PREP(REC_TYPE, type) | FIELD_PREP(REC_ID, owner->id) |
	       FIELD_PREP(REC_COUNT, n) | (owner->foreign ? REC_FOREIGN : 0) |
	       (movable ? REC_MOVABLE : 0);
}

static __always_inline void trace_charge(struct pins_owner *owner,
					 struct folio *folio)
{
	if (trace_pins_charge_enabled())
		trace_pins_charge(pins_cgroup_ino(owner->id), folio_pfn(folio),
				  folio_order(folio));
}

/*
 * Can its owner change a page of a file, and the file system not know? Not memory that a
 * driver maps to user space, which is %PINS_FILE as well: that has no mapping.
 */
static __always_inline bool owner_writes_file(struct pins_owner *owner,
					      enum pins_stat_item type,
					      struct folio *folio)
{
	return unlikely(type == PINS_FILE) && owner->writes && folio_mapping(folio);
}

/* Make a record of a folio that is new to its owner, and has been charged. */
static __always_inline u64 rec_new(struct pins_leaf *leaf, const struct pins_run *run,
				   struct pins_owner *owner)
{
	enum pins_stat_item type = pins_type(run->folio);
	bool movable = leaf_movable(leaf, run->folio);
	bool writes = owner_writes_file(owner, type, run->folio);
	long nr_pages = run_nr_pages(run);

	if (unlikely(READ_ONCE(run->folio->memcg_data) != owner->memcg_data))
		owner_compare(owner, run->folio);
	owner->delta.stat[type] += nr_pages;
	if (owner->foreign)
		owner->delta.stat[PINS_FOREIGN] += nr_pages;
	if (movable)
		owner->delta.stat[PINS_MOVABLE_BLOCK] += nr_pages;
	if (writes)
		owner->delta.stat[PINS_FILE_WRITE] += nr_pages;
	trace_charge(owner, run->folio);
	return rec_make(owner, run->n, type, movable) | (writes ? REC_WRITE : 0);
}

/*
 * The owner has pinned a folio once more, now perhaps to be written. Nothing tells which
 * of its pins go first, so that it stays so until all of them are gone; also if the
 * request is refused.
 */
static __always_inline u64 rec_more(u64 rec, const struct pins_run *run,
				    struct pins_owner *owner)
{
	if (!(rec & REC_WRITE) &&
	    owner_writes_file(owner, FIELD_GET(REC_TYPE, rec), run->folio)) {
		owner->delta.stat[PINS_FILE_WRITE] += run_nr_pages(run);
		rec |= REC_WRITE;
	}
	return rec + FIELD_PREP(REC_COUNT, run->n);
}

/*
 * Take up to @n pins from a record, which is 0 when none are left. The leaf is
 * locked, and stays so until the folio is uncharged: see batch_uncharge().
 */
static __always_inline u64 rec_take(u64 rec, u64 n, struct folio *folio,
				    struct pins_batch *batch)
{
	u64 key = rec & ~(REC_COUNT | REC_DOUBT);

	if (unlikely(batch->key != key)) {
		if (batch->key)
			pins_batch_flush(batch);
		batch->key = key;
	}
	if (unlikely(n < FIELD_GET(REC_COUNT, rec))) {
		batch->unpins += n;
		return rec - FIELD_PREP(REC_COUNT, n);
	}
	batch->unpins += FIELD_GET(REC_COUNT, rec);
	batch->uncharge += folio_nr_pages(folio);
	if (trace_pins_uncharge_enabled())
		trace_pins_uncharge(pins_cgroup_ino(FIELD_GET(REC_ID, key)),
				    folio_pfn(folio), folio_order(folio));
	return 0;
}

/*
 * To be called before the leaf is unlocked: whoever finds that a folio has no
 * record any more must also find that its pages are there to be charged. The
 * rest of pins_batch_flush() can wait.
 */
static __always_inline void batch_uncharge(struct pins_batch *batch)
{
	if (batch->uncharge)
		pins_batch_uncharge(batch);
}

static noinline void batch_free(struct pins_batch *batch)
{
	struct pins_list *list;

	while ((list = batch->unused)) {
		batch->unused = list->next;
		/* Where kmem_cache_free() may sleep, pins are released in contexts that may not. */
		if (IS_ENABLED(CONFIG_PREEMPT_RT))
			kfree_rcu(list, rcu);
		else
			kmem_cache_free(pins_list_cache, list);
	}
}

/*
 * To be called when the leaf has been unlocked, before the RCU section ends. A record
 * that has pins left does not keep its cgroup from then on, so that a batch which has
 * not uncharged anything would be left with a number that may mean nothing.
 */
static __always_inline void batch_unlocked(struct pins_batch *batch)
{
	if (batch->key && !batch->pins)
		pins_batch_flush(batch);
	if (unlikely(batch->unused))
		batch_free(batch);
}

#ifdef CONFIG_PINS_KUNIT_TEST
/* For the cgroups of tests, which do not exist. */
static bool pins_test_charge(struct pins_owner *owner, unsigned long nr_pages,
			     bool *charged);
static bool pins_test_uncharge(struct pins_batch *batch);
static bool pins_test_flush(struct pins_batch *batch);
#else
static inline bool pins_test_charge(struct pins_owner *owner, unsigned long nr_pages,
				    bool *charged)
{
	return false;
}

static inline bool pins_test_uncharge(struct pins_batch *batch)
{
	return false;
}

static inline bool pins_test_flush(struct pins_batch *batch)
{
	return false;
}
#endif

/**
 * pins_batch_uncharge() - uncharge what has lost its records
 * @batch: the batch that it is in
 *
 * Context: any but NMI; in an RCU section, the leaf is locked.
 */
void pins_batch_uncharge(struct pins_batch *batch)
{
	if (pins_test_uncharge(batch))
		return;

	/* These pages hold their cgroup until the batch is flushed. */
	if (!batch->pins)
		batch->pins = pins_cgroup_from_id(FIELD_GET(REC_ID, batch->key));
	if (batch->charge)
		pins_cgroup_take_back(batch->charge, batch->uncharge);
	else
		pins_cgroup_uncharge(batch->pins, batch->uncharge);
	batch->nr_pages += batch->uncharge;
	batch->uncharge = 0;
}

/**
 * pins_batch_flush() - account for what was released, and let go of its cgroup
 * @batch: left empty
 *
 * Context: any but NMI.
 */
void pins_batch_flush(struct pins_batch *batch)
{
	if (!batch->key)
		return;
	batch_uncharge(batch);
	if (pins_test_flush(batch))
		goto out;
	rcu_read_lock();
	if (!batch->pins)
		batch->pins = pins_cgroup_from_id(FIELD_GET(REC_ID, batch->key));
	if (batch->pins)
		pins_cgroup_release(batch->pins, FIELD_GET(REC_TYPE, batch->key),
				    batch->key & REC_FOREIGN,
				    batch->key & REC_MOVABLE, batch->key & REC_WRITE,
				    batch->nr_pages, batch->unpins);
	rcu_read_unlock();
out:
	*batch = (struct pins_batch){ .charge = batch->charge, .unused = batch->unused };
}

/* The record of a cgroup in a slot, if any. */
static __always_inline u64 *slot_find(u64 *slot, u32 id)
{
	struct rec_iter it;
	u64 *rec;

	for (rec = rec_first(slot, &it); rec; rec = rec_next(&it))
		if (FIELD_GET(REC_ID, *rec) == id)
			return rec;
	return NULL;
}

/* Drop the records of a list that have become 0, and a list of one or none. */
static void slot_tidy(u64 *slot, struct pins_batch *batch)
{
	struct pins_list *unused, *first = slot_list(*slot), *from, *to = first;
	unsigned long i, nr = 0;

	for (from = first; from; from = from->next) {
		for (i = 0; i < from->nr; i++) {
			if (!from->rec[i])
				continue;
			if (nr == ARRAY_SIZE(to->rec)) {
				to->nr = nr;
				to = to->next;
				nr = 0;
			}
			to->rec[nr++] = from->rec[i];
		}
	}
	to->nr = nr;
	unused = to->next;
	to->next = NULL;
	if (to == first && nr <= 1) {
		*slot = nr ? first->rec[0] : 0;
		first->next = unused;
		unused = first;
	}

	/* Not to be freed under the lock */
	while ((from = unused)) {
		unused = from->next;
		from->next = batch->unused;
		batch->unused = from;
	}
}

/*
 * Lower the records of a folio that has several to fit so many pins. Whose turn is it?
 * That of cgroup @id if it has just dropped @dropped pins, else last if it is to keep
 * @keep; before others, the one in doubt. A cgroup is in doubt if it has dropped pins
 * while some without a record took their place, until its record is lowered for that, or
 * another one is.
 */
static noinline void slot_reconcile_list(u64 *slot, struct folio *folio,
					 unsigned int pins, u32 id, unsigned int keep,
					 unsigned int dropped, struct pins_batch *batch)
{
	u64 sum = 0, excess, n, *rec, *own = NULL;
	unsigned int pass, turn;
	struct rec_iter it;

	for (rec = rec_first(slot, &it); rec; rec = rec_next(&it)) {
		sum += FIELD_GET(REC_COUNT, *rec);
		if (FIELD_GET(REC_ID, *rec) == id)
			own = rec;
	}
	excess = sum - min(sum, pins);
	if (own && excess < dropped) {
		for (rec = rec_first(slot, &it); rec; rec = rec_next(&it))
			*rec &= ~REC_DOUBT;
		*own |= REC_DOUBT;
	}
	if (!excess)
		return;

	for (pass = 0; pass < 3; pass++) {
		for (rec = rec_first(slot, &it); rec && excess; rec = rec_next(&it)) {
			if (keep)
				turn = *rec & REC_DOUBT ? 0 : rec == own ? 2 : 1;
			else
				turn = rec == own && dropped ? 0 : *rec & REC_DOUBT ? 1 : 2;
			if (turn != pass)
				continue;
			n = FIELD_GET(REC_COUNT, *rec);
			n = min(rec == own ? n - keep : n, excess);
			if (!n)
				continue;
			excess -= n;
			if (rec != own || !dropped)
				*rec &= ~REC_DOUBT;
			*rec = rec_take(*rec, n, folio, batch);
		}
	}
	slot_tidy(slot, batch);
}

/*
 * Lower the records of a folio to fit so many pins, after @dropped of them were dropped.
 * A slot that becomes empty is left to the caller's leaf_put().
 */
static __always_inline void slot_reconcile(u64 *slot, struct folio *folio,
					   unsigned int pins, unsigned int dropped,
					   struct pins_batch *batch)
{
	u64 count, excess;

	if (unlikely(*slot & REC_LIST)) {
		/* From whose pins these probably were, then from whoever has some */
		slot_reconcile_list(slot, folio, pins, pins_attribution(), 0, dropped,
				    batch);
		return;
	}
	count = FIELD_GET(REC_COUNT, *slot);
	excess = count - min(count, pins);
	if (unlikely(excess < dropped) && FIELD_GET(REC_ID, *slot) == pins_attribution())
		*slot |= REC_DOUBT;
	if (excess)
		*slot = rec_take(*slot, excess, folio, batch);
}

/* Put a record behind those that are in a slot. There is a spare piece of list. */
static void slot_append(u64 *slot, u64 rec, struct pins_owner *owner)
{
	struct pins_list *list = slot_list(*slot), *more;

	while (list && list->next)
		list = list->next;
	if (!list || list->nr == ARRAY_SIZE(list->rec)) {
		more = owner->spare[--owner->nr_spare];
		more->next = NULL;
		more->nr = 0;
		if (list) {
			list->next = more;
		} else {
			more->rec[more->nr++] = *slot;
			*slot = (unsigned long)more | REC_LIST;
		}
		list = more;
	}
	list->rec[list->nr++] = rec;
}

/* Add the pins of a run. If the folio is new to the owner, it has been charged. */
static __always_inline void slot_add(struct pins_leaf *leaf, u64 *slot,
				     const struct pins_run *run,
				     struct pins_owner *owner,
				     struct pins_batch *batch)
{
	unsigned int pins;
	u64 *rec;

	if (likely(!*slot)) {
		*slot = rec_new(leaf, run, owner);
		leaf_get(leaf, run->folio, 1);
		return;
	}

	pins = folio_pins(run->folio, run->large);
	rec = slot_find(slot, owner->id);
	if (rec) {
		/*
		 * Add before lowering to fit, so that a record whose last pin
		 * is just being dropped by somebody else serves the new one:
		 * to pin again what is pinned needs no room under the limit.
		 */
		*rec = rec_more(*rec, run, owner);
		pins = max(pins, run->n);
		if (slot_list(*slot))
			slot_reconcile_list(slot, run->folio, pins, owner->id, run->n, 0,
					    batch);
		else
			slot_reconcile(slot, run->folio, pins, 0, batch);
		return;
	}

	/* Ours are not recorded: what others have must fit without. */
	slot_reconcile(slot, run->folio, pins - min(pins, run->n), 0, batch);
	if (*slot)
		slot_append(slot, rec_new(leaf, run, owner), owner);
	else
		*slot = rec_new(leaf, run, owner);
}

static __always_inline bool owner_charge(struct pins_owner *owner,
					 unsigned long nr_pages)
{
	bool charged;

	if (pins_test_charge(owner, nr_pages, &charged))
		return charged;
	return pins_cgroup_try_charge(&owner->charge, nr_pages);
}

/*
 * Charge what is new to the owner of some runs, which all lie in this leaf.
 * Return: how many of the runs can be recorded now, at least one; -EDQUOT if there is
 * no room for them, or -ENOSPC if the first needs a spare piece of list.
 */
static __always_inline int leaf_charge(struct pins_leaf *leaf, const struct pins_run *run,
				       unsigned int nr, struct pins_owner *owner)
{
	unsigned int spares = owner->nr_spare;
	unsigned long nr_pages = 0;
	u32 seen = 0;
	unsigned int i;

	for (i = 0; i < nr; i++) {
		u64 *rec = &leaf->slot[run[i].slot];
		bool list = *rec & REC_LIST;
		bool new = !(seen & BIT(run[i].slot)) && !slot_find(rec, owner->id);

		/* A list may be as long as many folios: it has a turn of its own. */
		if (unlikely(list) && i)
			break;
		/* Others have pinned it, so that it may need a piece of list. */
		if (unlikely(new && *rec)) {
			if (!spares)
				break;
			spares--;
		}
		if (new)
			nr_pages += run_nr_pages(&run[i]);
		seen |= BIT(run[i].slot);
		if (unlikely(list)) {
			i++;
			break;
		}
	}
	if (!i)
		return -ENOSPC;
	if (nr_pages && !owner_charge(owner, nr_pages))
		return -EDQUOT;
	return i;
}

/* Charge and record runs of a leaf. Return: how many; -ENOENT without it; as above */
static int leaf_add_runs(const struct pins_place *place, const struct pins_run *run,
			 unsigned int nr, struct pins_owner *owner,
			 struct pins_batch *batch)
{
	struct pins_leaf *leaf;
	int i, ret = -ENOENT;
	unsigned long flags;

	rcu_read_lock();
	leaf = xa_load(place->map, place->index);
	if (likely(leaf)) {
		raw_spin_lock_irqsave(&leaf->lock, flags);
		if (likely(!leaf->dead))
			ret = leaf_charge(leaf, run, nr, owner);
		for (i = 0; i < ret; i++)
			slot_add(leaf, &leaf->slot[run[i].slot], &run[i], owner, batch);
		batch_uncharge(batch);
		raw_spin_unlock_irqrestore(&leaf->lock, flags);
	}
	batch_unlocked(batch);
	rcu_read_unlock();
	return ret;
}

/* Have pieces of list for so many folios, or for some of them. */
static int owner_prepare(struct pins_owner *owner, unsigned int nr)
{
	if (fatal_signal_pending(current))
		return -EINTR;
	nr = min(nr, ARRAY_SIZE(owner->spare));
	if (!kmem_cache_alloc_bulk(pins_list_cache, GFP_KERNEL, nr, (void **)owner->spare))
		return -ENOMEM;
	owner->nr_spare = nr;
	return 0;
}

/*
 * Charge and record what of a request lies in the leaf at @place, from its position on,
 * where it has the run @first.
 * Return: how many pins, at least one; -ENOENT if there is no leaf, or as pins_map_add()
 */
static noinline long leaf_add(struct pins_place place, struct pins_iter it,
			      const struct pins_run *first, struct pins_owner *owner,
			      struct pins_batch *batch)
{
	struct pins_run run[PINS_BATCH];
	unsigned int nr, i = 0, end;
	long pins = 0;
	int ret;

	run[0] = *first;
	run[0].slot = place.slot;
	for (nr = 1; nr < PINS_BATCH; nr++) {
		it.pos += run[nr - 1].n;
		if (it.pos == it.nr)
			break;
		run[nr] = pins_iter_run(&it);
		if (!pins_run_pinned(&run[nr]) || !place_next(&place, &run[nr]))
			break;
		run[nr].slot = place.slot;
	}

	while (i < nr) {
		ret = leaf_add_runs(&place, run + i, nr - i, owner, batch);
		if (ret == -ENOSPC)
			ret = owner_prepare(owner, nr - i);
		if (ret < 0)
			return pins ?: ret;
		for (end = i + ret; i < end; i++)
			pins += run[i].n;
	}
	return pins;
}

/*
 * The short way for most pages in the world: small, anonymous, and with nobody's pins.
 * Return: as leaf_add(), but 0 if the first takes the long way.
 */
static __always_inline int leaf_add_anon(const struct pins_place *place,
					 struct page **pages, unsigned int most,
					 struct pins_owner *owner)
{
	unsigned long first = place->index << PINS_LEAF_SHIFT;
	struct pins_leaf *leaf;
	unsigned long flags;
	int i, nr = -ENOENT;
	u32 seen = 0;
	u64 rec;

	rcu_read_lock();
	if (unlikely(READ_ONCE(page_folio(pages[0])->memcg_data) != owner->memcg_data))
		owner_compare(owner, page_folio(pages[0]));
	leaf = xa_load(place->map, place->index);
	if (unlikely(!leaf))
		goto unlock_rcu;
	raw_spin_lock_irqsave(&leaf->lock, flags);
	if (unlikely(leaf->dead))
		goto unlock;

	for (nr = 0; nr < most; nr++) {
		struct folio *folio;
		unsigned long slot;

		if (unlikely(!pages[nr]))
			break;
		slot = page_to_pfn(pages[nr]) - first;
		if (slot >= PINS_LEAF_SLOTS || unlikely(leaf->slot[slot]) ||
		    unlikely(seen & BIT(slot)))
			break;
		folio = page_folio(pages[nr]);
		if (unlikely(folio_test_large(folio)) || !folio_test_anon(folio) ||
		    unlikely(READ_ONCE(folio->memcg_data) != owner->memcg_data))
			break;
		seen |= BIT(slot);
	}
	if (!nr)
		goto unlock;
	if (unlikely(!owner_charge(owner, nr))) {
		nr = -EDQUOT;
		goto unlock;
	}

	rec = rec_make(owner, 1, PINS_ANON, leaf->movable);
	for (i = 0; i < nr; i++)
		leaf->slot[page_to_pfn(pages[i]) - first] = rec;
	leaf_get(leaf, page_folio(pages[0]), nr);
	owner->delta.stat[PINS_ANON] += nr;
	if (owner->foreign)
		owner->delta.stat[PINS_FOREIGN] += nr;
	if (leaf->movable)
		owner->delta.stat[PINS_MOVABLE_BLOCK] += nr;
	if (trace_pins_charge_enabled())
		for (i = 0; i < nr; i++)
			trace_charge(owner, page_folio(pages[i]));
unlock:
	raw_spin_unlock_irqrestore(&leaf->lock, flags);
unlock_rcu:
	rcu_read_unlock();
	return nr;
}

/**
 * pins_map_add() - charge and record the pins of a request
 * @it: the request, from its position on
 * @owner: on whose behalf
 *
 * Stops at the first run that cannot be charged. What it lacks is allocated on the
 * way, while no lock is held, so that nothing has to be done twice for that.
 *
 * Context: process context, sleeps. The caller holds the pins.
 * Return: 0, or
 * * -EDQUOT: there is no room for the run at the current position, see @owner->charge
 * * -ENOMEM, or -EINTR for a task that is being killed
 */
int pins_map_add(struct pins_iter *it, struct pins_owner *owner)
{
	struct pins_batch batch = {};
	long ret = 0;

	while (it->pos < it->nr) {
		struct pins_run run = pins_iter_run(it);
		struct pins_place place;

		if (!pins_run_pinned(&run)) {
			it->pos += run.n;
			continue;
		}
		place = pins_place(&run);
		ret = 0;
		if (likely(it->pages) && !run.large && folio_test_anon(run.folio))
			ret = leaf_add_anon(&place, it->pages + it->pos,
					    min(it->nr - it->pos, PINS_BATCH), owner);
		if (!ret)
			ret = leaf_add(place, *it, &run, owner, &batch);
		if (ret == -ENOENT)
			ret = fatal_signal_pending(current) ? -EINTR : leaf_create(&place);
		if (ret < 0)
			break;
		it->pos += ret;
		owner->delta.stat[PINS_PINS] += ret;
		cond_resched();
	}

	pins_batch_flush(&batch);
	return min(ret, 0);
}

/**
 * pins_map_done() - free what pins_map_add() has allocated and not needed
 * @owner: on whose behalf
 */
void pins_map_done(struct pins_owner *owner)
{
	if (owner->nr_spare)
		kmem_cache_free_bulk(pins_list_cache, owner->nr_spare,
				     (void **)owner->spare);
}

/**
 * pins_map_more() - record more pins of a folio that a cgroup has pinned
 * @folio: the folio, on which the caller holds these pins
 * @id: the cgroup; if it has no record of the folio, they have none either
 * @n: how many there are
 *
 * Context: any but NMI.
 */
void pins_map_more(struct folio *folio, u32 id, unsigned int n)
{
	struct pins_run run = { .folio = folio, .large = folio_has_pincount(folio) };
	struct pins_place place = pins_place(&run);
	struct pins_leaf *leaf;
	unsigned long flags;
	u64 *rec;

	rcu_read_lock();
	leaf = xa_load(place.map, place.index);
	if (leaf) {
		raw_spin_lock_irqsave(&leaf->lock, flags);
		rec = slot_find(&leaf->slot[place.slot], id);
		if (rec) {
			*rec += FIELD_PREP(REC_COUNT, n);
			rec_count(*rec, PINS_PINS, n);
		}
		raw_spin_unlock_irqrestore(&leaf->lock, flags);
	}
	rcu_read_unlock();
}

/**
 * pins_map_remove() - take back what pins_map_add() has added
 * @it: the request, up to its position
 * @owner: on whose behalf
 *
 * Context: process context, may reschedule. The caller still holds the pins.
 * Return: how many pins others have released from these records in between, in
 * place of their own. They are in the statistics as unpins of pins that are not.
 */
long pins_map_remove(struct pins_iter *it, struct pins_owner *owner)
{
	struct pins_batch batch = { .charge = &owner->charge };
	unsigned long end = it->pos;
	struct pins_run run;
	long missing = 0;

	for (it->pos = 0; it->pos < end; it->pos += run.n) {
		struct pins_place place;
		struct pins_leaf *leaf;
		unsigned long flags;
		u64 *slot, *rec;

		run = pins_iter_run(it);
		if (!pins_run_pinned(&run))
			continue;
		place = pins_place(&run);
		missing += run.n;

		rcu_read_lock();
		leaf = xa_load(place.map, place.index);
		if (leaf) {
			raw_spin_lock_irqsave(&leaf->lock, flags);
			slot = &leaf->slot[place.slot];
			/* Gone if an unpin took it for that of somebody else */
			rec = slot_find(slot, owner->id);
			if (rec) {
				u64 n = min(run.n, FIELD_GET(REC_COUNT, *rec));

				*rec = rec_take(*rec, n, run.folio, &batch);
				/* They were not counted as pins. */
				batch.unpins -= n;
				missing -= n;
				if (slot_list(*slot))
					slot_tidy(slot, &batch);
				if (!*slot)
					leaf_put(leaf, run.folio, 1);
			}
			batch_uncharge(&batch);
			raw_spin_unlock_irqrestore(&leaf->lock, flags);
		}
		batch_unlocked(&batch);
		rcu_read_unlock();
		cond_resched();
	}
	pins_batch_flush(&batch);
	return missing;
}

/*
 * Drop the pins of a run, but not the last reference that it has with them: the folio
 * must not be freed under the lock of the leaf.
 */
static __always_inline void run_drop(struct pins_run *run)
{
	if (run->dropped)
		return;
	if (run->large)
		atomic_sub(run->n, &run->folio->_pincount);
	else
		folio_ref_sub(run->folio, run->n * GUP_PIN_COUNTING_BIAS - 1);
	run->dropped = true;
}

/* Drop pins, and lower the records in the slot of their folio to fit what is left. */
static void leaf_unpin(struct pins_leaf *leaf, u64 *slot, struct pins_run *run,
		       struct pins_batch *batch)
{
	struct folio *folio = run->folio;

	run_drop(run);
	if (!*slot)
		return;
	slot_reconcile(slot, folio, folio_pins(folio, run->large), run->n, batch);
	if (!*slot)
		leaf_put(leaf, folio, 1);
	else if (!run->large)
		leaf_doubt(leaf);
}

/*
 * The short way for most records: of small folios, with nobody's pins left, and
 * all of the same sort. Stops where one is not in this leaf, or takes longer.
 * Return: how many runs are done.
 */
static __always_inline unsigned int leaf_unpin_small(struct pins_leaf *leaf,
						     struct pins_place place,
						     struct pins_run *runs,
						     unsigned int nr_runs,
						     struct pins_batch *batch)
{
	unsigned int nr;
	u64 pins = 0;

	if (!batch->key || leaf->large || trace_pins_uncharge_enabled())
		return 0;

	for (nr = 0; nr < nr_runs; nr++) {
		struct folio *folio = runs[nr].folio;
		u64 *slot;

		if (!place_next(&place, &runs[nr]))
			break;
		slot = &leaf->slot[place.slot];
		if (unlikely((*slot & ~(REC_COUNT | REC_DOUBT)) != batch->key) ||
		    unlikely(run_is_large(&runs[nr])))
			break;
		run_drop(&runs[nr]);
		if (unlikely((unsigned int)folio_ref_count(folio) >=
			     GUP_PIN_COUNTING_BIAS / 2))
			break;
		pins += FIELD_GET(REC_COUNT, *slot);
		*slot = 0;
	}
	if (nr) {
		batch->unpins += pins;
		batch->uncharge += nr;
		leaf_put(leaf, runs[0].folio, nr);
	}
	return nr;
}

/**
 * pins_map_unpin() - drop pins, and lower the records of their folios to fit
 * @runs: the pins, at most PINS_BATCH folios
 * @nr: how many
 * @batch: collects what was released
 *
 * Both happen under the lock of the leaf: nobody sees a record whose pin is gone, and
 * lowers that of another cgroup for it. The references are left to the caller: of a
 * large folio all of them, of a small one the last.
 *
 * Context: any but NMI.
 */
void pins_map_unpin(struct pins_run *runs, unsigned int nr, struct pins_batch *batch)
{
	unsigned int i = 0;

	rcu_read_lock();
	while (i < nr) {
		struct pins_place place = pins_place(&runs[i]);
		struct pins_leaf *leaf = xa_load(place.map, place.index);
		unsigned long flags;

		if (!leaf) {
			bool again = runs[i].large && !runs[i].dropped;

			run_drop(&runs[i]);
			/* If it is large, look again: see pins_filter. */
			smp_mb__after_atomic();
			i += !again;
			continue;
		}
		raw_spin_lock_irqsave(&leaf->lock, flags);
		/* If it is dead, look again: there may be a new one. */
		while (likely(!leaf->dead)) {
			u64 key = batch->key;
			bool list, longer;

			i += leaf_unpin_small(leaf, place, runs + i, nr - i, batch);
			if (i == nr || !place_next(&place, &runs[i]))
				break;
			list = leaf->slot[place.slot] & REC_LIST;
			longer = slot_long(leaf->slot[place.slot]);
			leaf_unpin(leaf, &leaf->slot[place.slot], &runs[i], batch);
			if (++i == nr || longer || !place_next(&place, &runs[i]))
				break;
			/* It may have taken the records of all of its owners. */
			if (list && batch->key != key)
				break;
		}
		batch_uncharge(batch);
		raw_spin_unlock_irqrestore(&leaf->lock, flags);
	}
	batch_unlocked(batch);
	rcu_read_unlock();
}

/* Take an empty leaf out of the map. It is in no list. */
static void leaf_free(struct pins_leaf *leaf)
{
	struct xarray *map = leaf->large ? &pins_large : &pins_small;
	bool dead;

	xa_lock(map);
	raw_spin_lock_irq(&leaf->lock);
	dead = !leaf->used && !leaf->queued;
	if (dead) {
		/* Who finds it dead does not find it again. */
		leaf->dead = true;
		__xa_erase(map, leaf->index);
	}
	raw_spin_unlock_irq(&leaf->lock);
	xa_unlock(map);
	if (dead)
		kfree_rcu(leaf, rcu);
}

/*
 * Look at a leaf: free it if it is empty, else have the records of its small folios
 * fit their pins, if there is doubt. Return whether it is to be looked at again.
 */
static bool leaf_look(struct pins_leaf *leaf)
{
	struct pins_batch batch = {};
	bool again = false, queued, used, doubt;
	unsigned int i;

	raw_spin_lock_irq(&leaf->lock);
	/* Was it queued anew, after it had been looked at? That has its own turn. */
	queued = leaf->queued && leaf->looks;
	if (!queued)
		leaf->queued = false;
	used = leaf->used;
	doubt = leaf->doubt;
	leaf->doubt = false;
	raw_spin_unlock_irq(&leaf->lock);
	if (queued)
		return false;
	if (!used) {
		leaf_free(leaf);
		return false;
	}
	if (!doubt)
		return false;

	/* A slot at a time: a list may be as long as many folios. */
	for (i = 0; i < PINS_LEAF_SLOTS; i++) {
		unsigned long pfn = (leaf->index << PINS_LEAF_SHIFT) + i;
		u64 *slot = &leaf->slot[i];

		rcu_read_lock();
		raw_spin_lock_irq(&leaf->lock);
		if (*slot && !folio_has_pincount(pfn_folio(pfn))) {
			slot_reconcile(slot, pfn_folio(pfn), folio_pins(pfn_folio(pfn), false),
				       0, &batch);
			if (!*slot)
				leaf_put(leaf, pfn_folio(pfn), 1);
			else
				again = true;
		}
		leaf->doubt |= again;
		batch_uncharge(&batch);
		raw_spin_unlock_irq(&leaf->lock);
		batch_unlocked(&batch);
		rcu_read_unlock();
	}
	pins_batch_flush(&batch);
	return again;
}

/* Leaves to be looked at again, those of each list after twice the time of the last */
static struct list_head pins_looked[10];
static unsigned long pins_look_due[ARRAY_SIZE(pins_looked)];

/* The worker. What has been queued comes first again, however often it was looked at. */
static void pins_look(struct work_struct *work)
{
	struct llist_node *queued = llist_del_all(&pins_queued);
	unsigned long next_due = 0;
	struct pins_leaf *leaf, *next;
	bool any = false;
	LIST_HEAD(todo);
	unsigned int i;

	llist_for_each_entry_safe(leaf, next, queued, node) {
		list_move(&leaf->list, &todo);
		leaf->looks = 0;
	}
	for (i = 0; i < ARRAY_SIZE(pins_looked); i++)
		if (time_after_eq(jiffies, pins_look_due[i]))
			list_splice_init(&pins_looked[i], &todo);

	list_for_each_entry_safe(leaf, next, &todo, list) {
		list_del_init(&leaf->list);
		i = leaf->looks;
		if (leaf_look(leaf)) {
			if (list_empty(&pins_looked[i]))
				pins_look_due[i] = jiffies + (PINS_LOOK_SOON << i);
			list_add(&leaf->list, &pins_looked[i]);
			leaf->looks = min(i + 1, ARRAY_SIZE(pins_looked) - 1);
		}
		cond_resched();
	}

	for (i = 0; i < ARRAY_SIZE(pins_looked); i++) {
		if (list_empty(&pins_looked[i]))
			continue;
		if (!any || time_before(pins_look_due[i], next_due))
			next_due = pins_look_due[i];
		any = true;
	}
	/* Unless something was queued meanwhile, and it is to come sooner */
	if (any)
		queue_delayed_work(system_dfl_wq, &pins_look_work,
				   max((long)(next_due - jiffies), 1L));
}

/* The first folio in a map, from a page frame on, that has records; or ULONG_MAX */
static unsigned long map_find(struct xarray *map, unsigned int shift,
			      unsigned long pfn)
{
	unsigned long pos = DIV_ROUND_UP(pfn, 1UL << shift), first = pos;
	struct pins_leaf *leaf;
	unsigned long index;

	rcu_read_lock();
	xa_for_each_start(map, index, leaf, pos >> PINS_LEAF_SHIFT) {
		for (pos = max(first, index << PINS_LEAF_SHIFT);
		     pos >> PINS_LEAF_SHIFT == index; pos++)
			if (READ_ONCE(leaf->slot[pos % PINS_LEAF_SLOTS]))
				goto found;
	}
	pos = ULONG_MAX >> shift;
found:
	rcu_read_unlock();
	return pos == ULONG_MAX >> shift ? ULONG_MAX : pos << shift;
}

/* The same in both maps */
static unsigned long map_next(unsigned long pfn)
{
	return min(map_find(&pins_small, 0, pfn),
		   map_find(&pins_large, PINS_LARGE_ORDER, pfn));
}

void __pins_range_removed(unsigned long start_pfn, unsigned long end_pfn)
{
	struct pins_batch batch = {};
	unsigned long pfn = start_pfn;

	while ((pfn = map_next(pfn)) < end_pfn) {
		struct pins_run run = { .folio = pfn_folio(pfn) };
		struct pins_place place;
		struct pins_leaf *leaf;
		unsigned long flags;

		run.large = folio_has_pincount(run.folio);
		place = pins_place(&run);
		rcu_read_lock();
		leaf = xa_load(place.map, place.index);
		if (leaf) {
			raw_spin_lock_irqsave(&leaf->lock, flags);
			if (leaf->slot[place.slot]) {
				slot_reconcile(&leaf->slot[place.slot], run.folio, 0, 0, &batch);
				leaf_put(leaf, run.folio, 1);
			}
			batch_uncharge(&batch);
			raw_spin_unlock_irqrestore(&leaf->lock, flags);
		}
		batch_unlocked(&batch);
		rcu_read_unlock();
		cond_resched();
		pfn++;
	}
	pins_batch_flush(&batch);
}

/**
 * pins_map_may_hold() - may this cgroup have a record of a folio?
 * @folio: the folio; a list is not looked through
 * @id: the cgroup
 *
 * Context: any but NMI.
 */
bool pins_map_may_hold(struct folio *folio, u32 id)
{
	struct pins_run run = { .folio = folio, .large = folio_has_pincount(folio) };
	struct pins_place place = pins_place(&run);
	struct pins_leaf *leaf;
	unsigned long flags;
	u64 slot = 0;

	rcu_read_lock();
	leaf = xa_load(place.map, place.index);
	if (leaf) {
		/* Where there is no record any more, there has to be room for one. */
		raw_spin_lock_irqsave(&leaf->lock, flags);
		slot = leaf->slot[place.slot];
		raw_spin_unlock_irqrestore(&leaf->lock, flags);
	}
	rcu_read_unlock();
	return (slot & REC_LIST) || FIELD_GET(REC_ID, slot) == id;
}

/**
 * pins_map_recorded() - has any cgroup a record of a folio?
 * @folio: the folio; while the caller has pins on it, its only record stays
 *
 * Context: any but NMI.
 */
bool pins_map_recorded(struct folio *folio)
{
	struct pins_run run = { .folio = folio, .large = folio_has_pincount(folio) };
	struct pins_place place = pins_place(&run);
	struct pins_leaf *leaf;
	bool ret;

	rcu_read_lock();
	leaf = xa_load(place.map, place.index);
	ret = leaf && READ_ONCE(leaf->slot[place.slot]);
	rcu_read_unlock();
	return ret;
}

/**
 * pins_map_count() - count something for the cgroups that have pinned a folio
 * @folio: the folio; the caller has a reference
 * @item: the line of pins.stat
 * @n: how much
 *
 * If there are very many, not for all of them.
 *
 * Context: any but NMI.
 */
void pins_map_count(struct folio *folio, enum pins_stat_item item, long n)
{
	struct pins_run run = { .folio = folio, .large = folio_has_pincount(folio) };
	struct pins_place place = pins_place(&run);
	struct pins_leaf *leaf;
	unsigned long flags;
	struct rec_iter it;
	unsigned int i = 0;
	u64 *rec;

	rcu_read_lock();
	leaf = xa_load(place.map, place.index);
	if (leaf) {
		raw_spin_lock_irqsave(&leaf->lock, flags);
		for (rec = rec_first(&leaf->slot[place.slot], &it); rec; rec = rec_next(&it)) {
			if (i++ == PINS_ENTRY_OWNERS)
				break;
			rec_count(*rec, item, n);
		}
		raw_spin_unlock_irqrestore(&leaf->lock, flags);
	}
	rcu_read_unlock();
}

/**
 * pins_map_pinner() - a cgroup that has pinned a folio
 * @folio: the folio; the caller has a reference
 *
 * Context: any but NMI.
 * Return: the cgroup id that user space knows of the one that did so first, or 0 if no
 * cgroup has a record.
 */
u64 pins_map_pinner(struct folio *folio)
{
	struct pins_run run = { .folio = folio, .large = folio_has_pincount(folio) };
	struct pins_place place = pins_place(&run);
	struct pins_leaf *leaf;
	struct rec_iter it;
	unsigned long flags;
	u64 *rec, ino = 0;

	rcu_read_lock();
	leaf = xa_load(place.map, place.index);
	if (leaf) {
		raw_spin_lock_irqsave(&leaf->lock, flags);
		rec = rec_first(&leaf->slot[place.slot], &it);
		if (rec)
			ino = pins_cgroup_ino(FIELD_GET(REC_ID, *rec));
		raw_spin_unlock_irqrestore(&leaf->lock, flags);
	}
	rcu_read_unlock();
	return ino;
}

/* Copy what the map knows of a folio. Return whether it still has records. */
static bool entry_fill(struct pins_entry *entry, struct xarray *map,
		       unsigned int shift, unsigned long pfn, unsigned int skip)
{
	unsigned long pos = pfn >> shift, flags;
	struct pins_leaf *leaf;
	struct rec_iter it;
	unsigned int i;
	u64 *rec;

	memset(entry, 0, sizeof(*entry));
	entry->pfn = pfn;
	rcu_read_lock();
	leaf = xa_load(map, pos >> PINS_LEAF_SHIFT);
	if (leaf) {
		raw_spin_lock_irqsave(&leaf->lock, flags);
		rec = rec_first(&leaf->slot[pos % PINS_LEAF_SLOTS], &it);
		for (; rec; rec = rec_next(&it)) {
			if (!entry->nr) {
				entry->nr_pages = folio_nr_pages(pfn_folio(pfn));
				entry->nid = folio_nid(pfn_folio(pfn));
				entry->type = FIELD_GET(REC_TYPE, *rec);
				entry->movable = *rec & REC_MOVABLE;
			}
			i = entry->nr++ - skip; /* wraps around for those to skip */
			if (i < PINS_ENTRY_OWNERS)
				entry->owner[i] =
					get_pins_cgroup_from_id(FIELD_GET(REC_ID, *rec));
		}
		raw_spin_unlock_irqrestore(&leaf->lock, flags);
	}
	rcu_read_unlock();
	return entry->nr;
}

/**
 * pins_map_next() - look for a folio with long-term pins, and whose they are
 * @pfn: page frame to begin at
 * @skip: how many owners to leave out
 * @entry: what was found, to be released with pins_entry_put()
 *
 * Context: process context, sleeps.
 * Return: whether there was one.
 */
bool pins_map_next(unsigned long pfn, unsigned int skip, struct pins_entry *entry)
{
	while ((pfn = map_next(pfn)) != ULONG_MAX) {
		if (entry_fill(entry, &pins_small, 0, pfn, skip) ||
		    (IS_ALIGNED(pfn, 1UL << PINS_LARGE_ORDER) &&
		     entry_fill(entry, &pins_large, PINS_LARGE_ORDER, pfn, skip)))
			return true;
		cond_resched();
		pfn++;
	}
	return false;
}

/**
 * pins_entry_put() - release what pins_map_next() has found
 * @entry: the entry
 */
void pins_entry_put(struct pins_entry *entry)
{
	unsigned int i;

	for (i = 0; i < PINS_ENTRY_OWNERS; i++)
		if (entry->owner[i])
			put_pins_cgroup(entry->owner[i]);
}

/**
 * pins_map_records() - how many folios have records
 *
 * For tests that look for leaks.
 *
 * Context: any.
 */
unsigned long pins_map_records(void)
{
	struct xarray *maps[] = { &pins_small, &pins_large };
	unsigned long index, records = 0;
	struct pins_leaf *leaf;
	int i;

	rcu_read_lock();
	for (i = 0; i < ARRAY_SIZE(maps); i++)
		xa_for_each(maps[i], index, leaf)
			records += READ_ONCE(leaf->used);
	rcu_read_unlock();
	return records;
}

static int __init pins_map_init(void)
{
	unsigned int i;

	pins_leaf_cache = KMEM_CACHE(pins_leaf, SLAB_PANIC | SLAB_ACCOUNT);
	for (i = 0; i < ARRAY_SIZE(pins_looked); i++)
		INIT_LIST_HEAD(&pins_looked[i]);
	pins_list_cache = KMEM_CACHE(pins_list, SLAB_PANIC | SLAB_ACCOUNT);
	return 0;
}
core_initcall(pins_map_init);

#ifdef CONFIG_PINS_KUNIT_TEST
#include "tests/map-kunit.h"
#endif
