/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What GUP and the page allocator call. Each inline is a static branch and, at
 * most, one test. Nothing else runs until a cgroup uses the pins controller, but for
 * what has to move: while memory is being emptied, and long-term pins of such memory.
 *
 * Copyright (C) 2026 the pins authors
 */
#ifndef _LINUX_PINS_H
#define _LINUX_PINS_H

#include <linux/atomic.h>
#include <linux/jump_label.h>
#include <linux/jump_label_ratelimit.h>
#include <linux/list.h>
#include <linux/mm_types.h>
#include <linux/page-flags.h>
#include <linux/sched.h>
#include <linux/types.h>

struct bio_vec;
struct pins_isolation;

/**
 * struct pins_blocked - memory that could not be emptied on account of pins
 * @start_pfn: its first page
 * @end_pfn: behind its last page, 0 if pins were not in the way
 * @pfn: the first pinned folio that was found
 * @offline: whether it was to be taken offline
 * @waited: whether it was waited for the pins, in vain
 */
struct pins_blocked {
	unsigned long start_pfn;
	unsigned long end_pfn;
	unsigned long pfn;
	bool offline;
	bool waited;
};

#ifdef CONFIG_CONTIG_ALLOC
int alloc_contig_range_blocked_noprof(unsigned long start, unsigned long end,
				      unsigned int migratetype, gfp_t gfp_mask,
				      struct pins_blocked *blocked);
#define alloc_contig_range_blocked(...)		\
	alloc_hooks(alloc_contig_range_blocked_noprof(__VA_ARGS__))
#endif

/**
 * struct pins_steer - a long-term request, while its pages move to a better place
 * @mm: the address space that the pages belong to, NULL if they have none
 * @tried: whether they were to leave movable pageblocks, which is tried once
 * @moved: some were moved in this round
 * @napped: it has waited for somebody who holds a page
 * @blocked: the first page of a folio that could not be, 0 if there was none
 * @left: how many pages could not be
 * @rounds: how often it was tried again
 * @until: when it gives up unless some are moved, 0 if nothing was in its way yet
 * @waited: how long it has waited for pins, in ns
 */
struct pins_steer {
	struct mm_struct *mm;
	bool tried;
	bool moved;
	bool napped;
	unsigned long blocked;
	unsigned long left;
	unsigned int rounds;
	ktime_t until;
	u64 waited;
};

#ifdef CONFIG_CGROUP_PINS

/* On while a non-root cgroup of the pins controller exists */
DECLARE_STATIC_KEY_FALSE(pins_key);

/*
 * Whether the pin map may hold a record of the folios of a bucket, so that an
 * unpin can tell with one load that it does not.
 *
 * Whoever drops a pin looks here afterwards, with a full barrier in between, be
 * the pin a long-term one or not: if it is the last one, a charge of the folio
 * ends with it. A record is added by somebody who holds a pin, and counted here
 * before that pin is dropped, again with a full barrier in between. So of two
 * that drop their pins, the one that finds the gate closed is seen to have done
 * so by the other, when it counts the pins that are left.
 */
#define PINS_GATE_BITS	12
#define PINS_GATE_PAGES	512
extern atomic_t pins_gate[1 << PINS_GATE_BITS];

/*
 * The first page of each PINS_GATE_PAGES decides, by its number. Where struct pages lie in
 * one aligned array, dividing the address does the same and is cheaper.
 */
static __always_inline atomic_t *pins_gate_of(const struct folio *folio)
{
	unsigned long block;

	if (IS_ENABLED(CONFIG_SPARSEMEM_VMEMMAP) &&
	    !(sizeof(struct page) & (sizeof(struct page) - 1)))
		block = (unsigned long)folio / (PINS_GATE_PAGES * sizeof(struct page));
	else
		block = page_to_pfn(&folio->page) / PINS_GATE_PAGES;
	return &pins_gate[block % (1 << PINS_GATE_BITS)];
}

static __always_inline bool pins_enabled(void)
{
	return static_branch_unlikely(&pins_key);
}

bool __pins_refused(struct mm_struct *mm, unsigned long start, unsigned long nr_pages,
		    unsigned int gup_flags, bool locked);
long __pins_charge_pages(struct mm_struct *mm, struct page **pages, long nr);
long __pins_charge_folios(struct folio **folios, long nr);
void __pins_unpin_pages(struct page **pages, unsigned long npages);
void __pins_unpin_bvecs(const struct bio_vec *bvecs, unsigned int nr);
void __pins_unpinned(struct folio *folio, bool large);
void __pins_blocked_compact(struct folio *folio);
void __pins_blocked_compact_list(struct list_head *folios);

