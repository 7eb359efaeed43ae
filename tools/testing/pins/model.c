// SPDX-License-Identifier: GPL-2.0-only
/*
 * Random operations, compared to a model: cgroups that come and go pin and unpin
 * folios that come and go, in any grouping, while allocations fail. The model is
 * a list of counts per folio; what it says is all that the map promises.
 *
 * usage: model [OPERATIONS [SEED]]
 * The operations come from a seed, or from a fuzzer.
 *
 * Copyright (C) 2026 the pins authors
 */
#include <stdarg.h>
#include <time.h>
#include "world.h"
#include <linux/pins_revoke.h>

/* Places for cgroups; 0 is the root. More than the records of two pieces of list */
#define NR_SLOTS	22
#define NR_BLOCKS	8	/* of memory, each with folios of one order */
#define BLOCK_PAGES	(MEM_PAGES / NR_BLOCKS)
#define NR_HELD		48	/* requests */
#define MOST		64	/* pages of a request */

/* The model */

struct m_cgroup {
	struct cgroup *cgrp;
	struct m_cgroup *parent;
	long max;
	long usage;		/* with descendants, as all that follows */
	s64 stat[NR_PINS_STATS];
	long own;		/* charged to itself */
	unsigned int children;
	bool removed;
	bool idle;		/* pins.revoke */
};

struct m_record {
	struct m_cgroup *cg;
	long count;
	int type;
	bool foreign;
	bool writes;		/* a page of a file, pinned to be written */
	bool doubt;		/* pins without a record took the place of its own */
};

struct m_folio {
	struct folio *folio;
	bool mapped;		/* GUP can find it */
	long refs;		/* others than from pins */
	long pins;
	int nr;
	struct m_record rec[NR_CSS];	/* the oldest first */
};

static struct m_folio m_folio[MEM_PAGES + 1];
static struct m_cgroup *slot[NR_SLOTS];
static int m_cgroups;
static u32 m_attribution;

static void m_account(struct m_cgroup *cg, int item, long n)
{
	for (; cg; cg = cg->parent)
		cg->stat[item] += n;
}

static void m_put(struct m_cgroup *cg)
{
	if (!cg || !cg->removed || cg->own || cg->children)
		return;
	if (cg->parent)
		cg->parent->children--;
	m_put(cg->parent);
	m_cgroups--;
	free(cg);
}

/* Does the folio fragment memory? Not if it fills its pageblock. */
static bool m_movable(struct m_folio *f)
{
	return f->folio->order < pageblock_order &&
	       block_type[folio_pfn(f->folio) >> pageblock_order] != MIGRATE_UNMOVABLE;
}

static void m_charge(struct m_folio *f, struct m_record *r, int sign)
{
	long n = sign * folio_nr_pages(f->folio);
	struct m_cgroup *cg;

	for (cg = r->cg; cg; cg = cg->parent)
		cg->usage += n;
	m_account(r->cg, r->type, n);
	if (r->foreign)
		m_account(r->cg, PINS_FOREIGN, n);
	if (m_movable(f))
		m_account(r->cg, PINS_MOVABLE_BLOCK, n);
	if (r->writes)
		m_account(r->cg, PINS_FILE_WRITE, n);
	r->cg->own += n;
}

/* How many pins the folio seems to have */
static long m_pins(struct m_folio *f)
{
	if (folio_test_large(f->folio))
		return f->pins;
	return f->pins + (f->refs + GUP_PIN_COUNTING_BIAS / 2) /
			 GUP_PIN_COUNTING_BIAS;
}

static long m_sum(struct m_folio *f)
{
	long sum = 0;
	int i;

	for (i = 0; i < f->nr; i++)
		sum += f->rec[i].count;
	return sum;
}

/* One is in doubt, the last. */
static void m_doubt(struct m_folio *f, struct m_record *r)
{
	int i;

	for (i = 0; i < f->nr; i++)
		f->rec[i].doubt = &f->rec[i] == r;
}

/*
 * Lower the counts to fit, after @id has dropped some pins: first or, if it keeps some,
 * last those of @id, before others those in doubt.
 */
