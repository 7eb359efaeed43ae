// SPDX-License-Identifier: GPL-2.0-only
/*
 * What kernel.h declares: RCU, memory, the reference counts of cgroups, and the
 * lines that the patches add to GUP and the page allocator.
 *
 * Copyright (C) 2026 the pins authors
 */
#include "world.h"

__thread struct task_struct *current_task;
struct page mem_map[MEM_PAGES + 1] __aligned(512 * sizeof(struct page));
u8 block_type[MEM_PAGES / 512 + 1];
struct pglist_data node_data[NR_NODES];
unsigned long the_time;
atomic_long_t allocated, allocated_bytes;
bool tracing;

/* Locks of the tests' own: no steps in here. */
static void quiet_lock(spinlock_t *lock)
{
	while (__atomic_exchange_n(&lock->held, 1, __ATOMIC_ACQUIRE))
		sched_yield();
}

static void quiet_unlock(spinlock_t *lock)
{
	__atomic_store_n(&lock->held, 0, __ATOMIC_RELEASE);
}

/* Memory: each object has its size before it. */

#define SLAB_ALIGN	64

void *kmalloc(size_t size, gfp_t gfp)
{
	size_t *p = NULL;

	if (gfpflags_allow_blocking(gfp))
		might_sleep();
	if (current->fail_nth && --current->fail_nth < current->fail_nr)
		return NULL;
	CHECK(!posix_memalign((void **)&p, SLAB_ALIGN, SLAB_ALIGN + size));
	*p = size;
	p += SLAB_ALIGN / sizeof(*p);
	memset(p, gfp & __GFP_ZERO ? 0 : 0x5a, size);
	__atomic_add_fetch(&allocated.counter, 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&allocated_bytes.counter, size, __ATOMIC_RELAXED);
	return p;
}

void kfree(void *obj)
{
	size_t *p = obj;

	if (!p)
		return;
	p -= SLAB_ALIGN / sizeof(*p);
	__atomic_sub_fetch(&allocated.counter, 1, __ATOMIC_RELAXED);
	__atomic_sub_fetch(&allocated_bytes.counter, *p, __ATOMIC_RELAXED);
	memset(obj, 0x6b, *p);
	free(p);
}

void *kmem_cache_alloc(struct kmem_cache *cache, gfp_t gfp)
{
	void *obj = kmalloc(cache->size, gfp);

	if (obj && cache->ctor)
		cache->ctor(obj);
	return obj;
}

/* The XArray's nodes */
static void node_ctor(void *obj)
{
	struct xa_node *node = obj;

	memset(node, 0, sizeof(*node));
	INIT_LIST_HEAD(&node->private_list);
}

static struct kmem_cache node_cache = {
	.size = sizeof(struct xa_node),
	.ctor = node_ctor,
};

struct kmem_cache *radix_tree_node_cachep = &node_cache;

void radix_tree_node_rcu_free(struct rcu_head *head)
{
	kfree(container_of(head, struct xa_node, rcu_head));
}

/* RCU: freed as early as it may be, so that who should have waited is found out */

struct rcu_waiter {
	struct rcu_waiter *next;
	void *arg;
	void (*func)(void *arg);
	unsigned long seq[NR_TASKS];
};

static spinlock_t rcu_lock;
static struct rcu_waiter *rcu_waiters;
static int nr_rcu_waiters;

void rcu_read_lock(void)
{
	if (!current->rcu_nesting++)
		__atomic_add_fetch(&current->rcu_seq, 1, __ATOMIC_SEQ_CST);
}

void rcu_read_unlock(void)
{
	if (--current->rcu_nesting)
		return;
	__atomic_add_fetch(&current->rcu_seq, 1, __ATOMIC_SEQ_CST);
#ifdef PINS_STEPS
	rcu_poll();
#endif
}

void rcu_wait(void *arg, void (*func)(void *arg))
{
	struct rcu_waiter *waiter = malloc(sizeof(*waiter));
	int i;

	CHECK(waiter);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (i = 0; i < NR_TASKS; i++)
		waiter->seq[i] = __atomic_load_n(&tasks[i].rcu_seq, __ATOMIC_SEQ_CST);
	waiter->arg = arg;
	waiter->func = func;
	quiet_lock(&rcu_lock);
	waiter->next = rcu_waiters;
	rcu_waiters = waiter;
	WRITE_ONCE(nr_rcu_waiters, nr_rcu_waiters + 1);
	quiet_unlock(&rcu_lock);
}

static void rcu_call(void *arg)
{
	struct rcu_head *head = arg;

	head->func(head);
}