/**
 * pins_refused() - is a request refused before it pins anything?
 * @mm: the address space, NULL for memfd_pin_folios()
 * @start: its first address
 * @nr_pages: how many pages it is to pin
 * @gup_flags: those of others than FOLL_LONGTERM are not
 * @locked: whether the caller holds mmap_lock
 *
 * If not, it may be when it is charged.
 *
 * Context: process context, sleeps.
 * Return: whether it has to fail with -ENOMEM, because a limit has no room for it.
 */
static __always_inline bool pins_refused(struct mm_struct *mm, unsigned long start,
					 unsigned long nr_pages, unsigned int gup_flags,
					 bool locked)
{
	return pins_enabled() && (gup_flags & FOLL_LONGTERM) &&
	       __pins_refused(mm, start, nr_pages, gup_flags, locked);
}

/**
 * pins_charge_pages() - charge long-term pins that were just taken
 * @mm: the address space that the pages belong to
 * @pages: the pinned pages
 * @nr: how many, or what GUP returned if it failed
 * @longterm: whether the pins are FOLL_LONGTERM; others are not charged
 *
 * Context: process context, may sleep; the caller may hold mmap_lock.
 * Return: @nr, or -ENOMEM when a limit refused them; then nothing is pinned.
 */
static __always_inline long pins_charge_pages(struct mm_struct *mm,
					      struct page **pages, long nr,
					      bool longterm)
{
	if (pins_enabled() && longterm && nr > 0)
		return __pins_charge_pages(mm, pages, nr);
	return nr;
}

/**
 * pins_charge_folios() - the same for memfd_pin_folios()
 * @folios: the folios, pinned once each
 * @nr: how many
 *
 * The memory has no mm here: the current task pays.
 *
 * Context: process context, may sleep.
 * Return: @nr, or -ENOMEM when a limit refused them; then nothing is pinned.
 */
static __always_inline long pins_charge_folios(struct folio **folios, long nr)
{
	if (pins_enabled() && nr > 0)
		return __pins_charge_folios(folios, nr);
	return nr;
}

/**
 * pins_unpinned() - uncharge a folio that has just lost pins, if it is charged
 * @folio: the folio, which may have been freed meanwhile unless @large
 * @large: whether it is a large folio; then references are still held
 *
 * Context: any but NMI.
 */
static __always_inline void pins_unpinned(struct folio *folio, bool large)
{
	if (!pins_enabled())
		return;
	smp_mb__after_atomic(); /* see pins_gate */
	if (unlikely(atomic_read(pins_gate_of(folio))))
		__pins_unpinned(folio, large);
}

/**
 * pins_unpin_pages() - drop an array of pins, and uncharge them together
 * @pages: the pages, some of which may be NULL
 * @npages: how many
 *
 * Context: any but NMI.
 * Return: whether the pins were dropped. If not, nothing was charged when they
 * were asked for, and the caller has to drop them.
 */
static __always_inline bool pins_unpin_pages(struct page **pages,
					     unsigned long npages)
{
	if (!pins_enabled())
		return false;
	__pins_unpin_pages(pages, npages);
	return true;
}

/**
 * pins_unpin_bvecs() - the same for segments with one pin each
 * @bvecs: the segments
 * @nr: how many
 *
 * Context: any but NMI.
 * Return: how many were unpinned, all or none. The caller has to unpin the rest.
 */
static __always_inline unsigned int pins_unpin_bvecs(const struct bio_vec *bvecs,
						     unsigned int nr)
{
	if (!pins_enabled())
		return 0;
	__pins_unpin_bvecs(bvecs, nr);
	return nr;
}

void pins_block_changed(struct page *page);
void pins_map_forget(unsigned long start_pfn, unsigned long end_pfn);

/**
 * pins_blocked_compact() - compaction has found a folio that it cannot move
 * @folio: the folio; the caller has a reference
 *
 * Context: any but NMI.
 */
static __always_inline void pins_blocked_compact(struct folio *folio)
{
	if (pins_enabled())
		__pins_blocked_compact(folio);
}

/**
 * pins_blocked_compact_list() - the same for folios that compaction has isolated
 * @folios: the folios
 *
 * Context: any but NMI.
 */
static __always_inline void pins_blocked_compact_list(struct list_head *folios)
{
	if (pins_enabled())
		__pins_blocked_compact_list(folios);
}

