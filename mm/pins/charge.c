// SPDX-License-Identifier: GPL-2.0-only
/*
 * Charging of long-term pins.
 *
 * GUP comes here with the pins that it has just taken for a FOLL_LONGTERM
 * request, and with all pins that it releases. Unpins need no help from their
 * callers: what has to be uncharged, and to whom, the pin map knows.
 *
 * A request is charged as a whole, after it has been pinned, because only then
 * is it known which folios it consists of. It is walked twice: to count the
 * pages of folios that are new to the cgroup, which are then charged, and to
 * add the records. If a limit is in the way, all of its pins are dropped and
 * the caller gets -ENOMEM, also when GUP had pinned a part of it by the fast
 * path: a short count would reach users as -EFAULT.
 *
 * Copyright (C) 2026 the pins authors
 */

#include <linux/mm.h>
#include <linux/vmstat.h>
#include <linux/xarray.h>

#define CREATE_TRACE_POINTS
#include <trace/events/pins.h>

#include "internal.h"

/* Has the folio more pins than these? */
static __always_inline bool pins_exceed(const struct pins_run *run)
{
	/* Usually there are not even the references for it. */
	if (!run->large && (unsigned int)folio_ref_count(run->folio) <
			   3 * GUP_PIN_COUNTING_BIAS / 2)
		return false;
	return pins_folio_pins(run->folio) > run->n;
}

/*
 * Count the pages of the folios in a request that its cgroup has not pinned yet.
 *
 * If @exact, each of them is looked up. A folio without other pins has normally
 * no record, unless its last unpin is not quite done. Then it counts as new,
 * which does not matter so long as there is room for it.
 */
static int pins_count_new(struct pins_iter *it, u32 id, bool exact,
			  unsigned long *nr_new)
{
	unsigned long new = 0;
	struct xarray seen;
	bool anon = true;
	int err = 0;

	/*
	 * Gone with the request, and never more than its array of pages. Not charged to
	 * anybody, for a task that is over memory.high would be delayed for that, and
	 * with it those who wait for the reservation.
	 */
	xa_init(&seen);
	it->pos = 0;
	while (it->pos < it->nr) {
		struct pins_run run = pins_iter_run(it);
		bool exceed;

		it->pos += run.n;
		pins_iter_resched(it, &run);
		if (run.large || !folio_test_anon(run.folio)) {
			anon = false;
			if (is_zero_folio(run.folio))
				continue;
		}

		/* Other pins may be of this cgroup, or of this very request. */
		exceed = pins_exceed(&run);
		if (unlikely(exact || exceed) && pins_map_holds(run.folio, id))
			continue;
		if (unlikely(exceed)) {
			err = xa_insert(&seen, folio_pfn(run.folio),
					xa_mk_value(0), GFP_KERNEL);
			if (err == -EBUSY)
				continue;
			if (err)
				break;
		}
		new += run_nr_pages(&run);
	}
	*nr_new = new;
	it->anon = anon && it->pages;
	it->whole = !it->broken;
	if (!xa_empty(&seen))
		xa_destroy(&seen);
	return err == -EBUSY ? 0 : err;
}

/* How thoroughly to look before a request is refused. */
enum pins_effort {
	PINS_FAST,	/* most folios without other pins are not looked up */
	PINS_EXACT,	/* all of them are */
	PINS_EXCLUSIVE,	/* and nobody else holds a reservation */
};

/*
 * Charge and record a request, or do nothing.
 * Return: 0, or
 * * -EAGAIN: there was no room, but more effort may find some
 * * -EDQUOT: there is none; *limit is set
 * * -ENOENT, -ENOSPC: pins_map_prepare() has to come first
 * * another error
 */
static int pins_try_charge(struct pins_iter *it, struct pins_owner *owner,
			   enum pins_effort effort, struct pins_cgroup **limit)
{
	struct pins_cgroup *pins = owner->pins;
	bool exclusive = effort == PINS_EXCLUSIVE;
	bool final = exclusive;
	unsigned long charged, settled;
	int err;

	/* To count takes time. If others may have reservations, it needs none itself. */
	if (exclusive) {
		err = pins_cgroup_charge_begin(pins, true);
		if (err)
			return err;
	}
	settled = pins_cgroup_settled(pins);
	err = pins_count_new(it, owner->id, effort != PINS_FAST, &charged);
	if (!err && !exclusive)
		err = pins_cgroup_charge_begin(pins, false);
	if (err) {
		if (exclusive)
			goto end;
		return err;
	}
	*limit = pins_cgroup_try_charge(pins, charged, settled, &final);
	if (*limit) {
		it->refused = charged;
		err = final && effort != PINS_FAST ? -EDQUOT : -EAGAIN;
		goto end;
	}

	owner->delta = (struct pins_delta){};
	owner->reserved = charged;
	it->pos = 0;
	while ((err = pins_map_add(it, owner)) == -EDQUOT) {
		/* The cgroup has lost its record of a folio since the count. */
		unsigned long more = folio_nr_pages(pins_iter_run(it).folio) -
				     owner->reserved;

		*limit = pins_cgroup_try_charge(pins, more, settled, &final);
		if (*limit) {
			it->refused = charged + more;
			err = exclusive ? -EDQUOT : -EAGAIN;
			break;
		}
		owner->reserved += more;
		charged += more;
	}
	if (err)
		owner->delta.stat[PINS_PINS] = 0;
	pins_cgroup_account(pins, &owner->delta);
	if (err) {
		struct pins_batch batch = {};

		owner->delta = (struct pins_delta){};
		owner->delta.stat[PINS_UNPINS] = -pins_map_remove(it, owner->id,
								  &batch);
		pins_batch_flush(&batch);
		pins_cgroup_account(pins, &owner->delta);
	}
	pins_cgroup_settle(pins, charged, owner->reserved);
end:
	pins_cgroup_charge_end(pins, exclusive);
	return err;
}

