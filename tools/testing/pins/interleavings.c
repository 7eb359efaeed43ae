// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every order in which the steps of two or three tasks can come, up to a number
 * of preemptions.
 *
 * The tasks are coroutines. Before each atomic, lock or lookup a scheduler decides
 * who is next, and a void atomic may stay invisible to the others until its task
 * comes to a barrier, as on machines with weak ordering; that costs as much as a
 * preemption. Loads are not reordered. All decisions are tried, depth first; one
 * that nobody asked for, since a task waits or has ended, is free.
 *
 * After each step: no folio has fewer pins recorded than are held, nor, where it is
 * known whose pins are dropped, than each cgroup holds; no cgroup is charged less than
 * its records or more than its limit. In the end they agree, and when the rest is
 * unpinned nothing is left.
 *
 * usage: interleavings [PREEMPTIONS [SCENARIO [DECISIONS]]]
 * Of three tasks, one less is explored.
 *
 * Copyright (C) 2026 the pins authors
 */
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>
#include "world.h"

#define MOST_TASKS	3
#define MOST_DECISIONS	4096

/*
 * A task is a list of operations: who, what, where.
 *
 * who: cgroup a, its child c, b, or - for the root cgroup, which is not charged
 * what: P pin for the long term; p the same, may be refused; X has to be refused
 *	 G pin memory of c, who pays
 *	 U drop such a pin; V the same, not as an array; I in an interrupt
 *	 S pin for a short term; s drop such a pin; v not as an array
 *	 F unmap the folio; N make a new one when it has been freed
 *	 M set the limit; D remove the cgroup; R reap empty leaves
 * where: pages 0 to 3, or folios: m of 4 pages, t of 512
 */
struct scenario {
	const char *name;
	const char *setup;
	const char *task[MOST_TASKS];
	int refused;		/* so many at most, of those that may be */
};