/**
 * pins_folio_freed() - forget a folio that goes back to the page allocator
 * @folio: the folio, nobody else has a reference
 *
 * Context: any but NMI.
 */
static __always_inline void pins_folio_freed(struct folio *folio)
{
	if (pins_enabled() && unlikely(atomic_read(pins_gate_of(folio))))
		__pins_unpinned(folio, folio_test_large(folio));
}

#else /* !CONFIG_CGROUP_PINS */

static inline bool pins_refused(struct mm_struct *mm, unsigned long start,
				unsigned long nr_pages, unsigned int gup_flags,
				bool locked)
{
	return false;
}

static inline void pins_map_forget(unsigned long start_pfn, unsigned long end_pfn)
{
}

static inline long pins_charge_pages(struct mm_struct *mm, struct page **pages,
				     long nr, bool longterm)
{
	return nr;
}

static inline long pins_charge_folios(struct folio **folios, long nr)
{
	return nr;
}

static inline void pins_unpinned(struct folio *folio, bool large)
{
}

static inline bool pins_unpin_pages(struct page **pages, unsigned long npages)
{
	return false;
}

static inline unsigned int pins_unpin_bvecs(const struct bio_vec *bvecs,
					    unsigned int nr)
{
	return 0;
}

static inline void pins_block_changed(struct page *page)
{
}

static inline void pins_blocked_compact(struct folio *folio)
{
}

static inline void pins_blocked_compact_list(struct list_head *folios)
{
}

static inline void pins_folio_freed(struct folio *folio)
{
}

#endif /* CONFIG_CGROUP_PINS */

#if defined(CONFIG_CGROUP_PINS) && defined(CONFIG_MIGRATION)

/* On while some cgroup steers pins out of movable pageblocks. */
extern struct static_key_false_deferred pins_steer_key;

bool __pins_misplaced(struct page **pages, unsigned long nr);
bool pins_stays(struct folio *folio);
void pins_steered(struct pins_steer *steer, unsigned int moved,
		  struct list_head *left);
bool __pins_steer(struct pins_steer *steer, struct page **pages,
		  struct folio **folios, unsigned long nr, long *ret);

/**
 * pins_misplaced() - should what the fast path has pinned be moved first?
 * @pages: the pages that were pinned
 * @nr: how many
 * @longterm: whether the pins are FOLL_LONGTERM
 *
 * Context: process context.
 * Return: whether it has to be given back and start over in the slow path, where
 * pins_steer() moves it.
 */
static __always_inline bool pins_misplaced(struct page **pages, unsigned long nr,
					   bool longterm)
{
	return static_branch_unlikely(&pins_steer_key.key) && longterm &&
	       __pins_misplaced(pages, nr);
}

/**
 * pins_steer() - move the pages of a long-term request, or see what has come of it
 * @steer: the request
 * @pages: what was pinned, or
 * @folios: the same
 * @nr: how many
 * @ret: 0 if they were allowed to stay, and are still pinned. Else none is: -EAGAIN
 *	when they have been moved, or will be with more patience, or an error. That
 *	is what it is replaced by in the end, -ENOMEM when it took too long.
 *
 * Context: process context, sleeps; the caller may hold mmap_lock.
 * Return: whether to pin them again. Then none is pinned.
 */
static __always_inline bool pins_steer(struct pins_steer *steer, struct page **pages,
				       struct folio **folios, unsigned long nr,
				       long *ret)
{
	if (likely(!*ret) && !static_branch_unlikely(&pins_steer_key.key))
		return false;
	return __pins_steer(steer, pages, folios, nr, ret);
}

#else /* !CONFIG_CGROUP_PINS || !CONFIG_MIGRATION */

static inline bool pins_misplaced(struct page **pages, unsigned long nr, bool longterm)
{
	return false;
}

static inline bool pins_stays(struct folio *folio)
{
	return false;
}

static inline void pins_steered(struct pins_steer *steer, unsigned int moved,
				struct list_head *left)
{
}

static inline bool pins_steer(struct pins_steer *steer, struct page **pages,
			      struct folio **folios, unsigned long nr, long *ret)
{
	return *ret == -EAGAIN;
}

#endif /* CONFIG_CGROUP_PINS && CONFIG_MIGRATION */

/**
 * struct pins_wait - what a pin request loses to memory that has to move
 * @since: when it was held up, or @lost was brought up to date; in ns, 0 if it is not
 * @lost: for how long so far, in ns
 * @pfn: the folio that is in its way
 * @slept: it has not only moved folios
 * @counted: which the statistics know
 * @timed_out: it has lost as much as it may
 * @pass: it cannot do more, and may not sleep
 */
