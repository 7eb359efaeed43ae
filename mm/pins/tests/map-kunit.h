/* SPDX-License-Identifier: GPL-2.0 */
/*
 * KUnit tests of the pin map. Included by map.c.
 *
 * They pin pages of their own by hand, as GUP would, on behalf of cgroups that
 * do not exist: what would be uncharged goes to a ledger.
 *
 * Copyright (C) 2026 the pins authors
 */

#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/kthread.h>
#include <linux/random.h>

#define TEST_IDS	12	/* 1 ... 11; 0 is nobody */
#define TEST_PAGES	64

struct pins_test {
	/* Pages charged, by cgroup; pins recorded */
	atomic_long_t charged[TEST_IDS];
	atomic_long_t pins[TEST_IDS];
	struct page *pages[TEST_PAGES];
};

/* The test that is running, if it is one of these */
static struct kunit *pins_test_running;

/* Its ledger, if the batch is of one of its cgroups. The worker lowers records, too. */
static struct pins_test *test_ledger(struct pins_batch *batch)
{
	struct kunit *test = READ_ONCE(pins_test_running);

	if (!test || !in_task() || FIELD_GET(REC_ID, batch->key) >= TEST_IDS ||
	    (current->kunit_test != test && !(current->flags & PF_WQ_WORKER)))
		return NULL;
	return test->priv;
}

/* Has this cgroup a record of a folio? */
static bool test_holds(struct folio *folio, u32 id)
{
	struct pins_run run = { .folio = folio, .large = folio_has_pincount(folio) };
	struct pins_place place = pins_place(&run);
	struct pins_leaf *leaf;
	unsigned long flags;
	bool ret = false;

	rcu_read_lock();
	leaf = xa_load(place.map, place.index);
	if (leaf) {
		raw_spin_lock_irqsave(&leaf->lock, flags);
		ret = slot_find(&leaf->slot[place.slot], id);
		raw_spin_unlock_irqrestore(&leaf->lock, flags);
	}
	rcu_read_unlock();
	return ret;
}

static bool pins_test_charge(struct pins_owner *owner, unsigned long nr_pages,
			     bool *charged)
{
	if (owner->charge.pins)
		return false;
	/* So much may be charged. */
	*charged = owner->charge.charged + nr_pages <= owner->charge.needed;
	if (*charged)
		owner->charge.charged += nr_pages;
	return true;
}

static bool pins_test_uncharge(struct pins_batch *batch)
{
	struct pins_test *t = test_ledger(batch);

	if (!t)
		return false;
	atomic_long_sub(batch->uncharge,
			&t->charged[FIELD_GET(REC_ID, batch->key)]);
	batch->nr_pages += batch->uncharge;
	batch->uncharge = 0;
	return true;
}

static bool pins_test_flush(struct pins_batch *batch)
{
	struct pins_test *t = test_ledger(batch);

	if (!t)
		return false;
	atomic_long_sub(batch->unpins, &t->pins[FIELD_GET(REC_ID, batch->key)]);
	return true;
}

/* Take pins as GUP does, without telling the map: short-term ones. */
static void test_grab(struct page **pages, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		struct folio *folio = page_folio(pages[i]);

		if (folio_has_pincount(folio)) {
			folio_ref_inc(folio);
			atomic_inc(&folio->_pincount);
		} else {
			folio_ref_add(folio, GUP_PIN_COUNTING_BIAS);
		}
	}
}

/* Record pins that were taken; returns how many pages were new to the cgroup. */
static long test_record(struct pins_test *t, u32 id, struct page **pages,
			unsigned int nr)
{
	struct pins_iter it = { .pages = pages, .nr = nr };
	struct pins_owner owner = { .id = id, .charge.needed = 1 << 20 };
	int err;

	err = pins_map_add(&it, &owner);
	pins_map_done(&owner);
	if (err)
		return err;
	atomic_long_add(owner.charge.charged, &t->charged[id]);
	atomic_long_add(owner.delta.stat[PINS_PINS], &t->pins[id]);
	return owner.charge.charged;
}

static long test_pin(struct pins_test *t, u32 id, struct page **pages,
		     unsigned int nr)
{
	test_grab(pages, nr);
	return test_record(t, id, pages, nr);
}