static void m_reconcile(struct m_folio *f, long pins, u32 id, long keep, long dropped)
{
	long excess = max(m_sum(f) - pins, 0L), n;
	int i, nr = 0, pass, turn;

	for (i = 0; i < f->nr; i++)
		if (f->rec[i].cg->cgrp->pins->id == id && excess < dropped)
			m_doubt(f, &f->rec[i]);
	for (pass = 0; pass < 3; pass++) {
		for (i = 0; i < f->nr && excess > 0; i++) {
			struct m_record *r = &f->rec[i];
			bool own = r->cg->cgrp->pins->id == id;

			if (keep)
				turn = r->doubt ? 0 : 1 + own;
			else
				turn = own && dropped ? 0 : 2 - r->doubt;
			if (turn != pass)
				continue;
			n = min(own ? r->count - keep : r->count, excess);
			if (!n)
				continue;
			if (!own || !dropped)
				r->doubt = false;
			r->count -= n;
			excess -= n;
			m_account(r->cg, PINS_UNPINS, n);
		}
	}
	for (i = 0; i < f->nr; i++) {
		if (f->rec[i].count) {
			f->rec[nr++] = f->rec[i];
			continue;
		}
		m_charge(f, &f->rec[i], -1);
		m_put(f->rec[i].cg);
	}
	f->nr = nr;
}

static struct m_record *m_find(struct m_folio *f, struct m_cgroup *cg)
{
	int i;

	for (i = 0; i < f->nr; i++)
		if (f->rec[i].cg == cg)
			return &f->rec[i];
	return NULL;
}

static int m_type(struct folio *folio)
{
	if (folio->flags & PG_hugetlb)
		return PINS_HUGETLB;
	if (folio->flags & PG_anon)
		return PINS_ANON;
	if (folio->flags & PG_device)
		return PINS_DEVICE;
	return folio->flags & PG_swapbacked ? PINS_SHMEM : PINS_FILE;
}

/* A record says from now on that a page of a file is pinned to be written. */
static void m_write(struct m_folio *f, struct m_record *r)
{
	if (r->writes)
		return;
	r->writes = true;
	m_account(r->cg, PINS_FILE_WRITE, folio_nr_pages(f->folio));
}

static void m_add(struct m_folio *f, struct m_cgroup *cg, long n, bool writes)
{
	struct cgroup *memcg = (struct cgroup *)f->folio->memcg_data;
	struct m_record *r = m_find(f, cg);
	long pins = m_pins(f);

	m_account(cg, PINS_PINS, n);
	writes &= f->folio->flags == PG_mapping;
	if (r) {
		r->count += n;
		if (writes)
			m_write(f, r);
		if (f->nr > 1)
			m_reconcile(f, max(pins, n), cg->cgrp->pins->id, n, 0);
		else
			m_reconcile(f, max(pins, n), 0, 0, 0);
		return;
	}
	m_reconcile(f, max(pins - n, 0), m_attribution, 0, 0);
	r = &f->rec[f->nr++];
	*r = (struct m_record){
		.cg = cg, .count = n, .type = m_type(f->folio),
		.foreign = memcg && !cgroup_is_descendant(memcg, cg->cgrp),
		.writes = writes,
	};
	m_charge(f, r, 1);
}

/* So many pins are dropped, or references are gone, and perhaps the folio. */
static void m_dropped(struct m_folio *f, long n)
{
	long pins, one;

	f->pins -= n;
	if (!f->folio)
		return;
	/* The last reference of a small folio goes with the pin, but later. */
	one = !folio_test_large(f->folio);
	f->refs += one;
	pins = m_pins(f);
	f->refs -= one;
	if (n)
		m_reconcile(f, pins, m_attribution, 0, n);
	if (f->pins || f->refs)
		return;
	m_reconcile(f, 0, m_attribution, 0, 0);
	f->folio = NULL;
}

/* Where the operations come from */

static u64 seed, state, op;
static const u8 *data, *data_end;

static unsigned int rnd(unsigned int n)
{
	unsigned int r;

	if (data) {
		if (data == data_end)
			return 0;
		r = *data++;
		if (n > 256 && data < data_end)
			r |= *data++ << 8;
		return r % n;
	}
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (state >> 32) % n;
}