void call_rcu(struct rcu_head *head, void (*func)(struct rcu_head *head))
{
	head->func = func;
	rcu_wait(head, rcu_call);
}

static bool rcu_waited(struct rcu_waiter *waiter)
{
	int i;

	for (i = 0; i < NR_TASKS; i++)
		if ((waiter->seq[i] & 1) && waiter->seq[i] ==
		    __atomic_load_n(&tasks[i].rcu_seq, __ATOMIC_SEQ_CST))
			return false;
	return true;
}

/* Free what has waited long enough. */
void rcu_poll(void)
{
	struct rcu_waiter **p, *waiter, *ready = NULL;

	if (!READ_ONCE(nr_rcu_waiters))
		return;
	quiet_lock(&rcu_lock);
	for (p = &rcu_waiters; *p;) {
		waiter = *p;
		if (!rcu_waited(waiter)) {
			p = &waiter->next;
			continue;
		}
		*p = waiter->next;
		WRITE_ONCE(nr_rcu_waiters, nr_rcu_waiters - 1);
		waiter->next = ready;
		ready = waiter;
	}
	quiet_unlock(&rcu_lock);
	while (ready) {
		waiter = ready;
		ready = waiter->next;
		waiter->func(waiter->arg);
		free(waiter);
	}
}

void rcu_barrier(void)
{
	while (READ_ONCE(nr_rcu_waiters))
		rcu_poll();
}

/*
 * Cgroups. The number of one that is gone finds nothing, and is used again after a
 * grace period.
 */

struct cgroup_subsys memory_cgrp_subsys;
static struct cgroup_subsys_state *css_of_id[NR_CSS];
static struct cgroup_subsys_state *all_css[NR_CSS];	/* with those that go */
static spinlock_t css_lock;
static atomic_t nr_css;

struct cgroup_subsys_state *css_from_id(int id, struct cgroup_subsys *ss)
{
	CHECK(current->rcu_nesting && id > 0 && id < NR_CSS);
	step();
	return rcu_dereference(css_of_id[id]);
}

bool css_tryget(struct cgroup_subsys_state *css)
{
	return !css->parent || atomic_long_add_unless(&css->refcnt, 1, 0);
}

/*
 * In any order but parents first: they have lower numbers, or else were there before. One
 * that goes is not found: it is kept only for those that were there when it went.
 */
struct cgroup_subsys_state *css_next_descendant_pre(struct cgroup_subsys_state *pos,
						    struct cgroup_subsys_state *root)
{
	struct cgroup_subsys_state *css;
	int id;

	CHECK(current->rcu_nesting);
	for (id = pos ? pos->id + 1 : 1; id < NR_CSS; id++) {
		css = rcu_dereference(css_of_id[id]);
		if (css && cgroup_is_descendant(css->cgroup, root->cgroup))
			return css;
	}
	return NULL;
}

bool cgroup_is_descendant(struct cgroup *cgrp, struct cgroup *ancestor)
{
	while (cgrp && cgrp != ancestor)
		cgrp = cgrp->parent;
	return cgrp;
}

static void flush_stat(struct cgroup_subsys_state *css)
{
	int cpu;

	for (cpu = 0; cpu < NR_TASKS; cpu++)
		pins_cgrp_subsys.css_rstat_flush(css, cpu);
}

static int css_depth(struct cgroup_subsys_state *css)
{
	return css->parent ? css_depth(css->parent) + 1 : 0;
}

/* Children first */
void css_rstat_flush(struct cgroup_subsys_state *css)
{
	int depth, id;

	quiet_lock(&css_lock);
	for (depth = MAX_DEPTH; depth; depth--)
		for (id = 1; id < NR_CSS; id++)
			if (all_css[id] && css_depth(all_css[id]) == depth)
				flush_stat(all_css[id]);
	quiet_unlock(&css_lock);
}

struct cgroup *cgroup_create(struct cgroup *parent)
{
	struct cgroup *cgrp = kzalloc(sizeof(*cgrp), GFP_KERNEL);
	struct cgroup_subsys_state *css;

	css = pins_cgrp_subsys.css_alloc(parent ? parent->pins : NULL);
	CHECK(!IS_ERR(css));
	css->cgroup = cgrp;
	css->parent = parent ? parent->pins : NULL;
	css->refcnt.counter = 1;
	cgrp->parent = parent;
	cgrp->pins = css;
	cgrp->memcg.css.cgroup = cgrp;
	if (parent && parent->parent)
		css_get_many(css->parent, 1);
	atomic_inc(&nr_css);

