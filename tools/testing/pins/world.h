/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What tests do with cgroups and folios, and what they look at.
 *
 * Copyright (C) 2026 the pins authors
 */
#ifndef _PINS_TEST_WORLD_H
#define _PINS_TEST_WORLD_H

#include "kernel.h"
#include <linux/page_counter.h>
#include <linux/pins.h>
#include <linux/pins_cgroup.h>
#include "../../../mm/pins/charge.h"
#include <linux/xarray.h>

#define NR_CSS		160
#define MAX_DEPTH	4
#define NR_FOLL_PIN_ACQUIRED NR_FOLL_PIN_RELEASED	/* 0 when all are back */

extern struct task_struct tasks[NR_TASKS];

/* kernel.c */
struct cgroup *cgroup_create(struct cgroup *parent);
void cgroup_remove(struct cgroup *cgrp);
int cgroups(void);
struct folio *folio_create(unsigned long pfn, unsigned int order,
			   unsigned long flags, struct cgroup *memcg);
void folio_pin(struct folio *folio, int n);
void folio_unpin(struct folio *folio, int n);

/* world.c */
extern struct cgroup *root;
void world_create(void);
void world_destroy(void);
void task_enter(unsigned int cpu, struct cgroup *cgrp);
void set_max(struct cgroup *cgrp, long pages);
void set_revoke(struct cgroup *cgrp, bool idle);
u64 get_current(struct cgroup *cgrp);
void get_stat(struct cgroup *cgrp, s64 *stat);
long pin_pages(struct page **pages, long nr);

/* peek.c */
struct record {
	struct cgroup *cgrp;
	unsigned int count;
	unsigned int type;
	bool foreign;
	bool writes;
};

unsigned int peek_records(struct folio *folio, struct record *rec,
			  unsigned int nr);
unsigned long peek_usage(struct cgroup *cgrp);
unsigned long peek_max(struct cgroup *cgrp);
void peek_consistent(bool empty);
void peek_look(void);
void peek_blocks(void);
#endif /* _PINS_TEST_WORLD_H */