void fail(const char *fmt, ...)
{
	va_list args;

	printf("# ");
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	fflush(stdout);
	if (data)
		abort();
	printf("\n# at operation %llu; again: model %llu %llu\n",
	       (unsigned long long)op, (unsigned long long)op + 1,
	       (unsigned long long)seed);
	printf("not ok 1 I1 I2 I3 I5 I7 I9: random operations do as the model does\n");
	exit(1);
}

/* The world and the model side by side */

struct held {
	unsigned int nr;
	u16 page[MOST];
	struct revocable *rev;
};

static struct held held[NR_HELD];
static unsigned int nr_held;
static unsigned int block_order[NR_BLOCKS];

/* Pins that may be taken back: those of a request */
struct revocable {
	struct pins_revocable rev;
	struct m_cgroup *cg;
	struct held *held;	/* NULL once they were */
	unsigned long used;
};

#define NR_REVOCABLE	16

static struct revocable revocable[NR_REVOCABLE];
static bool revoke_never;	/* nothing can be taken back just now, */
static struct held *revoke_for;	/* nor what shares folios with that request */
static bool revoke_busy;	/* something could not be */
static long revoked;		/* requests; and in all */
static u64 revoked_total;

static struct m_folio *m_of(struct page *page)
{
	return &m_folio[folio_pfn(page_folio(page))];
}

static void check_folio(struct m_folio *f)
{
	struct record rec[NR_CSS];
	unsigned int i, nr;

	nr = peek_records((struct folio *)&mem_map[f - m_folio], rec, NR_CSS);
	CHECK(nr == f->nr);
	for (i = 0; i < nr; i++) {
		CHECK(rec[i].cgrp == f->rec[i].cg->cgrp);
		CHECK(rec[i].count == f->rec[i].count);
		CHECK(rec[i].type == f->rec[i].type);
		CHECK(rec[i].foreign == f->rec[i].foreign);
		CHECK(rec[i].writes == f->rec[i].writes);
	}
}

static void check_all(void)
{
	s64 stat[NR_PINS_STATS];
	long pins = 0;
	int i;

	rcu_barrier();
	peek_blocks();
	CHECK(cgroups() == m_cgroups + 1);
	for (i = 0; i < MEM_PAGES; i++) {
		if (!m_folio[i].folio)
			continue;
		check_folio(&m_folio[i]);
		pins += m_folio[i].pins;
	}
	for (i = 1; i < NR_SLOTS; i++) {
		CHECK(get_current(slot[i]->cgrp) == slot[i]->usage);
		CHECK(peek_usage(slot[i]->cgrp) == slot[i]->usage);
		get_stat(slot[i]->cgrp, stat);
		CHECK(!memcmp(stat, slot[i]->stat, sizeof(stat)));
	}
	for (i = 0; i < NR_NODES; i++)
		pins += node_data[i].released.counter;
	CHECK(!pins);
	peek_consistent(false);
}

/* The owner lets go of what may be taken back, or was. */
static void drop_revocable(struct revocable *r)
{
	if (!r->cg)
		return;
	pins_revocable_del(&r->rev);
	pins_revocable_free(&r->rev);
	if (r->held)
		r->held->rev = NULL;
	r->cg = NULL;
}

static void move_held(struct held *to, struct held *from)
{
	*to = *from;
	if (to->rev)
		to->rev->held = to;
}

static void make_cgroup(int i)
{
	static const int parent[NR_SLOTS] = {
		0, 0, 0, 1, 1, 3, 2, 6, 1, 1, 2, 2, 2, 2, 2, 2, 1, 1, 1, 0, 0, 6
	};
	struct m_cgroup *cg = calloc(1, sizeof(*cg));

	CHECK(cg);
	cg->parent = slot[parent[i]];
	cg->cgrp = cgroup_create(cg->parent ? cg->parent->cgrp : root);
	cg->max = LONG_MAX;
	if (cg->parent)
		cg->parent->children++;
	m_cgroups++;
	slot[i] = cg;
}

static void remove_cgroup(int i)
{
	struct m_cgroup *cg = slot[i];
	int child;

	for (child = i + 1; child < NR_SLOTS; child++)
		if (slot[child] && slot[child]->parent == cg)
			remove_cgroup(child);
	for (child = 0; child < NR_REVOCABLE; child++)
		if (revocable[child].cg == cg)
			drop_revocable(&revocable[child]);
	slot[i] = NULL;
	cg->removed = true;
	cgroup_remove(cg->cgrp);
	m_put(cg);
}

