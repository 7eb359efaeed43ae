// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sets up a root cgroup and tasks, and makes sure that nothing is left of what a
 * test did.
 *
 * Copyright (C) 2026 the pins authors
 */
#include "world.h"

struct task_struct tasks[NR_TASKS];
static struct mm_struct mms[NR_TASKS];
struct cgroup *root;

void world_create(void)
{
	unsigned int i;

	for (i = 0; i < NR_TASKS; i++) {
		unsigned long seq = tasks[i].rcu_seq;

		mms[i].owner = &tasks[i];
		tasks[i] = (struct task_struct){
			.cpu = i, .mm = &mms[i], .rcu_seq = seq,
		};
	}
	current_task = &tasks[0];
	root = cgroup_create(NULL);
	for (i = 0; i < NR_TASKS; i++)
		tasks[i].css = root->pins;
	if (!mem_map[MEM_PAGES]._refcount.counter)
		folio_create(MEM_PAGES, 0, 0, NULL);
}

/* I2 zero: no charge, record, reference or object outlives the pins. */
void world_destroy(void)
{
	unsigned int i;

	current_task = &tasks[0];
	for (i = 0; i < NR_TASKS; i++) {
		CHECK(!tasks[i].atomic && !tasks[i].rcu_nesting);
		tasks[i].css = root->pins;
	}
	peek_look();
	peek_consistent(true);
	rcu_barrier();
	CHECK(cgroups() == 1);
	CHECK(!pins_key.counter);
	cgroup_remove(root);
	CHECK(!allocated.counter);
	for (i = 0; i < NR_NODES; i++)
		CHECK(!node_data[i].released.counter);
}

/* The current task moves to a cgroup. */
void task_enter(unsigned int cpu, struct cgroup *cgrp)
{
	struct cgroup_subsys_state *old = tasks[cpu].css;

	CHECK(css_tryget(cgrp->pins));
	WRITE_ONCE(tasks[cpu].css, cgrp->pins);
	css_put(old);
}

/* A file of the controller */
static struct cftype *file(const char *name)
{
	struct cftype *cft = pins_cgrp_subsys.dfl_cftypes;

	while (strcmp(cft->name, name))
		cft++;
	return cft;
}

/* Below 0: no limit */
void set_max(struct cgroup *cgrp, long pages)
{
	struct kernfs_open_file of = { .css = cgrp->pins };
	char buf[32] = "max";

	if (pages >= 0)
		sprintf(buf, "%ld", pages * (long)PAGE_SIZE);
	CHECK(file("max")->write(&of, buf, strlen(buf), 0) > 0);
}

void set_revoke(struct cgroup *cgrp, bool idle)
{
	struct kernfs_open_file of = { .css = cgrp->pins };
	char buf[8];

	snprintf(buf, sizeof(buf), "%s", idle ? "idle" : "never");
	CHECK(file("revoke")->write(&of, buf, strlen(buf), 0) > 0);
}

u64 get_current(struct cgroup *cgrp)
{
	return file("current")->read_u64(cgrp->pins, NULL) / PAGE_SIZE;
}

void get_stat(struct cgroup *cgrp, s64 *stat)
{
	struct kernfs_open_file of = { .css = cgrp->pins };
	struct seq_file sf = { .private = &of };
	char *p = sf.buf;
	int i;

	file("stat")->seq_show(&sf, NULL);
	for (i = 0; i < NR_PINS_STATS; i++) {
		/* "revocable" comes before it. */
		if (i == PINS_FILE_WRITE)
			p = strstr(p, "revocable ") + strlen("revocable ");
		p = strchr(p, ' ') + 1;
		stat[i] = atoll(p) / (i < PINS_PINS ? (s64)PAGE_SIZE : 1);
	}
}

/* As pin_user_pages(FOLL_LONGTERM): takes the pins, then has them charged. */
long pin_pages(struct page **pages, long nr)
{
	long i;

	for (i = 0; i < nr; i++)
		folio_pin(page_folio(pages[i]), 1);
	return pins_charge_pages(current->mm, pages, nr, FOLL_LONGTERM);
}