static const struct scenario scenarios[] = {
	{ "I1 once: two tasks pin a page", "", { "aP0", "aP0" } },
	{ "I1 once: two tasks pin two pages, in another order", "",
	  { "aP01 aU0", "aP10 aU1" } },
	{ "I1 once: two tasks pin a huge page", "", { "aPt", "aPt aUt" } },
	{ "I1 once: two cgroups pin a page", "", { "aP0 aU0", "bP0 bU0" } },
	{ "I2 zero: the last unpin of a page, and a pin", "aP0",
	  { "aU0", "aP0" } },
	{ "I2 zero: the last unpin of a folio, and a pin", "aPm",
	  { "aVm", "aPm aUm" } },
	{ "I2 zero: the last unpin of a huge page, and a pin", "aPt",
	  { "aUt", "aPt" } },
	{ "I2 zero: the last unpin, and a pin of another cgroup", "aP0",
	  { "aU0", "bP0" } },
	{ "I2 zero: two unpins of a page", "aP0 aP0", { "aU0", "aV0" } },
	{ "I2 zero: two unpins of a huge page", "aPt aPt", { "aUt", "aVt" } },
	{ "I2 zero: two unpins of a page, and a pin", "aP0 aP0",
	  { "aU0", "aV0", "aP0" } },
	{ "I2 zero: two cgroups unpin a page", "aP0 bP0", { "aU0", "bU0" } },
	{ "I2 zero: two cgroups unpin a page, and a third pins it", "aP0 bP0",
	  { "aU0", "bU0", "cP0" } },
	{ "I2 zero: one cgroup of two unpins and pins a huge page", "aPt bPt",
	  { "aUt aPt", "bUt" } },
	{ "I2 zero: a record is added while the filter is found empty", "",
	  { "aPt aUt", "-St -st" } },
	{ "I2 zero: the same, not as an array", "", { "aPt aVt", "-St -vt" } },
	{ "I2 zero: the same with a page", "", { "aP0 aV0", "-S0 -s0" } },
	{ "I2 zero: there is no leaf, but the filter is not empty", "aP0 -Sm",
	  { "aPm aUm", "-sm" } },
	{ "I2 zero: the same, not as an array", "aP0 -Sm", { "aPm aVm", "-vm" } },
	{ "I2 zero: the same with two short pins", "aP0 -Sm -Sm",
	  { "aPm aUm", "-sm", "-vm" } },
	{ "I2 zero: the same with a page", "aP0 -S2", { "aP2 aU2", "-v2" } },
	{ "I2 zero: the same with a leaf that is being reaped", "aP0 aPm aUm -Sm",
	  { "aPm aUm", "-sm", "-R" } },
	{ "I2 zero: the filter empties and fills", "aP0",
	  { "aU0", "aP1 aU1", "-S1 -s1" } },
	{ "I2 zero: arrays that overlap", "aP012 aP123",
	  { "aU012", "aU123 aP0" } },
	{ "I3 whole: a refused request, and an unpin of a part", "aM1 aP0",
	  { "aX01", "aU0" } },
	{ "I3 whole: a refused request of two cgroups", "aM1 bP0 bP1",
	  { "aX01", "bU01" } },
	{ "I4 fair: one that fits, and one that does not", "aM2",
	  { "aX012", "aP3" } },
	{ "I4 fair: the same, in a child", "aM2", { "cX012", "aP3 aU3" } },
	{ "I4 fair: two that overlap and fit together", "aM3",
	  { "aP01", "aP12" } },
	{ "I4 fair: the same two pages", "aM2", { "aP01", "aP01" } },
	{ "I4 fair: of two that fit alone, not both are refused", "aM2",
	  { "ap01", "ap23" }, 1 },
	{ "I4 fair: the same in a child, and one beside it that always fits",
	  "aM3 cM2", { "cp01", "cp2", "aP3" }, 1 },
	{ "I4 fair: what fits, while others are refused in two levels", "aM2 cM1",
	  { "cX01", "aX012", "aP3 aU3" }, 1 },
	{ "I4 fair: two that fit alone wait for each other, not for ever", "aM5",
	  { "ap0m", "ap32" }, 1 },
	{ "I4 fair: what is taken back, but pinned again by others, is waited for no more",
	  "aM2", { "ap02", "aP0", "ap3" }, 2 },
	{ "I4 fair: pinning again at the limit, while it is unpinned",
	  "aM1 aP0", { "aU0", "aP0" } },
	{ "I4 fair: the same with a huge page", "aM512 aPt", { "aUt", "aPt" } },
	{ "I4 fair: the same with two cgroups", "aM1 aP0 bP0",
	  { "aU0", "aP0", "bU0" } },
	{ "I4 fair: pinning again, while another cgroup ends the charge",
	  "aM1 aP0", { "aU0 aP0", "bP0" } },
	{ "I4 fair: no more than the limit is charged", "aM1 aP0",
	  { "aU0", "ap1", "cp2" }, 2 },
	{ "I4 fair: the limit is lowered", "aM2",
	  { "ap01", "aM1" }, 1 },
	{ "I5 short: a short pin and a long one", "",
	  { "aP0 aU0", "-S0 -s0", "aP0" } },
	{ "I5 short: a short pin keeps no charge and ends none", "aPt -St",
	  { "aUt aPt", "-st" } },
	{ "I6 anywhere: an unpin in an interrupt", "aP0 bP0",
	  { "aI0", "bU0", "aP0" } },
	{ "I2 zero: two unpins take what a third task is about to take back",
	  "cP0 bP1 aP1", { "bP10", "bU1", "aI1" } },
	{ "I7 no ghost: the folio is freed by the last unpin", "aP0 -F0",
	  { "aU0", "-N0 bP0 bU0" } },
	{ "I7 no ghost: the same, not as an array", "aP0 -F0",
	  { "aV0", "-N0 bP0 bV0" } },
	{ "I7 no ghost: the page is used again while two reconcile",
	  "aP0 -S0 -F0", { "aU0", "-s0", "-N0 bP0" } },
	{ "I7 no ghost: a huge page is freed", "aPt -St -Ft",
	  { "aUt", "-st" } },
	{ "I1 once: of three cgroups one unpins, while the worker looks",
	  "aP0 bP0 cP0 aU0 aP0", { "bU0", "-R" } },
	{ "I1 once: the same with an array", "aP01 bP01 cP01 aU01 aP01",
	  { "cU01", "-R" } },
	{ "I1 once: of two cgroups one unpins, and a third pins", "aP0 bP0",
	  { "bU0", "cP0" } },
	{ "I1 once: of two cgroups one unpins, and pins again", "aP0 bP0",
	  { "bU0", "bP0" } },
	{ "I1 once: of three cgroups two unpin", "aP0 bP0 cP0", { "bU0", "cV0" } },
	{ "I1 once: an unpin that was in doubt, and a later one", "aP0 bP0",
	  { "bU0 cP0 cU0", "bP0 aP0" } },
	{ "I1 once: a short pin was in doubt, and an unpin is", "aP0 aS0 as0 bP0",
	  { "bU0", "cP0" } },
	{ "I1 once: the same with a large folio", "aPm aSm asm bPm", { "bUm", "cPm" } },
	{ "I1 once: one cgroup unpins, another pins for a third", "aP0 bP0",
	  { "aU0", "bG0" } },
	{ "I1 once: one cgroup unpins, another is refused", "aM1 aP0 bP0",
	  { "aX01", "bU0 bP0" } },
	{ "I9 sticky: the last pin of a removed cgroup", "aP0 aD",
	  { "-U0", "bP0 bU0" } },
	{ "I9 sticky: two pages of a removed cgroup", "cP0 cP1 cD aD",
	  { "-U0", "-V1", "bP1" } },
	{ "I9 sticky: a cgroup is removed while it unpins", "aP01",
	  { "aU01 -D", "bP0" } },
	{ "An empty leaf is reaped while a page is pinned", "aP0 aU0",
	  { "-R", "aP0" } },
	{ "The same, and another leaf takes its place", "aP0 aU0",
	  { "-R", "aP0 aU0", "bP1" } },
	{ "A leaf is reaped while huge pages use it", "aPt aUt",
	  { "-R -R", "aPt aUt" } },
};