/* The task enters a cgroup, and perhaps acts for another. */
static void enter(int i)
{
	struct m_cgroup *hint = slot[rnd(NR_SLOTS)];

	task_enter(0, i ? slot[i]->cgrp : root);
	current->active_pins = hint && !rnd(4) ? hint->cgrp->pins->id : 0;
	m_attribution = current->active_pins ?: current->css->id;
}

/* The page, in a folio that GUP can find; or the zero page */
static struct page *find_page(unsigned int pfn)
{
	static const int flags[] = {
		PG_anon | PG_swapbacked, PG_anon | PG_swapbacked, PG_swapbacked,
		0, PG_mapping, PG_hugetlb, PG_device,
	};
	unsigned int order = block_order[pfn / BLOCK_PAGES];
	unsigned int head = pfn & ~((1U << order) - 1);
	struct m_folio *f = &m_folio[head];
	struct m_cgroup *memcg;

	if (!f->folio) {
		/* One that stays: a memory cgroup is not kept by its memory here */
		memcg = slot[rnd(3)];
		f->folio = folio_create(head, order, flags[rnd(ARRAY_SIZE(flags))],
					memcg ? memcg->cgrp : NULL);
		f->refs = 1;
		f->mapped = true;
	}
	return f->mapped ? &mem_map[pfn] : &mem_map[MEM_PAGES];
}

static unsigned int find_pages(struct page **pages)
{
	unsigned int nr = 1 + rnd(1 + rnd(MOST)), how = rnd(8), i;
	unsigned int pfn = rnd(MEM_PAGES);

	/* Meet again more often than not */
	if (rnd(4))
		pfn = pfn / BLOCK_PAGES * BLOCK_PAGES + pfn % 40;
	for (i = 0; i < nr; i++) {
		pages[i] = find_page(pfn);
		if (how < 6)
			pfn++;
		else if (how == 6)
			pfn += rnd(300);
		pfn %= MEM_PAGES;
	}
	return nr;
}

/* Do the pages of the request that are new to the cgroup fit its limits? */
static bool m_fits(struct page **pages, unsigned int nr, struct m_cgroup *cg)
{
	long need = 0;
	unsigned int i, j;

	for (i = 0; i < nr; i++) {
		struct folio *folio = page_folio(pages[i]);

		if (is_zero_folio(folio) || m_find(m_of(pages[i]), cg))
			continue;
		for (j = 0; j < i && page_folio(pages[j]) != folio; j++)
			;
		if (j == i)
			need += folio_nr_pages(folio);
	}
	for (; need && cg; cg = cg->parent)
		if (cg->usage + need > cg->max)
			return false;
	return true;
}

/* A run: neighbours in one large folio; else a page is on its own. */
static unsigned int m_run(struct page **pages, unsigned int nr)
{
	unsigned int n = 1;

	while (n < nr && folio_test_large(page_folio(*pages)) &&
	       page_folio(pages[n]) == page_folio(*pages) &&
	       pages[n] == *pages + n)
		n++;
	return n;
}

static bool share_folios(const struct held *a, const struct held *b)
{
	unsigned int i, j;

	for (i = 0; i < a->nr; i++)
		for (j = 0; j < b->nr; j++)
			if (m_of(&mem_map[a->page[i]]) == m_of(&mem_map[b->page[j]]))
				return true;
	return false;
}

/*
 * A request that is refused for lack of room tries again, and may have lowered records of
 * others each time. The model does not know how far it came.
 */
static bool rev_trylock(struct pins_revocable *rev, struct task_struct *task)
{
	struct held *h = container_of(rev, struct revocable, rev)->held;
	bool locked = revoke_never || (revoke_for && share_folios(h, revoke_for)) || !rnd(8);

	revoke_busy |= locked;
	return !locked;
}

static void rev_unlock(struct pins_revocable *rev, struct task_struct *task)
{
}

static unsigned long rev_used(const struct pins_revocable *rev)
{
	return container_of(rev, struct revocable, rev)->used;
}

