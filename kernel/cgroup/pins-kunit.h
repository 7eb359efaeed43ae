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
	raw_spin_lock_init(&pins->charge_lock);
	mutex_init(&pins->claim_lock);
	init_waitqueue_head(&pins->settled_wait);
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

/* Charge pages to a request, or return whose limit is in the way. */
static struct pins_cgroup *test_try_charge(struct pins_charge *charge,
					   unsigned long nr_pages)
{
	unsigned long flags;
	bool charged;

	local_irq_save(flags);
	charged = pins_cgroup_try_charge(charge, nr_pages);
	local_irq_restore(flags);
	return charged ? NULL : charge->limit;
}

static void test_take_back(struct pins_charge *charge)
{
	unsigned long nr_pages = charge->charged, flags;

	local_irq_save(flags);
	pins_cgroup_take_back(charge, nr_pages);
	local_irq_restore(flags);
	css_put_many(&charge->pins->css, nr_pages);
}

/* I4 fair: what others have not settled does not refuse a request for good. */
static void pins_test_final(struct kunit *test)
{
	struct pins_tree *tree = pins_tree_grow(test, 10, 10, 10);
	struct pins_charge a = { .pins = &tree->leaf }, b = a;

	KUNIT_EXPECT_NULL(test, test_try_charge(&a, 6));
	KUNIT_EXPECT_PTR_EQ(test, test_try_charge(&b, 5), &tree->leaf);
	KUNIT_EXPECT_FALSE(test, b.final);
	KUNIT_EXPECT_PTR_EQ(test, test_try_charge(&b, 11), &tree->leaf);
	KUNIT_EXPECT_TRUE(test, b.final);
	/* What it has itself is not what others have. */
	KUNIT_EXPECT_PTR_EQ(test, test_try_charge(&a, 5), &tree->leaf);
	KUNIT_EXPECT_TRUE(test, a.final);
	KUNIT_EXPECT_EQ(test, a.needed, 11);

	pins_cgroup_settle(&a);
	KUNIT_EXPECT_PTR_EQ(test, test_try_charge(&b, 5), &tree->leaf);
	KUNIT_EXPECT_TRUE(test, b.final);
	pins_cgroup_settle(&b);
	pins_cgroup_uncharge(&tree->leaf, 6);
}

/* I4 fair: what is kept free for one request, no other gets; nor is it refused. */
static void pins_test_claim(struct kunit *test)
{
	struct pins_tree *tree = pins_tree_grow(test, 10, 20, 20);
	struct pins_charge a = { .pins = &tree->leaf, .limit = &tree->top };
	struct pins_charge b = { .pins = &tree->child };

	a.needed = 4;
	KUNIT_ASSERT_EQ(test, pins_cgroup_claim(&a), 0);
	KUNIT_EXPECT_NULL(test, test_try_charge(&b, 2));
	KUNIT_EXPECT_PTR_EQ(test, test_try_charge(&b, 1), &tree->top);
	KUNIT_EXPECT_FALSE(test, b.final);
	KUNIT_EXPECT_NULL(test, test_try_charge(&a, 7));
	pins_cgroup_settle(&a);
	KUNIT_EXPECT_NULL(test, test_try_charge(&b, 1));
	KUNIT_EXPECT_EQ(test, tree->top.claimed, 0);
	KUNIT_EXPECT_EQ(test, tree->leaf.claimed, 0);
	pins_cgroup_settle(&b);
	pins_cgroup_uncharge(&tree->leaf, 7);
	pins_cgroup_uncharge(&tree->child, 3);
	KUNIT_EXPECT_EQ(test, page_counter_read(&tree->top.counter), 0);
}

/* What is kept free for a request is never in its own way, whichever limit is lowest. */
static void pins_test_claim_own(struct kunit *test)
{
	struct pins_tree *tree = pins_tree_grow(test, 10, 10, 20);
	struct pins_charge a = { .pins = &tree->leaf, .limit = &tree->leaf };

	a.needed = 11;
	KUNIT_ASSERT_EQ(test, pins_cgroup_claim(&a), 0);
	KUNIT_EXPECT_EQ(test, a.claim, 10);
	KUNIT_EXPECT_NULL(test, test_try_charge(&a, 10));
	KUNIT_EXPECT_PTR_EQ(test, test_try_charge(&a, 1), &tree->child);
	KUNIT_EXPECT_TRUE(test, a.final);
	test_take_back(&a);
	pins_cgroup_settle(&a);
	KUNIT_EXPECT_EQ(test, tree->leaf.claimed, 0);
}