/* Drop pins, of whatever kind. */
static void test_unpin(struct page **pages, unsigned int nr)
{
	__pins_unpin_pages(pages, nr);
}

static long test_charged(struct pins_test *t, u32 id)
{
	return atomic_long_read(&t->charged[id]);
}

static int pins_map_test_init(struct kunit *test)
{
	struct pins_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	int i;

	KUNIT_ASSERT_NOT_NULL(test, t);
	test->priv = t;
	for (i = 0; i < TEST_PAGES; i++) {
		t->pages[i] = alloc_page(GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, t->pages[i]);
	}
	WRITE_ONCE(pins_test_running, test);
	/* As if there were a cgroup */
	static_branch_inc(&pins_key);
	return 0;
}

/* Each test has to leave nothing behind. */
static void pins_map_test_exit(struct kunit *test)
{
	struct pins_test *t = test->priv;
	u64 records;
	int i;

	static_branch_dec(&pins_key);
	WRITE_ONCE(pins_test_running, NULL);
	for (i = 0; i < TEST_IDS; i++) {
		KUNIT_EXPECT_EQ(test, atomic_long_read(&t->charged[i]), 0);
		KUNIT_EXPECT_EQ(test, atomic_long_read(&t->pins[i]), 0);
	}
	records = pins_map_records();
	KUNIT_EXPECT_EQ(test, records, 0);
	for (i = 0; i < 1 << PINS_FILTER_BITS; i++)
		if (atomic_read(&pins_filter[i]))
			KUNIT_FAIL(test, "filter %d is %d", i,
				   atomic_read(&pins_filter[i]));
	for (i = 0; i < TEST_PAGES && t->pages[i]; i++) {
		KUNIT_EXPECT_EQ(test, page_ref_count(t->pages[i]), 1);
		__free_page(t->pages[i]);
	}
}

/* I1 once: a folio counts once per cgroup, however often it is pinned. */
static void pins_test_once(struct kunit *test)
{
	struct pins_test *t = test->priv;

	KUNIT_EXPECT_EQ(test, test_pin(t, 1, t->pages, 8), 8);
	KUNIT_EXPECT_EQ(test, test_pin(t, 1, t->pages + 4, 8), 4);
	KUNIT_EXPECT_EQ(test, test_pin(t, 2, t->pages, 8), 8);
	test_unpin(t->pages, 4);
	KUNIT_EXPECT_EQ(test, test_charged(t, 1) + test_charged(t, 2), 16);
	test_unpin(t->pages, 8);
	test_unpin(t->pages + 4, 4);
	test_unpin(t->pages + 4, 8);
}

/* I1 once: the same page many times in one request counts once. */
static void pins_test_repeated(struct kunit *test)
{
	struct pins_test *t = test->priv;
	struct page *same[PINS_BATCH * 3];
	int i;

	for (i = 0; i < ARRAY_SIZE(same); i++)
		same[i] = t->pages[0];
	KUNIT_EXPECT_EQ(test, test_pin(t, 1, same, ARRAY_SIZE(same)), 1);
	test_unpin(same, ARRAY_SIZE(same) - 1);
	KUNIT_EXPECT_EQ(test, test_charged(t, 1), 1);
	test_unpin(same, 1);
}

/* I2 zero: pins are released in another order and grouping than taken. */
static void pins_test_grouping(struct kunit *test)
{
	struct pins_test *t = test->priv;
	int i;

	KUNIT_EXPECT_EQ(test, test_pin(t, 1, t->pages, TEST_PAGES), TEST_PAGES);
	for (i = TEST_PAGES - 1; i >= 0; i -= 2)
		test_unpin(t->pages + i, 1);
	KUNIT_EXPECT_EQ(test, test_charged(t, 1), TEST_PAGES / 2);
	for (i = 0; i < TEST_PAGES; i += 2)
		unpin_user_page(t->pages[i]);
}

/* I5 short: a short-term pin neither makes a charge nor ends one. */
static void pins_test_short(struct kunit *test)
{
	struct pins_test *t = test->priv;

	test_grab(t->pages, 4);
	KUNIT_EXPECT_EQ(test, test_pin(t, 1, t->pages, 2), 2);
	test_unpin(t->pages, 4);
	KUNIT_EXPECT_EQ(test, test_charged(t, 1), 2);
	test_grab(t->pages, 2);
	test_unpin(t->pages, 2);
	KUNIT_EXPECT_EQ(test, test_charged(t, 1), 2);
	test_unpin(t->pages, 2);
}