	quiet_lock(&css_lock);
	while (all_css[++css->id])
		CHECK(css->id < NR_CSS - 1);
	all_css[css->id] = css;
	rcu_assign_pointer(css_of_id[css->id], css);
	quiet_unlock(&css_lock);
	CHECK(!pins_cgrp_subsys.css_online(css));
	return cgrp;
}

/* After a grace period */
static void css_release(void *arg)
{
	struct cgroup_subsys_state *css = arg, *parent = css->parent;

	quiet_lock(&css_lock);
	if (parent)
		flush_stat(css);
	all_css[css->id] = NULL;
	quiet_unlock(&css_lock);
	kfree(css->cgroup);
	pins_cgrp_subsys.css_free(css);
	atomic_dec(&nr_css);
	if (parent)
		css_put(parent);
}

/* The root is not counted. */
void css_put_many(struct cgroup_subsys_state *css, unsigned int n)
{
	long left;

	if (!css->parent)
		return;
	left = atomic_long_sub_return(n, &css->refcnt);
	CHECK(left >= 0);
	if (left)
		return;
	WRITE_ONCE(css_of_id[css->id], NULL);
	rcu_wait(css, css_release);
}

/* It stays while something is charged to it. */
void cgroup_remove(struct cgroup *cgrp)
{
	struct cgroup_subsys_state *css = cgrp->pins;

	if (css->parent) {
		css_put(css);
		return;
	}
	css_of_id[css->id] = NULL;
	css_release(css);
}

int cgroups(void)
{
	return READ_ONCE(nr_css.counter);
}

/* Folios */

/* Make a folio out of free pages; the caller has its first reference. */
struct folio *folio_create(unsigned long pfn, unsigned int order,
			   unsigned long flags, struct cgroup *memcg)
{
	struct page *page = &mem_map[pfn];
	unsigned long i;

	for (i = 0; i < 1UL << order; i++) {
		CHECK(!page[i]._refcount.counter && !page[i].head);
		page[i].head = page;
		page[i].order = i ? 0 : order;
		page[i].flags = flags;
		page[i].memcg_data = (unsigned long)memcg;
	}
	CHECK(!peek_records((struct folio *)page, NULL, 0));
	page->_refcount.counter = 1;
	page->_mapcount.counter = -1;
	return (struct folio *)page;
}

/* page_alloc.c: free_pages_prepare() */
static void folio_free(struct folio *folio)
{
	long i;

	CHECK(!folio->_pincount.counter);
	pins_folio_freed(folio);
	/* I7 no ghost: the page is anybody's now. */
	CHECK(!peek_records(folio, NULL, 0));
	for (i = folio_nr_pages(folio); i--;)
		WRITE_ONCE((&folio->page)[i].head, NULL);
	step_released();
}

void folio_put_refs(struct folio *folio, int refs)
{
	int left = atomic_add_return(-refs, &folio->_refcount);

	CHECK(left >= 0);
	if (!left)
		folio_free(folio);
}

/* gup.c: what takes a pin */
void folio_pin(struct folio *folio, int n)
{
	if (is_zero_folio(folio))
		return;
	mod_node_page_state(folio_pgdat(folio), NR_FOLL_PIN_ACQUIRED, -n);
	if (folio_test_large(folio)) {
		atomic_add(n, &folio->_refcount);
		atomic_add(n, &folio->_pincount);
	} else {
		atomic_add(n * GUP_PIN_COUNTING_BIAS, &folio->_refcount);
	}
}

/* gup.c: gup_put_folio() */
void folio_unpin(struct folio *folio, int n)
{
	if (is_zero_folio(folio))
		return;
	mod_node_page_state(folio_pgdat(folio), NR_FOLL_PIN_RELEASED, n);
	if (pins_unpin_folio(folio, n))
		return;
	if (folio_test_large(folio)) {
		atomic_sub(n, &folio->_pincount);
		pins_unpinned_large(folio);
	} else {
		n *= GUP_PIN_COUNTING_BIAS;
	}
	folio_put_refs(folio, n);
}

void unpin_user_pages(struct page **pages, unsigned long nr)
{
	unsigned long i;

	if (pins_unpin_pages(pages, nr))
		return;
	for (i = 0; i < nr; i++)
		if (pages[i])
			folio_unpin(page_folio(pages[i]), 1);
}

void unpin_folios(struct folio **folios, unsigned long nr)
{
	unsigned long i;

	for (i = 0; i < nr; i++)
		folio_unpin(folios[i], 1);
}
