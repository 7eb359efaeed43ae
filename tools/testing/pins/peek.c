// SPDX-License-Identifier: GPL-2.0-only
/*
 * The pin map and the controller, and what tests may see of their insides.
 *
 * Copyright (C) 2026 the pins authors
 */
#include "../../../mm/pins/map.c"
#include "../../../mm/pins/pageblock.c"
#include "../../../kernel/cgroup/pins.c"
#ifdef CONFIG_PINS_STEER
#include "../../../kernel/cgroup/pins-policy.c"
#endif
#ifdef CONFIG_PINS_REVOKE
#include "../../../kernel/cgroup/pins-revoke.c"
#endif
#include "world.h"

static struct pins_leaf *leaf_of(struct folio *folio, unsigned int *slot)
{
	struct pins_run run = { .folio = folio, .large = folio_test_large(folio) };
	struct pins_place place = pins_place(&run);

	*slot = place.slot;
	return xa_load(place.map, place.index);
}

/* The records of a folio, the oldest first: how many, and the first @nr */
unsigned int peek_records(struct folio *folio, struct record *rec,
			  unsigned int nr)
{
	unsigned int found = 0, slot;
	struct pins_leaf *leaf;
	struct rec_iter it;
	u64 *r;

	rcu_read_lock();
	leaf = leaf_of(folio, &slot);
	if (leaf) {
		for (r = rec_first(&leaf->slot[slot], &it); r; r = rec_next(&it)) {
			if (!*r || found++ >= nr)
				continue;
			*rec++ = (struct record){
				.cgrp = css_from_id(FIELD_GET(REC_ID, *r),
						    &pins_cgrp_subsys)->cgroup,
				.count = FIELD_GET(REC_COUNT, *r),
				.type = FIELD_GET(REC_TYPE, *r),
				.foreign = *r & REC_FOREIGN,
				.writes = *r & REC_WRITE,
			};
		}
	}
	rcu_read_unlock();
	return found;
}

/* Pages charged, those of unsettled requests included */
unsigned long peek_usage(struct cgroup *cgrp)
{
	return css_pins(cgrp->pins)->counter.usage.counter;
}

unsigned long peek_max(struct cgroup *cgrp)
{
	return css_pins(cgrp->pins)->counter.max;
}

/* Nothing is going on: the leaves, their counts and the filter agree. */
void peek_consistent(bool empty)
{
	static int filter[1 << PINS_FILTER_BITS];
	struct xarray *maps[] = { &pins_small, &pins_large };
	struct pins_leaf *leaf;
	unsigned long index;
	unsigned int i, j;
	u64 records = 0;

	memset(filter, 0, sizeof(filter));
	for (i = 0; i < ARRAY_SIZE(maps); i++) {
		xa_for_each(maps[i], index, leaf) {
			unsigned int used = 0;

			CHECK(!leaf->dead && leaf->index == index);
			CHECK(!leaf->lock.held);
			for (j = 0; j < PINS_LEAF_SLOTS; j++) {
				unsigned long pfn = index * PINS_LEAF_SLOTS + j;

				if (!leaf->slot[j])
					continue;
				pfn <<= leaf->large ? PINS_LARGE_ORDER : 0;
				if (!used++ || leaf->large)
					filter[pins_filter_of((void *)&mem_map[pfn]) -
					     pins_filter]++;
			}
			CHECK(used == leaf->used);
			CHECK(used || leaf->queued);
			records += used;
		}
		CHECK(!empty || xa_empty(maps[i]));
	}
	CHECK(pins_map_records() == records);
	CHECK(!empty || !records);
	for (i = 0; i < ARRAY_SIZE(filter); i++)
		CHECK(filter[i] == READ_ONCE(pins_filter[i].counter));
}

/*
 * Run the worker that frees empty leaves and lowers records that an unpin has left in
 * place, for all of them.
 */
void peek_look(void)
{
	WRITE_ONCE(pins_look_work.work.pending, 0);
	WRITE_ONCE(the_time, jiffies + HZ * 100);
	pins_look(&pins_look_work.work);
	rcu_poll();
}

/* Run the worker that looks at pageblocks whose type has changed. */
void peek_blocks(void)
{
	if (READ_ONCE(pins_blocks_work.pending)) {
		WRITE_ONCE(pins_blocks_work.pending, 0);
		pins_blocks_update(&pins_blocks_work);
	}
}