struct task {
	ucontext_t context;
	const char *ops;
	bool done;
	unsigned long waits;	/* for a release after this one */
	struct {
		void *counter;
		long add;
		int size;
	} delayed[8];
	int nr_delayed;
};

struct decision {
	unsigned char nr, pick, cost;
};

static const struct scenario *scenario;
static struct task task[MOST_TASKS];
static int running, nr_tasks;
static bool quiet = true;
static unsigned long releases;
static ucontext_t main_context;
static char stack[MOST_TASKS][256 << 10] __aligned(64);

static struct decision decision[MOST_DECISIONS];
static int nr_decisions, position, budget, preemptions = 2;
static bool replay;
static unsigned long *schedules, *steps;	/* shared with the parent */

#define PLACES		6

static const struct {
	const char *name;
	unsigned int pfn, order;
} place[PLACES] = {
	{ "0", 0, 0 }, { "1", 1, 0 }, { "2", 40, 0 }, { "3", 3, 0 },
	{ "m", 64, 2 }, { "t", 512, 9 },
};

static int pins[PLACES], held[PLACES];	/* all; charged ones that must be */
static int held_by[PLACES][3];
static bool guess;	/* some are dropped on behalf of nobody */
static struct cgroup *cg[3];
static unsigned long limit[3];
static int refused;

/* How to come here again */
void fail(const char *fmt, ...)
{
	va_list args;
	int i;

	quiet = true;
	printf("# ");
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n# again: interleavings %d %d ", preemptions,
	       (int)(scenario - scenarios) + 1);
	for (i = 0; i < position; i++)
		if (decision[i].pick)
			printf("%d:%d,", i, decision[i].pick);
	printf("\n");
	fflush(stdout);
	_exit(1);
}

/* One of @nr ways to go on; all but the first may cost. */
static int decide(int nr, int cost)
{
	struct decision *d = &decision[position];

	if (nr == 1 || (cost > budget && !replay))
		return 0;
	CHECK(position < MOST_DECISIONS - 1);
	if (position++ == nr_decisions) {
		*d = (struct decision){ .nr = nr, .cost = cost };
		nr_decisions++;
	}
	if (d->pick)
		budget -= cost;
	d->nr = nr;
	return d->pick;
}

static bool runnable(int i)
{
	return i < nr_tasks && !task[i].done && task[i].waits != releases + 1;
}

