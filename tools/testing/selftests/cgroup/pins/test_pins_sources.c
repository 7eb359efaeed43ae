// SPDX-License-Identifier: GPL-2.0
/*
 * Every source of long-term pins with every kind of memory that it can pin: the
 * folios are charged whole, once, in the right line of pins.stat, are given
 * back to the last byte, and are refused when one page is missing.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "pins_util.h"

/* The parameters of the current test, set before its process starts */
static int source, kind;

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

static char *enter_for_source(void)
{
	char *cg = cg_make("a");

	need_source(source);
	enter(cg);
	return cg;
}

static void charge_and_uncharge(void)
{
	struct pin first, second;
	const char *stat = mem_kinds[kind].stat;
	long held, peak;
	size_t len;
	struct mem m;
	char *cg = enter_for_source();

	m = mem_get(kind, 0);
	len = m.kind->pin ?: m.len;

	check_eq(pin(&first, source, &m), 0);
	held = mem_folios(&m, 0, len);
	check_stat(cg, stat, held);
	check_eq(pins_stat(cg, "foreign"), 0);
	/* memfd_pin_folios() pins folios, all others do pages */
	check_eq(pins_stat(cg, "pins"), source == SOURCE_UDMABUF ?
		 len / (m.kind->folio ? min_size(m.kind->folio, len) :
			PAGE_SIZE) : len / PAGE_SIZE);

	if (!(pin_sources[source].can & CAN_ONCE)) {
		check_eq(pin(&second, source, &m), 0);
		check_stat(cg, stat, held);
		unpin(&second);
	}
	check_reaches(cg, held);
	unpin(&first);
	check_reaches(cg, 0);
	check_stat(cg, stat, 0);
	check_eq(pins_stat(cg, "unpins"), pins_stat(cg, "pins"));
	peak = pins_peak(cg);
	check_eq(peak, held);

	set_max(cg, held - PAGE_SIZE);
	check_eq(pin(&first, source, &m), -ENOMEM);
	check_reaches(cg, 0);
	check_eq(pins_events_local(cg), 1);

	set_max(cg, held);
	check_eq(pin(&first, source, &m), 0);
	check_eq(pins_current(cg), held);
	unpin_by_close(&first);
	check_reaches(cg, 0);
}

/* Half of the buffer is there for the fast path, half has to be faulted in. */
static void refused_in_the_middle(void)
{
	struct pin p, held;
	struct mem m;
	size_t i;
	char *cg = enter_for_source();

	m = mem_get(pin_sources[source].can & CAN_MEMFD_ONLY ? MEM_MEMFD :
		    MEM_UNTOUCHED, 2 * SZ_64K);
	for (i = 0; i < SZ_64K; i += PAGE_SIZE)
		m.addr[i] = 1;

	for (i = 0; i < 2 * SZ_64K; i += SZ_64K / 2) {
		set_max(cg, i);
		check_eq(pin(&p, source, &m), -ENOMEM);
		check_reaches(cg, 0);
	}
	if (pin_sources[source].can & CAN_ONCE)
		return;

	/* What was pinned before stays, no more and no less */
	set_max(cg, SZ_64K);
	check_eq(pin_part(&held, source, &m, 0, SZ_64K / 2), 0);
	check_eq(pin(&p, source, &m), -ENOMEM);
	check_reaches(cg, SZ_64K / 2);
	unpin(&held);
	check_reaches(cg, 0);
}

/* RDMA and iommufd pin in several batches: the first ones fit, a later one does not. */
static void refused_in_a_late_round(void)
{
	struct mem m;
	struct pin p;
	char *cg = enter_for_source();

	m = mem_get(MEM_MEMFD, 3 * SZ_2M);
	set_max(cg, m.len - PAGE_SIZE);
	check_eq(pin(&p, source, &m), -ENOMEM);
	check_reaches(cg, 0);
	set_max(cg, m.len);
	check_eq(pin(&p, source, &m), 0);
	check_eq(pins_current(cg), mem_folios(&m, 0, m.len));
	unpin(&p);
	check_reaches(cg, 0);
}

/* A buffer that begins and ends within a huge folio. */
static void parts_of_huge_folios(void)
{
	struct mem m;
	struct pin p;
	char *cg = enter_for_source();

	m = mem_get(pin_sources[source].can & CAN_MEMFD_ONLY ?
		    MEM_HUGETLB_FD : MEM_THP, 3 * SZ_2M);
	check_eq(pin_part(&p, source, &m, SZ_2M - SZ_64K, SZ_2M + 2 * SZ_64K),
		 0);
	check_eq(pins_current(cg), m.len);
	unpin(&p);
	check_reaches(cg, 0);
	check_eq(pin_part(&p, source, &m, SZ_2M + SZ_64K, PAGE_SIZE), 0);
	check_eq(pins_current(cg), SZ_2M);
	unpin(&p);
	check_reaches(cg, 0);
}

static void run(const char *name, void (*fn)(void))
{
	char full[256];

	snprintf(full, sizeof(full), name, pin_sources[source].name,
		 mem_kinds[kind].name);
	pins_test(full, fn);
}

static int run_all(bool really)
{
	int nr = 0;

	for (source = 0; source < NR_SOURCES; source++) {
		bool any_size = !pin_sources[source].max_len;

		for (kind = 0; kind < NR_MEM_KINDS; kind++) {
			if (!source_takes(source, &mem_kinds[kind]))
				continue;
			nr++;
			if (really)
				run("I1 once, I2 zero, I3 whole: %s pins %s",
				    charge_and_uncharge);
		}
		nr += 1 + 2 * any_size;
		if (!really)
			continue;
		run("I3 whole: %s, refused half-way, leaves nothing pinned",
		    refused_in_the_middle);
		if (!any_size)
			continue;
		run("I3 whole: %s, refused late in a long request, leaves nothing pinned",
		    refused_in_a_late_round);
		run("I1 once: %s charges huge folios whole for a part of them",
		    parts_of_huge_folios);
	}
	return nr;
}

int main(void)
{
	pins_setup(run_all(false));
	run_all(true);
	pins_finish();
}