/* A refusal names the limit in the way and leaves no trace, pins.peak included. */
static void pins_test_refusal(struct kunit *test)
{
	struct pins_tree *tree = pins_tree_grow(test, 10, PAGE_COUNTER_MAX, 20);
	struct pins_charge a = { .pins = &tree->leaf }, b = { .pins = &tree->child };

	KUNIT_EXPECT_PTR_EQ(test, test_try_charge(&a, 21), &tree->leaf);
	KUNIT_EXPECT_PTR_EQ(test, test_try_charge(&a, 11), &tree->top);
	KUNIT_EXPECT_EQ(test, page_counter_read(&tree->leaf.counter), 0);
	KUNIT_EXPECT_EQ(test, tree->top.unsettled, 0);

	KUNIT_EXPECT_NULL(test, test_try_charge(&a, 10));
	KUNIT_EXPECT_EQ(test, page_counter_read(&tree->top.counter), 10);
	KUNIT_EXPECT_PTR_EQ(test, test_try_charge(&b, 1), &tree->top);
	test_take_back(&a);
	pins_cgroup_settle(&a);
	pins_cgroup_settle(&b);
	KUNIT_EXPECT_EQ(test, tree->top.watermark, 0);

	KUNIT_EXPECT_NULL(test, test_try_charge(&a, 7));
	KUNIT_EXPECT_EQ(test, tree->top.watermark, 0);
	pins_cgroup_settle(&a);
	KUNIT_EXPECT_EQ(test, tree->leaf.watermark, 7);
	KUNIT_EXPECT_EQ(test, tree->top.watermark, 7);
	KUNIT_EXPECT_EQ(test, tree->top.unsettled, 0);
	pins_cgroup_uncharge(&tree->leaf, 7);
	KUNIT_EXPECT_EQ(test, page_counter_read(&tree->top.counter), 0);
	KUNIT_EXPECT_EQ(test, tree->leaf.watermark, 7);
}

/* A limit below usage takes nothing back and lets nothing in. */
static void pins_test_lowered(struct kunit *test)
{
	struct pins_tree *tree = pins_tree_grow(test, 10, 10, 10);
	struct pins_charge a = { .pins = &tree->leaf };

	KUNIT_EXPECT_NULL(test, test_try_charge(&a, 10));
	pins_cgroup_settle(&a);
	tree->child.counter.max = 5;
	KUNIT_EXPECT_EQ(test, page_counter_read(&tree->leaf.counter), 10);
	KUNIT_EXPECT_PTR_EQ(test, test_try_charge(&a, 1), &tree->leaf);
	pins_cgroup_uncharge(&tree->leaf, 6);
	KUNIT_EXPECT_NULL(test, test_try_charge(&a, 1));
	KUNIT_EXPECT_PTR_EQ(test, test_try_charge(&a, 1), &tree->child);
}

struct pins_charger {
	struct pins_cgroup *pins;
	unsigned long nr_pages;
	struct completion done;
	long refused, over;
};

/* As charge.c, a quarter at a time */
static int pins_charger_thread(void *data)
{
	struct pins_charger *c = data;
	int i, quarter;

	for (i = 0; i < 5000; i++) {
		struct pins_charge charge = { .pins = c->pins };

again:
		for (quarter = 0; quarter < 4; quarter++)
			if (test_try_charge(&charge, c->nr_pages / 4))
				break;
		c->over += page_counter_read(&c->pins->top->counter) >
			   c->pins->top->counter.max;
		test_take_back(&charge);
		if (quarter < 4 && !charge.final) {
			if (!pins_cgroup_claim(&charge))
				goto again;
		}
		c->refused += quarter < 4;
		pins_cgroup_settle(&charge);
	}
	complete(&c->done);
	return 0;
}

/* I4 fair: what fits is never refused on account of what does not. */
static void pins_test_fair(struct kunit *test)
{
	struct pins_tree *tree = pins_tree_grow(test, 100, 100, 200);
	struct pins_charger c[] = {
		{ .pins = &tree->leaf, .nr_pages = 60 },
		{ .pins = &tree->leaf, .nr_pages = 60 },
		/* Fits the leaf, and never the top. */
		{ .pins = &tree->leaf, .nr_pages = 104 },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(c); i++) {
		init_completion(&c[i].done);
		KUNIT_ASSERT_FALSE(test, IS_ERR(kthread_run(pins_charger_thread,
							    &c[i], "pins_fair/%d", i)));
	}
	for (i = 0; i < ARRAY_SIZE(c); i++) {
		wait_for_completion(&c[i].done);
		KUNIT_EXPECT_EQ(test, c[i].refused, c[i].nr_pages > 100 ? 5000 : 0);
		KUNIT_EXPECT_EQ(test, c[i].over, 0);
	}
	KUNIT_EXPECT_EQ(test, page_counter_read(&tree->top.counter), 0);
	KUNIT_EXPECT_EQ(test, tree->top.unsettled, 0);
	KUNIT_EXPECT_EQ(test, tree->top.claimed, 0);
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
	KUNIT_CASE(pins_test_claim),
	KUNIT_CASE(pins_test_claim_own),
	KUNIT_CASE_SLOW(pins_test_fair),
	KUNIT_CASE(pins_test_parse),
	{}
};

static struct kunit_suite pins_cgroup_test_suite = {
	.name = "pins_cgroup",
	.test_cases = pins_cgroup_test_cases,
};

kunit_test_suite(pins_cgroup_test_suite);