static void switch_to(int next)
{
	int last = running;

	if (replay)
		printf("# task %d from here on, at \"%s\"\n", next, task[next].ops);
	running = next;
	current_task = &tasks[next];
	swapcontext(&task[last].context, &task[next].context);
}

/* Another task may be next; it has to be if this one cannot go on. */
static void schedule_task(bool can_go_on)
{
	int next[MOST_TASKS], nr = 0, i;

	if (can_go_on)
		next[nr++] = running;
	for (i = 0; i < nr_tasks; i++)
		if (i != running && runnable(i))
			next[nr++] = i;
	if (!nr)
		fail("all tasks wait");
	i = next[decide(nr, can_go_on)];
	if (i != running)
		switch_to(i);
}

static void check_step(void)
{
	unsigned long charged[3] = {}, n;
	struct record rec[4];
	unsigned int i, j, nr;
	int sum, own[3];

	for (i = 0; i < PLACES; i++) {
		struct folio *folio = (struct folio *)&mem_map[place[i].pfn];

		if (!pins[i])
			continue;
		nr = peek_records(folio, rec, ARRAY_SIZE(rec));
		sum = 0;
		memset(own, 0, sizeof(own));
		for (j = 0; j < nr; j++) {
			sum += rec[j].count;
			for (n = 0; n < 3; n++) {
				if (rec[j].cgrp != cg[n])
					continue;
				charged[n] += folio_nr_pages(folio);
				own[n] = rec[j].count;
			}
		}
		CHECK(sum >= held[i] && "as many pins recorded as held");
		for (n = 0; n < 3 && !guess; n++)
			CHECK(own[n] >= held_by[i][n] && "as many of each cgroup");
	}
	if (cg[0])
		charged[0] += charged[2];
	for (n = 0; n < 3; n++) {
		if (!cg[n])
			continue;
		CHECK(peek_usage(cg[n]) >= charged[n] && "records are charged");
		CHECK(peek_usage(cg[n]) <= limit[n] && "no more than the limit");
	}
}

void step(void)
{
	if (quiet)
		return;
	quiet = true;
	check_step();
	++*steps;
	quiet = false;
	schedule_task(true);
}

void step_blocked(void)
{
	if (quiet)
		fail("waits alone");
	task[running].waits = releases + 1;
	schedule_task(false);
}

void step_released(void)
{
	releases++;
}

bool step_delay(void *counter, long add, int size)
{
	struct task *t = &task[running];

	step();
	if (quiet || t->nr_delayed == ARRAY_SIZE(t->delayed) || !decide(2, 1))
		return false;
	t->delayed[t->nr_delayed].counter = counter;
	t->delayed[t->nr_delayed].add = add;
	t->delayed[t->nr_delayed++].size = size;
	return true;
}

/* A task sees what it has done itself. */
long step_delayed(const void *counter)
{
	struct task *t = &task[running];
	long sum = 0;
	int i;

	for (i = 0; i < t->nr_delayed; i++)
		if (t->delayed[i].counter == counter)
			sum += t->delayed[i].add;
	return sum;
}

void step_barrier(void)
{
	struct task *t = &task[running];
	int i;

	for (i = 0; i < t->nr_delayed; i++) {
		if (t->delayed[i].size == sizeof(int))
			*(int *)t->delayed[i].counter += t->delayed[i].add;
		else
			*(long *)t->delayed[i].counter += t->delayed[i].add;
	}
	t->nr_delayed = 0;
}

static int find_place(char c)
{
	int i = 0;

	while (*place[i].name != c)
		CHECK(++i < PLACES);
	return i;
}

static void make_folio(int i)
{
	folio_create(place[i].pfn, place[i].order, PG_anon | PG_swapbacked, NULL);
}

static void hold(int i, int which, int n)
{
	held[i] += n;
	held_by[i][which] += n;
}

