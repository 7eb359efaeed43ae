// SPDX-License-Identifier: GPL-2.0-only
/*
 * Threads that pin and unpin the same folios at random, for ThreadSanitizer and
 * for luck: what interleavings.c explores step by step, here at full speed, with
 * larger requests and real reordering. One thread reaps leaves, moves limits and
 * replaces a cgroup meanwhile.
 *
 * usage: threads [ROUNDS [SEED]]
 *
 * Copyright (C) 2026 the pins authors
 */
#include <pthread.h>
#include <stdarg.h>
#include <time.h>
#include <unistd.h>
#include "world.h"

#define NR_THREADS	6	/* the last one pins for a short term */
#define SHARED		96	/* small pages that all pin */
#define HUGE		512	/* pages of a huge one */
#define OWN		1024	/* and 64 small pages for each thread alone */
#define LIMIT		(64 + HUGE + 40)
#define POD_LIMIT	(HUGE + 90)
#define MOST		32

/* 1 and 2 are the same, below a pod with 3. It has less than they may have. */
static struct cgroup *cg[NR_THREADS], *pod;
static unsigned long rounds = 20000;
static u64 seed;
static atomic_long_t refused, pinned;
static bool stop;

void fail(const char *fmt, ...)
{
	va_list args;

	printf("# ");
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n# again, with luck: threads %lu %llu\n", rounds,
	       (unsigned long long)seed);
	printf("not ok 1 I1 I2 I5, racing: threads pin and unpin the same folios\n");
	fflush(stdout);
	_exit(1);
}

static unsigned int rnd(u64 *state, unsigned int n)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (*state >> 32) % n;
}

static void *racer(void *arg)
{
	unsigned int me = (unsigned long)arg, i, nr, first;
	u64 state = (seed + me) * 0x9e3779b97f4a7c15 + 1;
	bool shortterm = me == NR_THREADS - 1;
	struct page *pages[MOST];
	unsigned long round;
	struct record rec[8];

	current_task = &tasks[me];
	for (round = 0; round < rounds; round++) {
		bool own = !rnd(&state, 4);

		nr = 1 + rnd(&state, MOST);
		first = own ? OWN + me * 64 + rnd(&state, 64 - nr + 1) :
			rnd(&state, SHARED - nr + 1);
		for (i = 0; i < nr; i++)
			pages[i] = &mem_map[!own && !rnd(&state, 8) ?
					    HUGE + rnd(&state, HUGE) : first + i];
		if (shortterm) {
			for (i = 0; i < nr; i++)
				folio_pin(page_folio(pages[i]), 1);
		} else if (pin_pages(pages, nr) < 0) {
			atomic_long_inc(&refused);
			continue;
		}
		atomic_long_add(nr, &pinned);
		/* I1 once: nobody else has pins on these. */
		for (i = 0; own && i < nr; i++) {
			CHECK(peek_records(page_folio(pages[i]), rec, 8) == !shortterm);
			CHECK(shortterm || (rec->count == 1 && rec->cgrp == cg[me]));
		}
		CHECK(me != 3 || get_current(cg[me]) <= LIMIT);
		CHECK(get_current(pod) <= POD_LIMIT);
		i = rnd(&state, nr + 1);
		current->irq = rnd(&state, 2);
		unpin_user_pages(pages + i, nr - i);
		current->irq = false;
		while (i--)
			folio_unpin(page_folio(pages[i]), 1);
		rcu_poll();
	}
	return NULL;
}

/* What an administrator and the kernel's worker do */
static void *disturber(void *arg)
{
	struct page *page = &mem_map[0];
	s64 stat[NR_PINS_STATS];

	current_task = &tasks[NR_THREADS];
	while (!READ_ONCE(stop)) {
		struct cgroup *cgrp = cgroup_create(cg[0]);

		set_max(cg[0], 300);
		task_enter(NR_THREADS, cgrp);
		if (pin_pages(&page, 1) > 0) {
			get_stat(cg[0], stat);
			task_enter(NR_THREADS, root);
			set_max(cg[0], -1);
			peek_look();
			unpin_user_pages(&page, 1);
		}
		task_enter(NR_THREADS, root);
		cgroup_remove(cgrp);
		/* A few may live on while others are in the way of RCU. */
		do {
			rcu_poll();
			sched_yield();
		} while (cgroups() > NR_CSS / 2);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread[NR_THREADS + 1];
	unsigned long i;

	if (argc > 1)
		rounds = atol(argv[1]);
	seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (u64)time(NULL);
	printf("# seed %llu\n", (unsigned long long)seed);
	world_create();
	for (i = 0; i < SHARED; i++)
		folio_create(i, 0, PG_anon | PG_swapbacked, NULL);
	folio_create(HUGE, 9, PG_anon | PG_swapbacked, NULL);
	for (i = OWN; i < OWN + NR_THREADS * 64; i++)
		folio_create(i, 0, PG_anon | PG_swapbacked, NULL);
	pod = cgroup_create(root);
	for (i = 0; i < NR_THREADS; i++) {
		cg[i] = i == 2 ? cg[1] : cgroup_create(i == 1 || i == 3 ? pod : root);
		task_enter(i, cg[i]);
	}
	set_max(pod, POD_LIMIT);
	set_max(cg[1], POD_LIMIT + MOST);
	set_max(cg[3], LIMIT);

	pthread_create(&thread[NR_THREADS], NULL, disturber, NULL);
	for (i = 0; i < NR_THREADS; i++)
		pthread_create(&thread[i], NULL, racer, (void *)i);
	for (i = 0; i < NR_THREADS; i++)
		pthread_join(thread[i], NULL);
	WRITE_ONCE(stop, true);
	pthread_join(thread[NR_THREADS], NULL);

	rcu_poll();
	for (i = 0; i < NR_THREADS; i++) {
		CHECK(!get_current(cg[i]));
		task_enter(i, root);
		if (i != 2)
			cgroup_remove(cg[i]);
	}
	cgroup_remove(pod);
	for (i = 0; i < MEM_PAGES; i++)
		if (mem_map[i].head == &mem_map[i])
			folio_put_refs(page_folio(&mem_map[i]), 1);
	world_destroy();
	printf("# %ld pages pinned, %ld requests refused\n", pinned.counter,
	       refused.counter);
	printf("ok 1 I1 I2 I5, racing: threads pin and unpin the same folios\n");
	return 0;
}