/* Of several owners, the one that the task stands for loses its pin. */
static void pins_test_attribution(struct kunit *test)
{
	struct pins_test *t = test->priv;
	u32 id, old;

	for (id = 1; id < TEST_IDS; id++)
		KUNIT_EXPECT_EQ(test, test_pin(t, id, t->pages, 1), 1);
	for (id = 2; id < TEST_IDS; id += 2) {
		old = set_active_pins(id);
		test_unpin(t->pages, 1);
		set_active_pins(old);
		KUNIT_EXPECT_EQ(test, test_charged(t, id), 0);
	}
	for (id = 1; id < TEST_IDS; id += 2)
		KUNIT_EXPECT_EQ(test, test_charged(t, id), 1);
	/* Nobody's in particular: any will do, one at a time. */
	for (id = 1; id < TEST_IDS; id += 2)
		test_unpin(t->pages, 1);
}

/* A folio counts whole, and has one record, wherever it is pinned. */
static void pins_test_large(struct kunit *test)
{
	static const unsigned int orders[] = { 1, 4, 5, PINS_LARGE_ORDER };
	struct pins_test *t = test->priv;
	struct page *pages[TEST_PAGES];
	unsigned int i, j, n;
	u64 records;

	for (i = 0; i < ARRAY_SIZE(orders); i++) {
		unsigned int nr = 1 << orders[i];
		struct page *page = alloc_pages(GFP_KERNEL | __GFP_COMP, orders[i]);

		KUNIT_ASSERT_NOT_NULL(test, page);
		n = min(nr, TEST_PAGES);
		for (j = 0; j < n; j++)
			pages[j] = page + nr - n + j;
		KUNIT_EXPECT_EQ(test, test_pin(t, 1, pages, n), nr);
		KUNIT_EXPECT_EQ(test, test_pin(t, 1, pages + n - 1, 1), 0);
		records = pins_map_records();
		KUNIT_EXPECT_EQ(test, records, 1);
		test_unpin(pages, n);
		KUNIT_EXPECT_EQ(test, test_charged(t, 1), nr);
		test_unpin(pages + n - 1, 1);
		KUNIT_EXPECT_EQ(test, test_charged(t, 1), 0);
		__free_pages(page, orders[i]);
	}
}

/* A hole in a large folio, where a page was replaced, is seen. */
static void pins_test_hole(struct kunit *test)
{
	struct pins_test *t = test->priv;
	struct page *page = alloc_pages(GFP_KERNEL | __GFP_COMP, 3);
	struct page *pages[8];
	int i;

	KUNIT_ASSERT_NOT_NULL(test, page);
	for (i = 0; i < 8; i++)
		pages[i] = page + i;
	pages[3] = t->pages[0];
	KUNIT_EXPECT_EQ(test, test_pin(t, 1, pages, 8), 9);
	test_unpin(pages, 4);
	KUNIT_EXPECT_EQ(test, test_charged(t, 1), 8);
	test_unpin(pages + 4, 4);
	__free_pages(page, 3);
}

/* Page cache that was pinned to be read first counts once, from when it is to be written. */
static void pins_test_file_write(struct kunit *test)
{
	struct pins_test *t = test->priv;
	static struct address_space mapping;
	int i, writes;

	/* The first is of a file, the second of a driver. */
	page_folio(t->pages[0])->mapping = &mapping;
	for (i = 0; i < 4; i++) {
		struct pins_iter it = { .pages = t->pages, .nr = 2 };
		struct pins_owner owner = { .id = 1, .charge.needed = 2, .writes = i > 1 };

		test_grab(t->pages, 2);
		KUNIT_EXPECT_EQ(test, pins_map_add(&it, &owner), 0);
		pins_map_done(&owner);
		writes = i == 2;
		KUNIT_EXPECT_EQ(test, owner.delta.stat[PINS_FILE_WRITE], writes);
		KUNIT_EXPECT_EQ(test, owner.delta.stat[PINS_FILE], i ? 0 : 2);
		atomic_long_add(owner.charge.charged, &t->charged[1]);
		atomic_long_add(owner.delta.stat[PINS_PINS], &t->pins[1]);
	}
	for (i = 0; i < 4; i++)
		test_unpin(t->pages, 2);
	page_folio(t->pages[0])->mapping = NULL;
}