/* As io_uring does: on behalf of who pays */
static int rev_revoke(struct pins_revocable *rev, unsigned long start_pfn,
		      unsigned long end_pfn, bool yield)
{
	struct revocable *r = container_of(rev, struct revocable, rev);
	u32 attribution = m_attribution, id = r->cg->cgrp->pins->id, active;
	struct m_folio *folios[MOST];
	struct page *pages[MOST];
	unsigned int run[MOST], i;
	struct m_cgroup *cg;

	CHECK(!end_pfn && r->held && r->held->rev == r);
	for (cg = r->cg; cg && !cg->idle; cg = cg->parent)
		;
	CHECK(cg);
	if (!rnd(8)) {
		revoke_busy = true;
		return -EBUSY;
	}
	for (i = 0; i < r->held->nr; i++) {
		pages[i] = &mem_map[r->held->page[i]];
		folios[i] = m_of(pages[i]);
	}
	for (i = 0; i < r->held->nr; i++)
		run[i] = m_run(pages + i, r->held->nr - i);
	active = set_active_pins(id);
	unpin_user_pages(pages, r->held->nr);
	set_active_pins(active);
	m_attribution = id;
	for (i = 0; i < r->held->nr; i += run[i])
		m_dropped(folios[i], run[i]);
	m_attribution = attribution;
	m_account(r->cg, PINS_REVOKED, r->rev.nr_pages);
	r->held->nr = 0;
	r->held->rev = NULL;
	r->held = NULL;
	revoked++;
	revoked_total++;
	return 1;
}

static const struct pins_revocable_ops revocable_ops = {
	.trylock = rev_trylock, .unlock = rev_unlock, .used = rev_used, .revoke = rev_revoke,
};

/* From now on a request that was charged may lose its pins, if its cgroup gives way. */
static void make_revocable(struct held *h, struct m_cgroup *cg)
{
	struct revocable *r = &revocable[rnd(NR_REVOCABLE)];
	struct folio *last = NULL;
	unsigned int i;

	drop_revocable(r);
	*r = (struct revocable){
		.rev.ops = &revocable_ops, .rev.end_pfn = ULONG_MAX,
		.cg = cg, .held = h, .used = jiffies - rnd(1000),
	};
	for (i = 0; i < h->nr; i++) {
		struct folio *folio = page_folio(&mem_map[h->page[i]]);

		if (folio != last)
			r->rev.nr_pages += folio_nr_pages(folio);
		last = folio;
	}
	h->rev = r;
	pins_revocable_add(&r->rev, get_pins_cgroup_from_id(cg->cgrp->pins->id));
}

/* A request that was refused may have said so before that. It stays so, see rec_more(). */
static void refused_write(struct m_folio *f, struct m_cgroup *cg)
{
	struct m_record *r = m_find(f, cg);
	struct record rec[NR_CSS];
	unsigned int i, nr;

	if (!r || f->folio->flags != PG_mapping)
		return;
	nr = peek_records(f->folio, rec, NR_CSS);
	for (i = 0; i < nr; i++)
		if (rec[i].cgrp == cg->cgrp && rec[i].writes)
			m_write(f, r);
}