static void operation(int cpu, char who, char what, const char *where)
{
	int which = who == 'a' ? 0 : who == 'b' ? 1 : 2, nr = 0, at[4], i;
	struct page *pages[4];
	long ret;

	if (cg[which] || who == '-')
		task_enter(cpu, who == '-' ? root : cg[which]);
	for (; *where > ' ' && what != 'M'; where++) {
		i = find_place(*where);
		at[nr] = i;
		/* Not the first page of a large folio */
		pages[nr++] = &mem_map[place[i].pfn + place[i].order / 2];
	}

	switch (what) {
	case 'P':
	case 'p':
	case 'X':
		for (i = 0; i < nr; i++)
			pins[at[i]]++;
		ret = pin_pages(pages, nr);
		CHECK(ret == nr || ret == -ENOMEM);
		CHECK(ret == nr ? what != 'X' : what != 'P');
		refused += ret != nr;
		for (i = 0; i < nr; i++) {
			if (ret != nr)
				pins[at[i]]--;
			else if (who != '-')
				hold(at[i], which, 1);
		}
		break;
	case 'G':
		folio_pin(page_folio(pages[0]), 1);
		pins[at[0]]++;
		task_enter(MOST_TASKS, cg[2]);
		ret = pins_charge_pages(tasks[MOST_TASKS].mm, pages, 1, FOLL_LONGTERM);
		CHECK(ret == 1);
		hold(at[0], 2, 1);
		break;
	case 'U':
	case 'V':
	case 'I':
	case 's':
	case 'v':
		for (i = 0; i < nr && what < 'a'; i++)
			hold(at[i], which, -1);
		current->irq = what == 'I';
		if (what == 'V' || what == 'v')
			folio_unpin(page_folio(pages[0]), 1);
		else
			unpin_user_pages(pages, nr);
		current->irq = false;
		for (i = 0; i < nr; i++)
			pins[at[i]]--;
		break;
	case 'S':
		pins[at[0]]++;
		folio_pin(page_folio(pages[0]), 1);
		break;
	case 'F':
		folio_put_refs(page_folio(pages[0]), 1);
		break;
	case 'N':
		while (READ_ONCE(mem_map[place[at[0]].pfn].head))
			step_blocked();
		make_folio(at[0]);
		break;
	case 'M':
		set_max(cg[which], atoi(where));
		if (quiet)
			limit[which] = atoi(where);
		break;
	case 'D':
		which = who == '-' ? 0 : which;
		task_enter(cpu, root);
		cgroup_remove(cg[which]);
		cg[which] = NULL;
		break;
	case 'R':
		peek_look();
		break;
	default:
		fail("what is %c?", what);
	}
}

static void operations(int cpu, const char *ops)
{
	while (*ops) {
		task[cpu].ops = ops;
		operation(cpu, ops[0], ops[1], ops + 2);
		ops += strcspn(ops, " ");
		ops += strspn(ops, " ");
	}
}

static void task_main(int i)
{
	int j;

	operations(i, scenario->task[i]);
	step_barrier();
	task[i].done = true;
	releases++;
	for (j = 0; j < nr_tasks; j++)
		if (!task[j].done)
			schedule_task(false);
	quiet = true;
	running = 0;
	setcontext(&main_context);
}