/* What is in the way of a folio that has to move */
static void pins_test_obstacle(struct kunit *test)
{
	struct pins_test *t = test->priv;
	unsigned long pfn = page_to_pfn(t->pages[0]), next;
	struct folio *folio = page_folio(t->pages[0]);

	if (!IS_ENABLED(CONFIG_PINS_WAIT))
		kunit_skip(test, "nothing looks for that");
	KUNIT_EXPECT_EQ(test, pins_obstacle(&pfn, &next), PINS_FIXED);
	folio_test_set_writeback(folio);
	KUNIT_EXPECT_EQ(test, pins_obstacle(&pfn, &next), PINS_WRITEBACK);
	test_grab(t->pages, 1);
	KUNIT_EXPECT_EQ(test, pins_obstacle(&pfn, &next), PINS_SHORT);
	KUNIT_EXPECT_EQ(test, test_record(t, 1, t->pages, 1), 1);
	KUNIT_EXPECT_EQ(test, pins_obstacle(&pfn, &next), PINS_LONG);
	folio_test_clear_writeback(folio);
	test_unpin(t->pages, 1);
	KUNIT_EXPECT_EQ(test, next, pfn + 1);
}

/* I3 whole: what does not fit is taken back without a trace. */
static void pins_test_no_room(struct kunit *test)
{
	struct pins_test *t = test->priv;
	struct pins_iter it = { .pages = t->pages, .nr = TEST_PAGES };
	struct pins_owner owner = { .id = 1, .charge.needed = TEST_PAGES - 1 };

	test_grab(t->pages, TEST_PAGES);
	KUNIT_EXPECT_EQ(test, pins_map_add(&it, &owner), -EDQUOT);
	pins_map_done(&owner);
	KUNIT_EXPECT_LE(test, it.pos, TEST_PAGES - 1);
	atomic_long_add(owner.charge.charged, &t->charged[1]);
	pins_map_remove(&it, &owner);
	KUNIT_EXPECT_EQ(test, test_charged(t, 1), 0);
	test_unpin(t->pages, TEST_PAGES);
}

/* I7 no ghost: a record that its pins cannot end, ends with its folio. */
static void pins_test_ghost(struct kunit *test)
{
	struct pins_test *t = test->priv;
	struct folio *folio = page_folio(t->pages[0]);
	int extra = GUP_PIN_COUNTING_BIAS;

	/* So many references look like another pin. */
	folio_ref_add(folio, extra);
	KUNIT_EXPECT_EQ(test, test_pin(t, 1, t->pages, 1), 1);
	test_unpin(t->pages, 1);
	KUNIT_EXPECT_EQ(test, test_charged(t, 1), 1);
	folio_ref_sub(folio, extra);
	__free_page(t->pages[0]);
	KUNIT_EXPECT_EQ(test, test_charged(t, 1), 0);
	t->pages[0] = alloc_page(GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t->pages[0]);
}

/* References short of half a bias do not look like pins. */
static void pins_test_references(struct kunit *test)
{
	struct pins_test *t = test->priv;
	struct folio *folio = page_folio(t->pages[0]);
	int extra = GUP_PIN_COUNTING_BIAS / 2 - 3;

	folio_ref_add(folio, extra);
	KUNIT_EXPECT_EQ(test, test_pin(t, 1, t->pages, 1), 1);
	test_unpin(t->pages, 1);
	KUNIT_EXPECT_EQ(test, test_charged(t, 1), 0);
	folio_ref_sub(folio, extra);
}

/* Leaves that have become empty are freed, those in use again are not. */
static void pins_test_reap(struct kunit *test)
{
	struct pins_test *t = test->priv;

	test_pin(t, 1, t->pages, TEST_PAGES);
	test_unpin(t->pages, TEST_PAGES);
	KUNIT_EXPECT_FALSE(test, xa_empty(&pins_small));
	test_pin(t, 1, t->pages, 1);
	flush_delayed_work(&pins_look_work);
	KUNIT_EXPECT_TRUE(test, test_holds(page_folio(t->pages[0]), 1));
	test_unpin(t->pages, 1);
	flush_delayed_work(&pins_look_work);
	KUNIT_EXPECT_TRUE(test, xa_empty(&pins_small));
}