static void op_pin(void)
{
	struct page *pages[MOST];
	struct folio *folios[MOST];
	struct held *h = &held[nr_held];
	unsigned int i, n, nr = find_pages(pages), kind = rnd(8);
	struct m_cgroup *payer, *cg;
	bool stale = false, fits, writes;
	long ret;

	if (nr_held == NR_HELD)
		return;
	i = rnd(NR_SLOTS);
	enter(i);
	payer = slot[i];
	/* memfd_pin_folios() finds no anonymous ones. */
	for (i = 0; i < nr; i++)
		if (kind == 1 && folio_test_anon(page_folio(pages[i])))
			kind = 3;
	for (i = 0; i < nr; i++) {
		struct m_folio *f = m_of(pages[i]);

		stale |= f->folio && m_sum(f) > m_pins(f);
		folios[i] = page_folio(pages[i]);
		if (kind == 1)
			pages[i] = &folios[i]->page;
		folio_pin(folios[i], 1);
		f->pins++;
		h->page[i] = pages[i] - mem_map;
	}
	h->nr = nr;
	h->rev = NULL;

	if (!kind) {
		nr_held++;
		return;		/* for a short term */
	}
	if (kind == 2) {	/* memory of somebody else */
		i = rnd(NR_SLOTS);
		task_enter(1, slot[i] ? slot[i]->cgrp : root);
		payer = slot[i];
	}
	fits = !payer || m_fits(pages, nr, payer);
	/*
	 * Who is refused where it has a record has lowered stale ones of others by then. The
	 * model does not know how far it came.
	 */
	for (i = 0; i < nr && stale && !fits; i++) {
		if (m_find(m_of(pages[i]), payer)) {
			nr_held++;
			return;		/* for a short term */
		}
	}
	writes = kind != 1 && rnd(2);
	if (!stale && !rnd(8)) {
		current->fail_nth = 1 + rnd(8);
		current->fail_nr = 1 + 7 * rnd(2);
		current->killed = !rnd(8);
	}
	revoke_never = stale;
	revoke_for = h;
	revoke_busy = false;
	revoked = 0;
	if (kind == 1)
		ret = pins_charge_folios(folios, nr);
	else
		ret = pins_charge_pages(tasks[kind == 2].mm, pages, nr,
					FOLL_LONGTERM | (writes ? FOLL_WRITE : 0));
	revoke_never = false;
	revoke_for = NULL;
	/* Nothing is taken back for what fits, nor is it refused when that has made room. */
	CHECK(!fits || !revoked);
	if (ret == -ENOMEM && revoked)
		CHECK(revoke_busy || !m_fits(pages, nr, payer) ||
		      current->fail_nth < current->fail_nr);
	/* I3 whole, I4 fair; what was to fail may not have mattered. */
	if (ret < 0)
		CHECK(ret == -EINTR ? current->killed :
		      ret == -ENOMEM &&
		      (!fits || current->fail_nth < current->fail_nr));
	else
		CHECK(ret == nr);
	current->fail_nth = 0;
	current->killed = false;

	if (ret < 0) {
		m_attribution = PINS_NOBODY;
		for (i = 0; i < nr; i += n) {
			n = kind == 1 ? 1 : m_run(pages + i, nr - i);
			m_dropped(m_of(pages[i]), n);
		}
		for (i = 0; payer && writes && i < nr; i++)
			refused_write(m_of(pages[i]), payer);
	} else {
		nr_held++;
		if (payer && !rnd(2))
			make_revocable(h, payer);
		for (i = 0; payer && i < nr; i += n) {
			n = kind == 1 ? 1 : m_run(pages + i, nr - i);
			if (!is_zero_folio(page_folio(pages[i])))
				m_add(m_of(pages[i]), payer, n, writes);
		}
		/* It may have had to lower stale records of others, and then it fits. */
		for (cg = payer; cg && !fits; cg = cg->parent)
			CHECK(cg->usage <= cg->max);
	}
	for (i = 0; i < nr; i++)
		check_folio(m_of(pages[i]));
	if (payer)
		CHECK(get_current(payer->cgrp) == payer->usage);
}

/* Release parts of some requests, as another one. */
static void op_unpin(void)
{
	struct page *pages[4 * MOST];
	struct m_folio *folios[4 * MOST];
	struct bio_vec bvecs[4 * MOST];
	unsigned int run[4 * MOST], i, j, n, nr = 0, parts = 1 + rnd(3), kind = rnd(4);

	enter(rnd(NR_SLOTS));
	while (nr_held && parts--) {
		struct held *h = &held[rnd(nr_held)];

		if (h->rev)
			drop_revocable(h->rev);
		n = rnd(4) < 3 ? h->nr : rnd(h->nr + 1);
		for (i = 0; i < n; i++)
			pages[nr++] = &mem_map[h->page[--h->nr]];
		if (!h->nr)
			move_held(h, &held[--nr_held]);
	}
	/* They came out last first. */
	if (rnd(4)) {
		for (i = 0; i < nr / 2; i++)
			swap(pages[i], pages[nr - 1 - i]);
	} else {
		for (i = 0; i < nr; i++) {
			j = rnd(nr);
			swap(pages[i], pages[j]);
		}
	}
	for (i = 0; i < nr; i++) {
		folios[i] = m_of(pages[i]);
		bvecs[i].bv_page = pages[i];
		run[i] = kind < 2 ? 1 : m_run(pages + i, nr - i);
	}

	current->irq = !rnd(4);
	if (current->irq)
		m_attribution = 0;
	if (kind == 0) {
		CHECK(pins_unpin_bvecs(bvecs, nr) == nr);
	} else if (kind == 1) {
		for (i = 0; i < nr; i++)
			folio_unpin(page_folio(pages[i]), 1);
	} else {
		/* Entries may be empty. */
		for (j = 0; nr && !rnd(4) && j < 3; j++)
			pages[nr++] = NULL;
		unpin_user_pages(pages, nr);
		nr -= j;
	}
	current->irq = false;
	for (i = 0; i < nr; i += run[i])
		m_dropped(folios[i], run[i]);
	for (i = 0; i < nr; i++)
		if (folios[i] - m_folio != MEM_PAGES)
			check_folio(folios[i]);
}

