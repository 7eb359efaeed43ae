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
	struct pins_run run;
	struct xarray seen;
	bool anon = true, exceed;
	int err = 0;

	xa_init(&seen);
	for (it->pos = 0; it->pos < it->nr; it->pos += run.n) {
		run = pins_iter_run(it);
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
	it->anon = anon;
	it->whole = !it->broken;
	if (!xa_empty(&seen))
		xa_destroy(&seen);
	return err == -EBUSY ? 0 : err;
}

/*
 * Charge and record a request, or do nothing.
 * Return: 0, -EDQUOT with *limit set, or -ENOMEM.
 */
static int pins_try_charge(struct pins_iter *it, struct pins_cgroup *pins,
			   bool exclusive, struct pins_cgroup **limit)
{
	struct pins_owner owner = { .pins = pins, .id = pins_cgroup_id(pins) };
	unsigned long charged;
	int err;

	pins_cgroup_charge_begin(pins, exclusive);
	err = pins_count_new(it, owner.id, exclusive, &owner.reserved);
	if (err)
		goto end;
	*limit = pins_cgroup_try_charge(pins, owner.reserved);
	if (*limit) {
		it->refused = owner.reserved;
		err = -EDQUOT;
		goto end;
	}

	charged = owner.reserved;
	it->pos = 0;
	while ((err = pins_map_add(it, &owner)) == -EDQUOT) {
		/* The cgroup has lost its record of a folio since the count. */
		unsigned long more = folio_nr_pages(pins_iter_run(it).folio) -
				     owner.reserved;

		*limit = pins_cgroup_try_charge(pins, more);
		if (*limit) {
			it->refused = more;
			break;
		}
		owner.reserved += more;
		charged += more;
	}
	pins_cgroup_account(pins, &owner.delta);
	if (err) {
		struct pins_batch batch = {};

		pins_map_remove(it, owner.id, &batch);
		pins_batch_flush(&batch);
	}
	pins_cgroup_settle(pins, charged, owner.reserved);
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
	struct pins_cgroup *limit;
	int err;

	err = pins_try_charge(it, pins, false, &limit);
	if (err == -EDQUOT)
		err = pins_try_charge(it, pins, true, &limit);
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

/* Drop the references that are left of a run. */
static __always_inline void pins_put(const struct pins_run *run)
{
	if (!put_devmap_managed_folio_refs(run->folio, run->n))
		folio_put_refs(run->folio, run->n);
}

bool __pins_unpin_folio(struct folio *folio, int refs)
{
	struct pins_run run = {
		.folio = folio,
		.n = refs,
		.large = folio_test_large(folio),
	};
	struct pins_batch batch = {};

	if (is_zero_folio(folio))
		return false;
	node_stat_mod_folio(folio, NR_FOLL_PIN_RELEASED, refs);
	pins_drop(&run);
	pins_map_fit(folio, &batch);
	pins_batch_flush(&batch);
	pins_put(&run);
	return true;
}

void __pins_unpin_pages(struct page **pages, unsigned long npages)
{
	struct pins_iter it = { .pages = pages, .nr = npages };
	struct pins_run run[PINS_BATCH];
	struct pins_batch batch = {};

	while (it.pos < it.nr) {
		unsigned int i, nr = pins_map_unpin(&it, run, &batch);
		struct pglist_data *pgdat = NULL;
		long released = 0;

		for (i = 0; i < nr; i++) {
			struct folio *folio = run[i].folio;

			if (folio_pgdat(folio) != pgdat) {
				if (pgdat)
					mod_node_page_state(pgdat,
						NR_FOLL_PIN_RELEASED, released);
				pgdat = folio_pgdat(folio);
				released = 0;
			}
			released += run[i].large ? run[i].n : 1;
			pins_put(&run[i]);
		}
		if (pgdat)
			mod_node_page_state(pgdat, NR_FOLL_PIN_RELEASED, released);
	}
	pins_batch_flush(&batch);
}

void __pins_folio_freed(struct folio *folio)
{
	struct pins_batch batch = {};

	/* It has no pins any more. */
	pins_map_fit(folio, &batch);
	pins_batch_flush(&batch);
}
