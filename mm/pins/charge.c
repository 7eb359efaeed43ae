// SPDX-License-Identifier: GPL-2.0-only
/*
 * Charging of long-term pins.
 *
 * GUP comes here with the pins that it has just taken for a FOLL_LONGTERM
 * request, and with all pins that it releases. Unpins need no help from their
 * callers: what has to be uncharged, and to whom, the pin map knows.
 *
 * A request is charged after it has been pinned, because only then is it known which
 * folios it consists of, and folio by folio, together with the record of each: so
 * what is charged is exact at every moment. If a limit is in the way, everything is
 * taken back, all of its pins are dropped and the caller gets -ENOMEM, also when GUP
 * had pinned a part of it by the fast path: a short count would reach users as
 * -EFAULT.
 *
 * Other requests may not be settled at that time, and be refused themselves. Then
 * this one waits for them and tries again, see pins_cgroup_claim(): nobody is refused
 * on account of a request that is not to last, and nobody waits but who would be.
 *
 * Who does not fit for certain is refused before he pins: see refuse.c.
 *
 * Copyright (C) 2026 the pins authors
 */

#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/vmstat.h>

#define CREATE_TRACE_POINTS
#include <trace/events/pins.h>

#include "../internal.h"
#include "internal.h"
#ifdef CONFIG_PINS_REVOKE
#include <linux/pins_revoke.h>
#endif

/* Take back what was charged and recorded. */
static void pins_take_back(struct pins_iter *it, struct pins_owner *owner)
{
	struct pins_cgroup *pins = owner->charge.pins;
	unsigned long unpins;

	/* First the records, so that they can go again */
	owner->delta.stat[PINS_PINS] = 0;
	pins_cgroup_account(pins, &owner->delta);
	unpins = -pins_map_remove(it, owner);
	owner->delta = (struct pins_delta){ .stat[PINS_UNPINS] = unpins };
	pins_cgroup_account(pins, &owner->delta);
	owner->delta = (struct pins_delta){};
}

static void pins_trace_refuse(struct pins_iter *it, struct pins_charge *charge)
{
	struct folio *folio;

	it->pos = 0;
	folio = pins_iter_run(it).folio;
	trace_pins_refuse(pins_cgroup_ino(pins_cgroup_id(charge->limit)),
			  folio_pfn(folio), folio_order(folio), charge->needed);
}

/**
 * pins_wait_released() - take back what is idle, or wait for what is just released
 * @charge: a request that was refused for good
 * @until: no longer than that, in jiffies; 0 at first
 *
 * What a task has closed may be torn down by a worker a little later. Who frees
 * memory and asks for as much shall get it. Only pins of its own cgroup are waited for.
 *
 * Context: process context, sleeps.
 * Return: whether there is room now for what it was refused, so that it makes sense
 * to try once more.
 */
bool pins_wait_released(struct pins_charge *charge, unsigned long *until)
{
	if (!*until)
		*until = jiffies + PINS_RELEASE_PATIENCE;
#ifdef CONFIG_PINS_REVOKE
	if (time_before(jiffies, *until) && pins_revoke_for(charge))
		return true;
#endif
	while (pins_cgroup_releasing(charge->pins)) {
		if (time_after(jiffies, *until) || fatal_signal_pending(current))
			return false;
		schedule_timeout_killable(1);
		if (pins_cgroup_room(charge, NULL) >= charge->needed)
			return true;
	}
	return time_before(jiffies, *until) &&
	       pins_cgroup_room(charge, NULL) >= charge->needed;
}

/* Charge the pins of a request to @pins, whose reference is consumed; or drop them. */
static int pins_charge(struct pins_iter *it, struct pins_cgroup *pins, bool writes)
{
	struct pins_owner owner = {
		.charge.pins = pins,
		.id = pins_cgroup_id(pins),
		.writes = writes,
	};
	struct pins_charge *charge = &owner.charge;
	unsigned long until = 0;
	int err;

	for (;;) {
		it->pos = 0;
		err = pins_map_add(it, &owner);
		if (!err) {
			pins_cgroup_account(pins, &owner.delta);
			break;
		}
		pins_take_back(it, &owner);
		if (err != -EDQUOT)
			break;
		if (!charge->final) {
			err = pins_cgroup_claim(charge);
			if (err)
				break;
		} else {
			/* Nobody has to wait until it has waited. */
			pins_cgroup_settle(charge);
			if (!pins_wait_released(charge, &until))
				break;
		}
	}
	pins_map_done(&owner);
	if (err == -EDQUOT && trace_pins_refuse_enabled())
		pins_trace_refuse(it, charge);
	pins_cgroup_settle(charge);
	if (err)
		pins_give_back(it);

	if (err == -EDQUOT) {
		pins_cgroup_refused(charge);
		err = -ENOMEM;
	}
	put_pins_cgroup(pins);
	return err;
}

long __pins_charge_pages(struct mm_struct *mm, struct page **pages, long nr,
			 unsigned int gup_flags)
{
	struct pins_iter it = { .pages = pages, .nr = nr };
	struct pins_cgroup *pins;
	int err;

	pins = get_pins_cgroup_from_mm(mm);
	if (!pins)
		return nr;
	err = pins_charge(&it, pins, gup_flags & FOLL_WRITE);
	return err ?: nr;
}

long __pins_charge_folios(struct folio **folios, long nr)
{
	struct pins_iter it = { .folios = folios, .nr = nr };
	struct pins_cgroup *pins;
	int err;

	pins = get_pins_cgroup_from_current();
	if (!pins)
		return nr;
	/* A memfd is of shmem or hugetlb: no file system has to be told. */
	err = pins_charge(&it, pins, false);
	return err ?: nr;
}

/* Drop pins of folios that may have records, and uncharge what has none after that. */
static void pins_unpin_recorded(struct pins_run *run, unsigned int nr,
				struct pins_batch *batch)
{
	unsigned int i;

	pins_map_unpin(run, nr, batch);
	for (i = 0; i < nr; i++)
		gup_put_refs(run[i].folio, run[i].large ? run[i].n : 1);
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

		if (likely(!atomic_read(pins_filter_of(run.folio)))) {
			if (run.large) {
				atomic_sub(run.n, &run.folio->_pincount);
				pins_unpinned_large(run.folio);
			} else {
				run.n *= GUP_PIN_COUNTING_BIAS;
			}
			gup_put_refs(run.folio, run.n);
			continue;
		}
		charged[nr++] = run;
		if (nr == PINS_BATCH) {
			pins_unpin_recorded(charged, nr, &batch);
			nr = 0;
		}
	}
	if (pgdat)
		mod_node_page_state(pgdat, NR_FOLL_PIN_RELEASED, released);
	if (nr)
		pins_unpin_recorded(charged, nr, &batch);
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

void __pins_added(struct folio *folio, unsigned int n)
{
	pins_map_more(folio, pins_attribution(), n);
}

void __pins_unpin_folio(struct folio *folio, unsigned int n)
{
	struct pins_run run = {
		.folio = folio,
		.n = n,
		.large = folio_has_pincount(folio),
	};
	struct pins_batch batch = {};

	pins_unpin_recorded(&run, 1, &batch);
	pins_batch_flush(&batch);
}

void __pins_unpinned(struct folio *folio)
{
	struct pins_run run = {
		.folio = folio,
		.large = folio_has_pincount(folio),
		.dropped = true,
	};
	struct pins_batch batch = {};

	pins_map_unpin(&run, 1, &batch);
	pins_batch_flush(&batch);
}