/* Pin a folio more often without GUP, as folio_add_pins() does. */
static void op_add(void)
{
	struct held *h = &held[nr_held];
	struct m_folio *f;
	unsigned int i;

	if (nr_held == NR_HELD || !nr_held)
		return;
	enter(rnd(NR_SLOTS));
	i = rnd(nr_held);
	/* Taken back */
	if (!held[i].nr)
		return;
	h->rev = NULL;
	h->page[0] = held[i].page[0];
	f = m_of(&mem_map[h->page[0]]);
	if (f - m_folio == MEM_PAGES)
		return;
	h->nr = 1 + rnd(MOST);
	for (i = 1; i < h->nr; i++)
		h->page[i] = h->page[0];
	nr_held++;
	folio_pin(f->folio, h->nr);
	f->pins += h->nr;
	pins_added(f->folio, h->nr);
	for (i = 0; i < f->nr; i++)
		if (f->rec[i].cg->cgrp->pins->id == m_attribution)
			break;
	/* The counts of others are not lowered: the worker does that, if need be. */
	if (i < f->nr) {
		m_account(f->rec[i].cg, PINS_PINS, h->nr);
		f->rec[i].count += h->nr;
	}
	check_folio(f);
}

/* References come and go: a few, or so many that they look like pins. */
static void op_refer(void)
{
	struct m_folio *f = m_of(find_page(rnd(MEM_PAGES)));
	long n = rnd(4) ? rnd(400) : GUP_PIN_COUNTING_BIAS * rnd(3) + rnd(400);

	if (f - m_folio == MEM_PAGES)
		return;
	m_attribution = current->active_pins ?: current->css->id;
	if (f->refs > 1)
		n = 1 - f->refs;
	f->refs += n;
	atomic_add(n, &f->folio->_refcount);
	if (rnd(2)) {
		atomic_add(n, &f->folio->_mapcount);
		atomic_add(-n, &f->folio->_mapcount);
	}
}

/* A folio is unmapped, and freed when its last pin goes. */
static void unmap_folio(struct m_folio *f)
{
	long refs = f->refs;

	if (!f->mapped)
		return;
	f->mapped = false;
	f->refs = 0;
	m_attribution = current->active_pins ?: current->css->id;
	folio_put_refs(f->folio, refs);
	m_dropped(f, 0);
	check_folio(f);
}

static void op_unmap(void)
{
	static const unsigned int orders[] = { 0, 0, 0, 1, 3, 5, 9 };
	unsigned int block = rnd(NR_BLOCKS), first = rnd(BLOCK_PAGES), i;
	struct m_folio *f = &m_folio[block * BLOCK_PAGES];
	bool all = !rnd(8);

	for (i = all ? 0 : first; i < (all ? BLOCK_PAGES : first + 1); i++)
		unmap_folio(&f[i]);
	for (i = 0; i < BLOCK_PAGES; i++)
		if (f[i].folio)
			return;
	block_order[block] = orders[rnd(7)];
}

/* Records that have outlived their pins are found, of small folios. */
static void op_look(void)
{
	int i;

	m_attribution = current->active_pins ?: current->css->id;
	for (i = 0; i < MEM_PAGES; i++)
		if (m_folio[i].folio && !folio_test_large(m_folio[i].folio))
			m_reconcile(&m_folio[i], m_pins(&m_folio[i]), m_attribution, 0, 0);
	peek_look();
}