static void pins_trace_refuse(struct pins_iter *it, struct pins_cgroup *limit)
{
	struct folio *folio;

	it->pos = 0;
	folio = pins_iter_run(it).folio;
	trace_pins_refuse(pins_cgroup_ino(pins_cgroup_id(limit)),
			  folio_pfn(folio), folio_order(folio), it->refused);
}

/* Charge the pins of a request to @pins, whose reference is consumed. */
static int pins_charge(struct pins_iter *it, struct pins_cgroup *pins)
{
	struct pins_owner owner = { .pins = pins, .id = pins_cgroup_id(pins) };
	enum pins_effort effort = PINS_FAST;
	struct pins_cgroup *limit;
	int err;

	do {
		err = pins_try_charge(it, &owner, effort, &limit);
		if (err == -EAGAIN) {
			effort++;
		} else if (err == -ENOENT || err == -ENOSPC) {
			err = pins_map_prepare(it, &owner);
			if (!err)
				err = -EAGAIN;
		}
	} while (err == -EAGAIN);
	if (owner.prepared)
		pins_map_done(&owner);

	if (err == -EDQUOT) {
		if (trace_pins_refuse_enabled())
			pins_trace_refuse(it, limit);
		pins_cgroup_refused(limit);
		err = -ENOMEM;
	}
	put_pins_cgroup(pins);
	return err;
}

long __pins_charge_pages(struct mm_struct *mm, struct page **pages, long nr)
{
	struct pins_iter it = { .pages = pages, .nr = nr };
	struct pins_cgroup *pins;
	int err;

	pins = get_pins_cgroup_from_mm(mm);
	if (!pins)
		return nr;
	err = pins_charge(&it, pins);
	if (!err)
		return nr;
	unpin_user_pages(pages, nr);
	return err;
}

long __pins_charge_folios(struct folio **folios, long nr)
{
	struct pins_iter it = { .folios = folios, .nr = nr };
	struct pins_cgroup *pins;
	int err;

	pins = get_pins_cgroup_from_current();
	if (!pins)
		return nr;
	err = pins_charge(&it, pins);
	if (!err)
		return nr;
	unpin_folios(folios, nr);
	return err;
}

static void pins_put(struct folio *folio, unsigned int refs)
{
	if (!put_devmap_managed_folio_refs(folio, refs))
		folio_put_refs(folio, refs);
}

/* Uncharge folios that have lost pins, and drop the references of large ones. */
static void pins_unpinned_runs(const struct pins_run *run, unsigned int nr,
			       struct pins_batch *batch)
{
	unsigned int i;

	pins_map_fit(run, nr, batch);
	for (i = 0; i < nr; i++)
		if (run[i].large)
			pins_put(run[i].folio, run[i].n);
}

/* Drop an array of pins, with one update of the statistics for many of them. */
static __always_inline void pins_unpin(struct pins_iter *it)
{
	struct pins_run charged[PINS_BATCH];
	struct pglist_data *pgdat = NULL;
	struct pins_batch batch = {};
	unsigned int nr = 0;
	long released = 0;

	while (it->pos < it->nr) {
		struct pins_run run = pins_iter_run(it);

		it->pos += run.n;
		if (!pins_run_pinned(&run))
			continue;

		if (folio_pgdat(run.folio) != pgdat) {
			if (pgdat)
				mod_node_page_state(pgdat, NR_FOLL_PIN_RELEASED,
						    released);
			pgdat = folio_pgdat(run.folio);
			released = 0;
		}
		released += run.n;

		if (run.large)
			atomic_sub(run.n, &run.folio->_pincount);
		else
			pins_put(run.folio, run.n * GUP_PIN_COUNTING_BIAS);
		smp_mb__after_atomic(); /* see pins_gate */
		if (likely(!atomic_read(pins_gate_of(run.folio)))) {
			if (run.large)
				pins_put(run.folio, run.n);
			continue;
		}
		charged[nr++] = run;
		if (nr == PINS_BATCH) {
			pins_unpinned_runs(charged, nr, &batch);
			nr = 0;
		}
	}
	if (pgdat)
		mod_node_page_state(pgdat, NR_FOLL_PIN_RELEASED, released);
	pins_unpinned_runs(charged, nr, &batch);
	pins_batch_flush(&batch);
}

void __pins_unpin_pages(struct page **pages, unsigned long npages)
{
	struct pins_iter it = { .pages = pages, .nr = npages };

	pins_unpin(&it);
}

void __pins_unpin_bvecs(const struct bio_vec *bvecs, unsigned int nr)
{
	struct pins_iter it = { .bvecs = bvecs, .nr = nr };

	pins_unpin(&it);
}

void __pins_unpinned(struct folio *folio, bool large)
{
	struct pins_run run = { .folio = folio, .large = large };
	struct pins_batch batch = {};

	pins_map_fit(&run, 1, &batch);
	pins_batch_flush(&batch);
}
