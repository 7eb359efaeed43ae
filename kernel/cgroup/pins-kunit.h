/* SPDX-License-Identifier: GPL-2.0 */
/*
 * KUnit tests of the arithmetic of the pins controller. Included by pins.c.
 *
 * Copyright (C) 2026 the pins authors
 */

#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/kthread.h>

/* A top cgroup with a child and a grandchild, of which nobody knows. */
struct pins_tree {
	struct pins_cgroup top, child, leaf;
};

static void pins_tree_add(struct pins_cgroup *pins, struct pins_cgroup *parent,
			  unsigned long max)
{
	pins->css.flags = CSS_NO_REF;
	pins->css.parent = parent ? &parent->css : NULL;
	pins->top = parent ? parent->top : pins;
	init_rwsem(&pins->reservations);
	spin_lock_init(&pins->charge_lock);
	page_counter_init(&pins->counter, parent ? &parent->counter : NULL, false);
	pins->counter.max = max;
}

static struct pins_tree *pins_tree_grow(struct kunit *test, unsigned long top,
					unsigned long child, unsigned long leaf)
{
	struct pins_tree *tree = kunit_kzalloc(test, sizeof(*tree), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, tree);
	pins_tree_add(&tree->top, NULL, top);
	pins_tree_add(&tree->child, &tree->top, child);
	pins_tree_add(&tree->leaf, &tree->child, leaf);
	return tree;
}

static struct pins_cgroup *test_try_charge(struct pins_cgroup *pins,
					   unsigned long nr_pages)
{
	bool final;

	return pins_cgroup_try_charge(pins, nr_pages, 0, &final);
}

/* Is a refusal final, after a count that began when so many were settled? */
static bool test_refused(struct kunit *test, struct pins_cgroup *pins,
			 unsigned long nr_pages, unsigned long settled)
{
	bool final = false;

	KUNIT_EXPECT_PTR_EQ(test, pins, pins_cgroup_try_charge(pins, nr_pages,
							       settled, &final));
	return final;
}

/*
 * I4 fair: what others have reserved does not refuse a request for good, nor
 * does a count that another request of the same cgroup has overtaken.
 */
static void pins_test_final(struct kunit *test)
{
	struct pins_tree *tree = pins_tree_grow(test, 10, 10, 10);
	unsigned long before = pins_cgroup_settled(&tree->leaf);

	KUNIT_EXPECT_NULL(test, test_try_charge(&tree->leaf, 6));
	KUNIT_EXPECT_FALSE(test, test_refused(test, &tree->leaf, 5, before));
	KUNIT_EXPECT_TRUE(test, test_refused(test, &tree->leaf, 11, before));

	pins_cgroup_settle(&tree->leaf, 6, 0);
	KUNIT_EXPECT_FALSE(test, test_refused(test, &tree->leaf, 5, before));
	KUNIT_EXPECT_TRUE(test, test_refused(test, &tree->leaf, 5,
					     pins_cgroup_settled(&tree->leaf)));
	pins_cgroup_uncharge(&tree->leaf, 6);
}

/* A refusal names the limit in the way and leaves no trace, pins.peak included. */
static void pins_test_refusal(struct kunit *test)
{
	struct pins_tree *tree = pins_tree_grow(test, 10, PAGE_COUNTER_MAX, 20);

	KUNIT_EXPECT_PTR_EQ(test, test_try_charge(&tree->leaf, 21),
			    &tree->leaf);
	KUNIT_EXPECT_PTR_EQ(test, test_try_charge(&tree->leaf, 11),
			    &tree->top);
	KUNIT_EXPECT_EQ(test, page_counter_read(&tree->leaf.counter), 0);
	KUNIT_EXPECT_EQ(test, tree->top.reserved, 0);

	KUNIT_EXPECT_NULL(test, test_try_charge(&tree->leaf, 10));
	KUNIT_EXPECT_EQ(test, page_counter_read(&tree->top.counter), 10);
	KUNIT_EXPECT_PTR_EQ(test, test_try_charge(&tree->child, 1),
			    &tree->top);

	/* Three of them were not used, and were never there to be seen. */
	KUNIT_EXPECT_EQ(test, tree->top.watermark, 0);
	pins_cgroup_settle(&tree->leaf, 10, 3);
	KUNIT_EXPECT_EQ(test, tree->leaf.watermark, 7);
	KUNIT_EXPECT_EQ(test, tree->top.watermark, 7);
	KUNIT_EXPECT_EQ(test, tree->top.reserved, 0);
	pins_cgroup_uncharge(&tree->leaf, 7);
	KUNIT_EXPECT_EQ(test, page_counter_read(&tree->top.counter), 0);
	KUNIT_EXPECT_EQ(test, tree->leaf.watermark, 7);
}