struct pins_wait {
	u64 since;
	u64 lost;
	unsigned long pfn;
	bool slept;
	bool counted;
	bool timed_out;
	bool pass;
};

#if defined(CONFIG_CGROUP_PINS) && defined(CONFIG_MEMORY_ISOLATION)

/* On while some cgroup lets its tasks wait for memory that is being emptied. */
extern struct static_key_true_deferred pins_wait_key;

/* The ranges that are */
extern struct list_head pins_isolations;

struct pins_isolation *pins_isolation_begin(unsigned long start_pfn,
					    unsigned long end_pfn, gfp_t gfp_mask,
					    bool offline);
bool pins_isolation_wait(struct pins_isolation *isolation,
			 struct pins_blocked *blocked);
void pins_isolation_end(struct pins_isolation *isolation);

void __pins_report_blocked(const struct pins_blocked *blocked);

bool __pins_must_wait(struct page **pages, unsigned long nr, unsigned long wanted,
		      unsigned int flags);
bool pins_wait(struct pins_wait *wait, struct mm_struct *mm, struct page **pages,
	       long *nr, int *locked, unsigned int flags);

/**
 * pins_report_blocked() - memory could not be had: say whose pins were in the way
 * @blocked: what pins_isolation_wait() has filled in, for one or several ranges
 *
 * Context: process context, sleeps.
 */
static inline void pins_report_blocked(const struct pins_blocked *blocked)
{
	if (blocked->end_pfn)
		__pins_report_blocked(blocked);
}

/**
 * pins_may_wait() - may pins have to wait at present?
 *
 * Return: whether pins_wait() has to be called for requests that can wait.
 */
static __always_inline bool pins_may_wait(void)
{
	return static_branch_likely(&pins_wait_key.key) &&
	       unlikely(!list_empty(&pins_isolations));
}

/**
 * pins_nowait_save() - the current task is about to issue I/O
 * @polls: whether I/O before it may complete only after that, because it has to be
 *	polled for
 *
 * Such I/O has pinned memory, so that the task must not wait meanwhile for memory to
 * lose its pins. Only if pins_may_wait(), which comes first, so that whether it polls
 * need not be found out otherwise.
 *
 * Return: to be handed to pins_nowait_restore().
 */
static __always_inline bool pins_nowait_save(bool polls)
{
	if (polls)
		current->pins_nowait = true;
	return polls;
}

static __always_inline void pins_nowait_restore(bool saved)
{
	if (unlikely(saved))
		current->pins_nowait = false;
}

/**
 * pins_must_wait() - may a request that the fast path has pinned have to wait?
 * @pages: the pages that were pinned
 * @nr: how many
 * @wanted: how many are to be
 * @flags: FOLL_ flags
 *
 * Context: process context.
 * Return: whether it has to be given back and start over in the slow path, where
 * pins_wait() waits.
 */
static __always_inline bool pins_must_wait(struct page **pages, unsigned long nr,
					   unsigned long wanted, unsigned int flags)
{
	return pins_may_wait() && __pins_must_wait(pages, nr, wanted, flags);
}

#else /* !CONFIG_CGROUP_PINS || !CONFIG_MEMORY_ISOLATION */

static inline struct pins_isolation *
pins_isolation_begin(unsigned long start_pfn, unsigned long end_pfn, gfp_t gfp_mask,
		     bool offline)
{
	return NULL;
}

static inline bool pins_isolation_wait(struct pins_isolation *isolation,
				       struct pins_blocked *blocked)
{
	return false;
}

static inline void pins_isolation_end(struct pins_isolation *isolation)
{
}

static inline void pins_report_blocked(const struct pins_blocked *blocked)
{
}

static inline bool pins_may_wait(void)
{
	return false;
}

static inline bool pins_nowait_save(bool polls)
{
	return false;
}

static inline void pins_nowait_restore(bool saved)
{
}

static inline bool pins_must_wait(struct page **pages, unsigned long nr,
				  unsigned long wanted, unsigned int flags)
{
	return false;
}

static inline bool pins_wait(struct pins_wait *wait, struct mm_struct *mm,
			     struct page **pages, long *nr, int *locked,
			     unsigned int flags)
{
	return false;
}

#endif /* CONFIG_CGROUP_PINS && CONFIG_MEMORY_ISOLATION */
#endif /* _LINUX_PINS_H */