/* A pageblock gets another type. */
static void op_block(void)
{
	unsigned int block = rnd(MEM_PAGES >> pageblock_order), i, j;
	struct m_folio *f = &m_folio[block << pageblock_order];
	int sign;

	for (sign = -1; sign <= 1; sign += 2) {
		for (i = 0; i < pageblock_nr_pages; i++)
			for (j = 0; f[i].folio && j < f[i].nr; j++)
				if (m_movable(&f[i]))
					m_account(f[i].rec[j].cg, PINS_MOVABLE_BLOCK,
						  sign * folio_nr_pages(f[i].folio));
		if (sign < 0)
			block_type[block] = rnd(NR_MIGRATE_TYPES);
	}
	pins_block_changed(&mem_map[(block << pageblock_order) +
				    rnd(pageblock_nr_pages)]);
}

static void op_rare(void)
{
	int i = 1 + rnd(NR_SLOTS - 1);

	switch (rnd(12)) {
	case 10:
	case 11:
		slot[i]->idle = !rnd(3);
		set_revoke(slot[i]->cgrp, slot[i]->idle);
		break;
	case 0:
	case 1:
		slot[i]->max = rnd(3) ? slot[i]->usage + rnd(200) - 20 : LONG_MAX;
		slot[i]->max = max(slot[i]->max, 0);
		set_max(slot[i]->cgrp, slot[i]->max == LONG_MAX ? -1 : slot[i]->max);
		break;
	case 2:
		/* 1 and 2 own memory */
		if (i < 3 || m_cgroups > NR_CSS - 2 * NR_SLOTS)
			break;
		enter(0);
		task_enter(1, root);
		current->active_pins = 0;
		remove_cgroup(i);
		for (i = 1; i < NR_SLOTS; i++)
			if (!slot[i])
				make_cgroup(i);
		break;
	case 3:
		tracing = !rnd(4);
		break;
	case 4:
		if (rnd(4))
			break;
		check_all();
		break;
	case 8:
	case 9:
		op_block();
		break;
	default:
		op_look();
	}
	rcu_poll();
}

static void begin(void)
{
	int i;

	world_create();
	memset(block_order, 0, sizeof(block_order));
	block_order[NR_BLOCKS - 3] = 2;
	block_order[NR_BLOCKS - 2] = 5;
	block_order[NR_BLOCKS - 1] = 9;
	m_folio[MEM_PAGES].folio = NULL;
	for (i = 1; i < NR_SLOTS; i++)
		make_cgroup(i);
}

static void operation(void)
{
	switch (rnd(32)) {
	case 0:
		op_rare();
		break;
	case 1:
		op_unmap();
		break;
	case 2:
		op_refer();
		break;
	case 3:
		op_add();
		break;
	default:
		if (rnd(NR_HELD) < nr_held)
			op_unpin();
		else
			op_pin();
	}
}

static void end(void)
{
	int i;

	check_all();
	data = data_end;
	while (nr_held)
		op_unpin();
	task_enter(0, root);
	task_enter(1, root);
	current->active_pins = 0;
	for (i = 0; i < MEM_PAGES; i++)
		unmap_folio(&m_folio[i]);
	check_all();
	for (i = 1; i < NR_SLOTS; i++)
		if (slot[i])
			remove_cgroup(i);
	CHECK(!m_cgroups);
	world_destroy();
}

#ifdef PINS_FUZZ
int PINS_FUZZ(const u8 *bytes, size_t size);

int PINS_FUZZ(const u8 *bytes, size_t size)
{
	if (!size)
		return 0;
	data = bytes;
	data_end = bytes + size;
	begin();
	while (data < data_end)
		operation();
	end();
	return 0;
}
#else
/* Afterwards, all that is left is released, and nothing may be left of that. */
int main(int argc, char **argv)
{
	u64 nr = argc > 1 ? atoll(argv[1]) : 1000000;

	seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (u64)time(NULL);
	state = seed * 0x9e3779b97f4a7c15 + 1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("# seed %llu\n", (unsigned long long)seed);
	begin();
	for (op = 0; op < nr; op++) {
		operation();
		if (op % 4096 == 4095)
			check_all();
	}
	end();
	printf("# %llu requests taken back\n", (unsigned long long)revoked_total);
	printf("ok 1 I1 I2 I3 I5 I7 I9: %llu random operations do as the model does\n",
	       (unsigned long long)nr);
	return 0;
}
#endif