/* A limit below usage takes nothing back and lets nothing in. */
static void pins_test_lowered(struct kunit *test)
{
	struct pins_tree *tree = pins_tree_grow(test, 10, 10, 10);

	KUNIT_EXPECT_NULL(test, test_try_charge(&tree->leaf, 10));
	tree->child.counter.max = 5;
	KUNIT_EXPECT_EQ(test, page_counter_read(&tree->leaf.counter), 10);
	KUNIT_EXPECT_PTR_EQ(test, test_try_charge(&tree->leaf, 1),
			    &tree->leaf);
	/* Nothing new is never refused. */
	KUNIT_EXPECT_NULL(test, test_try_charge(&tree->leaf, 0));
	pins_cgroup_settle(&tree->leaf, 10, 0);
	pins_cgroup_uncharge(&tree->leaf, 6);
	KUNIT_EXPECT_NULL(test, test_try_charge(&tree->leaf, 1));
	KUNIT_EXPECT_PTR_EQ(test, test_try_charge(&tree->leaf, 1),
			    &tree->child);
}

struct pins_charger {
	struct pins_cgroup *pins;
	unsigned long nr_pages;
	struct completion done;
	long refused, over;
};

static int pins_charger_thread(void *data)
{
	struct pins_charger *c = data;
	int i;

	for (i = 0; i < 20000; i++) {
		if (test_try_charge(c->pins, c->nr_pages)) {
			c->refused++;
			continue;
		}
		c->over += page_counter_read(&c->pins->top->counter) >
			   c->pins->top->counter.max;
		pins_cgroup_settle(c->pins, c->nr_pages, c->nr_pages);
	}
	complete(&c->done);
	return 0;
}

/* I4 fair: what fits is never refused on account of what does not. */
static void pins_test_fair(struct kunit *test)
{
	struct pins_tree *tree = pins_tree_grow(test, 100, 100, 200);
	struct pins_charger c[] = {
		{ .pins = &tree->leaf, .nr_pages = 50 },
		{ .pins = &tree->leaf, .nr_pages = 50 },
		/* Fits the leaf, and never the top. */
		{ .pins = &tree->leaf, .nr_pages = 101 },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(c); i++) {
		init_completion(&c[i].done);
		KUNIT_ASSERT_FALSE(test, IS_ERR(kthread_run(pins_charger_thread,
							    &c[i], "pins_fair/%d", i)));
	}
	for (i = 0; i < ARRAY_SIZE(c); i++) {
		wait_for_completion(&c[i].done);
		KUNIT_EXPECT_EQ(test, c[i].refused, c[i].nr_pages > 100 ? 20000 : 0);
		KUNIT_EXPECT_EQ(test, c[i].over, 0);
	}
	KUNIT_EXPECT_EQ(test, page_counter_read(&tree->top.counter), 0);
	KUNIT_EXPECT_EQ(test, tree->top.reserved, 0);
	KUNIT_EXPECT_EQ(test, tree->top.watermark, 0);
}

/* What is written to pins.max is a number of bytes, or refused. */
static void pins_test_parse(struct kunit *test)
{
	static const struct {
		const char *text;
		int err;
		unsigned long nr_pages;
	} cases[] = {
		{ "max", 0, PAGE_COUNTER_MAX },
		{ " max\n", 0, PAGE_COUNTER_MAX },
		{ "0", 0, 0 },
		{ "1", 0, 0 },
		{ "1M", 0, SZ_1M / PAGE_SIZE },
		{ "1m\n", 0, SZ_1M / PAGE_SIZE },
		{ "64k", 0, SZ_64K / PAGE_SIZE },
		{ "0x100000", 0, SZ_1M / PAGE_SIZE },
		{ "0x1e", 0, 0 },
		{ "18446744073709551615", 0, PAGE_COUNTER_MAX },
		{ "15E", 0, PAGE_COUNTER_MAX },
		{ "", -EINVAL },
		{ "\n", -EINVAL },
		{ "M", -EINVAL },
		{ "-1", -EINVAL },
		{ "+1", -EINVAL },
		{ "1MB", -EINVAL },
		{ "1 M", -EINVAL },
		{ "1 2", -EINVAL },
		{ "maximum", -EINVAL },
		{ "1.5G", -EINVAL },
		{ "16E", -EINVAL },
		{ "18446744073709551616", -EINVAL },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		unsigned long nr_pages = 4711, expected;
		char buf[32];

		strscpy(buf, cases[i].text);
		KUNIT_EXPECT_EQ_MSG(test, pins_parse_pages(buf, &nr_pages),
				    cases[i].err, "\"%s\"", cases[i].text);
		if (cases[i].err)
			expected = 4711;
		else
			expected = min(cases[i].nr_pages, PAGE_COUNTER_MAX);
		KUNIT_EXPECT_EQ_MSG(test, nr_pages, expected, "\"%s\"",
				    cases[i].text);
	}
}

static struct kunit_case pins_cgroup_test_cases[] = {
	KUNIT_CASE(pins_test_refusal),
	KUNIT_CASE(pins_test_lowered),
	KUNIT_CASE(pins_test_final),
	KUNIT_CASE_SLOW(pins_test_fair),
	KUNIT_CASE(pins_test_parse),
	{}
};

static struct kunit_suite pins_cgroup_test_suite = {
	.name = "pins_cgroup",
	.test_cases = pins_cgroup_test_cases,
};

kunit_test_suite(pins_cgroup_test_suite);