/* One run of the scenario, by the decisions made so far and then the first ones */
static void run(void)
{
	unsigned long charged[3] = {};
	int i, j, nr;

	memset(task, 0, sizeof(task));
	memset(held, 0, sizeof(held));
	memset(held_by, 0, sizeof(held_by));
	guess = strchr(scenario->setup, 'D');
	for (i = 0; i < MOST_TASKS && scenario->task[i]; i++)
		guess |= strpbrk(scenario->task[i], "IDs") ||
			 strstr(scenario->task[i], "-v");
	running = 0;
	refused = 0;
	position = 0;
	budget = preemptions;
	world_create();
	cg[0] = cgroup_create(root);
	cg[1] = cgroup_create(root);
	cg[2] = cgroup_create(cg[0]);
	for (i = 0; i < 3; i++)
		limit[i] = LONG_MAX;
	for (i = 0; i < PLACES; i++)
		make_folio(i);
	operations(0, scenario->setup);

	for (nr_tasks = 0; nr_tasks < MOST_TASKS; nr_tasks++) {
		ucontext_t *c = &task[nr_tasks].context;

		if (!scenario->task[nr_tasks])
			break;
		getcontext(c);
		c->uc_stack.ss_sp = stack[nr_tasks];
		c->uc_stack.ss_size = sizeof(stack[nr_tasks]);
		makecontext(c, (void (*)(void))task_main, 1, nr_tasks);
		task[nr_tasks].ops = scenario->task[nr_tasks];
	}
	releases = 1;
	running = decide(nr_tasks, 0);
	current_task = &tasks[running];
	quiet = false;
	swapcontext(&main_context, &task[running].context);
	current_task = &tasks[0];

	/* What stood in for the pins of a small folio may not have found its record. */
	for (i = 0; i < nr_tasks; i++)
		if (strpbrk(scenario->task[i], "sv"))
			peek_look();

	/* All tasks are done: all that is pinned is charged, no more, no less. */
	check_step();
	CHECK(refused <= scenario->refused + !!strchr(scenario->task[0], 'X'));
	for (i = 0; i < PLACES; i++) {
		struct folio *folio = (struct folio *)&mem_map[place[i].pfn];
		struct record rec[4];
		int sum = 0;

		if (!folio->head)
			continue;
		nr = peek_records(folio, rec, ARRAY_SIZE(rec));
		for (j = 0; j < nr; j++) {
			sum += rec[j].count;
			for (int n = 0; n < 3; n++)
				if (rec[j].cgrp == cg[n])
					charged[n] += folio_nr_pages(folio);
		}
		CHECK(sum <= pins[i] && "no more pins recorded than there are");
	}
	if (cg[0])
		charged[0] += charged[2];
	for (i = 0; i < 3; i++)
		if (cg[i])
			CHECK(get_current(cg[i]) == charged[i]);

	for (i = 0; i < NR_TASKS; i++)
		task_enter(i, root);
	for (i = 0; i < PLACES; i++) {
		struct page *page = &mem_map[place[i].pfn];

		while (pins[i]) {
			pins[i]--;
			unpin_user_pages(&page, 1);
		}
		if (page->head)
			folio_put_refs(page_folio(page), 1);
	}
	for (i = 2; i >= 0; i--) {
		s64 stat[NR_PINS_STATS];

		if (!cg[i])
			continue;
		get_stat(cg[i], stat);
		CHECK(stat[PINS_PINS] == stat[PINS_UNPINS]);
		cgroup_remove(cg[i]);
	}
	world_destroy();
}

/* To the next decisions, or false */
static bool next_decisions(void)
{
	int spent = 0, i;

	for (i = 0; i < nr_decisions; i++)
		spent += decision[i].pick ? decision[i].cost : 0;
	while (nr_decisions) {
		struct decision *d = &decision[nr_decisions - 1];

		spent -= d->pick ? d->cost : 0;
		if (d->pick + 1 < d->nr && spent + d->cost <= preemptions) {
			d->pick++;
			return true;
		}
		nr_decisions--;
	}
	return false;
}

static void explore(void)
{
	int most = preemptions - !!scenario->task[2];

	/* The fewest preemptions first: they are the easiest to understand. */
	for (preemptions = 0; preemptions <= most; preemptions++) {
		nr_decisions = 0;
		do {
			run();
			++*schedules;
			nr_decisions = position;
		} while (next_decisions());
	}
}

static void run_again(char *decisions)
{
	int at, pick, n;

	replay = true;
	nr_decisions = MOST_DECISIONS - 1;
	while (sscanf(decisions, "%d:%d,%n", &at, &pick, &n) == 2) {
		decision[at].pick = pick;
		decisions += n;
	}
	run();
}

int main(int argc, char **argv)
{
	unsigned int i, only = argc > 2 ? atoi(argv[2]) : 0;
	int status, rc = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	schedules = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	steps = schedules + 1;
	if (argc > 1)
		preemptions = atoi(argv[1]);
	for (i = 1; i <= ARRAY_SIZE(scenarios); i++) {
		if (only && i != only)
			continue;
		scenario = &scenarios[i - 1];
		*schedules = 0;
		if (!fork()) {
			if (argc > 3)
				run_again(argv[3]);
			else
				explore();
			fflush(stdout);
			_exit(0);
		}
		wait(&status);
		printf("%sok %u %s (%lu schedules)\n", status ? "not " : "", i,
		       scenario->name, *schedules);
		rc |= !!status;
	}
	printf("# %lu steps\n", *steps);
	return rc;
}