#define TEST_THREADS	4
#define TEST_ROUNDS	3000

struct pins_racer {
	struct kunit *test;
	struct completion done;
	u32 id;
	long lost;
};

/*
 * Pin and unpin the same few pages as the others. A page that one cgroup has
 * pinned must not lose its record while a pin is held, whatever others drop.
 */
static int pins_race_thread(void *data)
{
	struct pins_racer *racer = data;
	struct pins_test *t = racer->test->priv;
	int round;

	current->kunit_test = racer->test;
	for (round = 0; round < TEST_ROUNDS; round++) {
		unsigned int first = get_random_u32_below(TEST_PAGES);
		unsigned int nr = get_random_u32_inclusive(1, TEST_PAGES - first);
		unsigned int i;

		/* Some never tell the map. */
		if (!racer->id) {
			test_grab(t->pages + first, nr);
			test_unpin(t->pages + first, nr);
			continue;
		}

		if (test_pin(t, racer->id, t->pages + first, nr) < 0)
			break;
		if (racer->id == 1)
			for (i = first; i < first + nr; i++)
				racer->lost += !test_holds(page_folio(t->pages[i]), 1);
		/* Others reap what looks empty, all the time; but one at a time. */
		if (!(round % 64))
			mod_delayed_work(system_dfl_wq, &pins_look_work, 0);
		i = get_random_u32_below(nr + 1);
		test_unpin(t->pages + first + i, nr - i);
		test_unpin(t->pages + first, i);
	}
	current->kunit_test = NULL;
	complete(&racer->done);
	return 0;
}

static long pins_race(struct kunit *test, const u32 *ids)
{
	struct pins_racer racers[TEST_THREADS];
	long lost = 0;
	int i;

	for (i = 0; i < TEST_THREADS; i++) {
		racers[i] = (struct pins_racer){ .test = test, .id = ids[i] };
		init_completion(&racers[i].done);
		KUNIT_ASSERT_FALSE(test, IS_ERR(kthread_run(pins_race_thread,
							    &racers[i], "pins_racer/%d", i)));
	}
	for (i = 0; i < TEST_THREADS; i++) {
		wait_for_completion(&racers[i].done);
		lost += racers[i].lost;
	}
	flush_delayed_work(&pins_look_work);
	return lost;
}

/* I1 and I5, racing: a charge ends neither too early nor too late. */
static void pins_test_race(struct kunit *test)
{
	static const u32 ids[TEST_THREADS] = { 1, 1, 1, 0 };

	KUNIT_EXPECT_EQ(test, pins_race(test, ids), 0);
}

/* I2 zero, racing: with several owners, totals stay exact. */
static void pins_test_race_owners(struct kunit *test)
{
	static const u32 ids[TEST_THREADS] = { 2, 3, 4, 0 };

	pins_race(test, ids);
}

static struct kunit_case pins_map_test_cases[] = {
	KUNIT_CASE(pins_test_once),
	KUNIT_CASE(pins_test_repeated),
	KUNIT_CASE(pins_test_grouping),
	KUNIT_CASE(pins_test_short),
	KUNIT_CASE(pins_test_attribution),
	KUNIT_CASE(pins_test_large),
	KUNIT_CASE(pins_test_hole),
	KUNIT_CASE(pins_test_file_write),
	KUNIT_CASE(pins_test_obstacle),
	KUNIT_CASE(pins_test_no_room),
	KUNIT_CASE(pins_test_ghost),
	KUNIT_CASE(pins_test_references),
	KUNIT_CASE(pins_test_reap),
	KUNIT_CASE_SLOW(pins_test_race),
	KUNIT_CASE_SLOW(pins_test_race_owners),
	{}
};

static struct kunit_suite pins_map_test_suite = {
	.name = "pins_map",
	.init = pins_map_test_init,
	.exit = pins_map_test_exit,
	.test_cases = pins_map_test_cases,
};

kunit_test_suite(pins_map_test_suite);
