// SPDX-License-Identifier: GPL-2.0-only
/*
 * What charging costs: nanoseconds per page of a request, bytes per page that is
 * pinned, and how much more two threads do than one. Next to it, what it would be
 * to store a word per folio in an XArray, or in a flat array with a word for each
 * page there is, with no counting of any kind.
 *
 * The pins themselves are not counted, neither taking nor dropping them. Leaves and
 * nodes are allocated anew each time, which is the slow case.
 *
 * Copyright (C) 2026 the pins authors
 */
#include <malloc.h>
#include <pthread.h>
#include <time.h>
#include "world.h"

#define REQUEST		1024	/* pages */
#define ROUNDS		40
#define HALF		(MEM_PAGES / 2)	/* for each of two threads */

void fail(const char *fmt, ...)
{
	printf("failed: %s\n", fmt);
	exit(1);
}

struct layout {
	const char *name;
	unsigned int order, step, nr;	/* pages, of one thread */
};

static struct layout layouts[] = {
	{ "dense", 0, 1, 16384 },
	{ "scattered", 0, 64, HALF / 64 },
	{ "huge", 9, 1, HALF },
};

static struct layout *layout;
static struct page *pages[2][HALF];
static struct xarray array = XARRAY_INIT(array, 0);
static u64 flat[MEM_PAGES];

/* A run at a time, as the map does */
static long next(struct page **page)
{
	return folio_nr_pages(page_folio(*page));
}

static void map_pin(struct page **p, long nr)
{
	CHECK(pins_charge_pages(current->mm, p, nr, FOLL_LONGTERM) == nr);
}

static void xarray_pin(struct page **p, long nr)
{
	for (long i = 0; i < nr; i += next(p + i))
		xa_store(&array, page_to_pfn(p[i]), xa_mk_value(1), GFP_KERNEL);
}

static void xarray_unpin(struct page **p, long nr)
{
	for (long i = 0; i < nr; i += next(p + i))
		xa_erase(&array, page_to_pfn(p[i]));
}

static void flat_pin(struct page **p, long nr)
{
	for (long i = 0; i < nr; i += next(p + i))
		xchg(&flat[page_to_pfn(p[i])], 1);
}

static void flat_unpin(struct page **p, long nr)
{
	for (long i = 0; i < nr; i += next(p + i))
		xchg(&flat[page_to_pfn(p[i])], 0);
}

static void drop(struct page **p, long nr)
{
	unpin_user_pages(p, nr);
}

struct store {
	const char *name;
	void (*pin)(struct page **p, long nr);
	void (*unpin)(struct page **p, long nr);
};

static struct store stores[] = {
	{ "none", NULL, drop },
	{ "pin map", map_pin, drop },
	{ "XArray", xarray_pin, xarray_unpin },
	{ "flat array", flat_pin, flat_unpin },
};

static struct store *store;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

struct worker {
	pthread_t thread;
	int cpu;
	double pin, unpin;	/* ns of CPU time per page */
	double bytes;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	struct page **p = pages[w->cpu];
	long i, j, round, bytes;

	current_task = &tasks[w->cpu];
	for (round = 0; round < ROUNDS; round++) {
		double start, pin = 0, unpin = 0;

		bytes = allocated_bytes.counter;
		for (i = 0; i < layout->nr; i += REQUEST) {
			long n = min(REQUEST, layout->nr - i);

			if (store->unpin == drop)
				for (j = 0; j < n; j++)
					folio_pin(page_folio(p[i + j]), 1);
			start = now();
			if (store->pin)
				store->pin(p + i, n);
			pin += now() - start;
		}
		w->bytes = allocated_bytes.counter - bytes;
		for (i = 0; i < layout->nr; i += REQUEST) {
			start = now();
			store->unpin(p + i, min(REQUEST, layout->nr - i));
			unpin += now() - start;
		}
		if (!round || pin < w->pin)
			w->pin = pin;
		if (!round || unpin < w->unpin)
			w->unpin = unpin;
		if (!w->cpu)
			peek_look();
		rcu_poll();
	}
	w->pin /= layout->nr;
	w->unpin /= layout->nr;
	w->bytes /= layout->nr;
	return NULL;
}

static struct worker measure(int threads)
{
	struct worker w[2];
	int i;

	for (i = 0; i < threads; i++) {
		w[i] = (struct worker){ .cpu = i };
		pthread_create(&w[i].thread, NULL, work, &w[i]);
	}
	for (i = 0; i < threads; i++)
		pthread_join(w[i].thread, NULL);
	return w[0];
}

int main(void)
{
	struct cgroup *cg[2];
	unsigned int i, j;

	/* Not to count the page faults of memory that comes back */
	mallopt(M_TRIM_THRESHOLD, INT_MAX);
	mallopt(M_ARENA_MAX, 2);
	world_create();
	for (i = 0; i < 2; i++) {
		cg[i] = cgroup_create(root);
		task_enter(i, cg[i]);
	}
	printf("%-10s %-11s %8s %8s %8s %10s\n", "layout", "store", "pin ns",
	       "unpin ns", "bytes", "2 threads");
	for (layout = layouts; layout < layouts + ARRAY_SIZE(layouts); layout++) {
		double none = 0;

		for (i = 0; i < MEM_PAGES; i += 1 << layout->order)
			folio_create(i, layout->order, PG_anon | PG_swapbacked, NULL);
		for (i = 0; i < 2; i++)
			for (j = 0; j < layout->nr; j++)
				pages[i][j] = &mem_map[i * HALF + j * layout->step];

		for (i = 0; i < ARRAY_SIZE(stores); i++) {
			struct worker one, two;

			store = &stores[i];
			one = measure(1);
			if (!store->pin) {
				none = one.unpin;
				continue;
			}
			two = measure(2);
			if (store->pin == flat_pin)
				one.bytes = 8.0 * MEM_PAGES / layout->nr;
			printf("%-10s %-11s %8.2f %8.2f %8.2f %10.2f\n",
			       layout->name, store->name, one.pin,
			       one.unpin - (store->unpin == drop ? none : 0),
			       one.bytes,
			       2 * (one.pin + one.unpin) / (two.pin + two.unpin));
		}
		for (i = 0; i < MEM_PAGES; i += 1 << layout->order)
			folio_put_refs((struct folio *)&mem_map[i], 1);
	}
	for (i = 0; i < 2; i++) {
		task_enter(i, root);
		cgroup_remove(cg[i]);
	}
	xa_destroy(&array);
	world_destroy();
	return 0;
}
