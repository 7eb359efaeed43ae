/* SPDX-License-Identifier: GPL-2.0 */
/*
 * As much of the kernel as mm/pins/, kernel/cgroup/pins.c, mm/page_counter.c and
 * lib/xarray.c need. All headers of theirs that are not real lead here, see the
 * Makefile.
 *
 * Whatever tasks can tell each other apart by - atomics, locks, the XArray - calls
 * step() first, where the tests of interleavings switch to another task. Void
 * atomics are unordered, as on arm64, and may then be seen late by others.
 *
 * Copyright (C) 2026 the pins authors
 */
#ifndef _PINS_TEST_KERNEL_H
#define _PINS_TEST_KERNEL_H

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#define CONFIG_CGROUP_PINS 1
#define CONFIG_PINS_STEER 1
#define CONFIG_PINS_REVOKE 1
#define CONFIG_SPARSEMEM_VMEMMAP 1
#define CONFIG_DEBUG_FS 1
#define CONFIG_64BIT 1

/* Later kernels have that of tools/ in a header of its own. */
#define container_of(ptr, type, member)					\
	((type *)((char *)(ptr) - offsetof(type, member)))

#include <linux/types.h>
#include <linux/compiler.h>
#include <linux/kconfig.h>
#include <linux/kernel.h>
#include <linux/bits.h>
#include <linux/bitops.h>
#include <linux/bitmap.h>
#include <linux/err.h>
#include <linux/list.h>
#include <linux/gfp_types.h>

#define PAGE_SIZE	4096UL
#define HZ		100
#define U64_MAX		((u64)~0ULL)
#define U32_MAX		((u32)~0U)
#define NR_TASKS		8

#undef min
#undef max
#undef struct_size
#define min(a, b)	((a) < (b) ? (a) : (b))
#define max(a, b)	((a) > (b) ? (a) : (b))
#define swap(a, b)	do { typeof(a) __t = (a); (a) = (b); (b) = __t; } while (0)
#define struct_size(p, member, n) (sizeof(*(p)) + (n) * sizeof(*(p)->member))
#define __percpu
#define __counted_by(member)
#define __init
#define ____cacheline_internodealigned_in_smp __aligned(64)
#define CACHELINE_PADDING(name) char name[0] __aligned(64)
#define EXPORT_SYMBOL(s)
#define EXPORT_SYMBOL_GPL(s)
#define core_initcall(f) \
	static void __attribute__((constructor)) run_##f(void) { f(); }
#define data_race(x)	(x)
#define cond_resched()	do { } while (0)

/* Says what is wrong and ends the test: by exit() in the fuzzer, else as TAP. */
void fail(const char *fmt, ...) __printf(1, 2) __noreturn;

#define CHECK(cond)							\
do {									\
	if (unlikely(!(cond)))						\
		fail("%s:%d: %s", __FILE__, __LINE__, #cond);		\
} while (0)
#undef WARN_ON
#undef WARN_ON_ONCE
#undef WARN_ONCE
#undef BUG
#undef BUG_ON
#define WARN_ON(c)	({ bool __c = (c); CHECK(!__c && #c); __c; })
#define WARN_ON_ONCE(c)	WARN_ON(c)
#define WARN_ONCE(c, ...) WARN_ON(c)
#define BUG_ON(c)	CHECK(!(c))
#define panic(...)	fail(__VA_ARGS__)
#define BUG()		fail("BUG at %s:%d", __FILE__, __LINE__)

/* The scheduler of interleavings.c; without it, threads run as they like. */
#ifdef PINS_STEPS
void step(void);
void step_blocked(void);
void step_released(void);
bool step_delay(void *counter, long add, int size);
long step_delayed(const void *counter);
void step_barrier(void);
#else
static inline void step(void) { }
static inline void step_blocked(void) { sched_yield(); }
static inline void step_released(void) { }
static inline bool step_delay(void *counter, long add, int size)
{
	return false;
}

static inline long step_delayed(const void *counter)
{
	return 0;
}

static inline void step_barrier(void) { }
#endif

#undef READ_ONCE
#undef WRITE_ONCE
#define READ_ONCE(x)	__atomic_load_n(&(x), __ATOMIC_RELAXED)
#define WRITE_ONCE(x, v) __atomic_store_n(&(x), v, __ATOMIC_RELAXED)

static inline void smp_mb(void)
{
	step_barrier();
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

#define smp_mb__after_atomic() smp_mb()
#define smp_load_acquire(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)

typedef struct { s64 counter; } atomic64_t;
typedef s64 ktime_t;

#define ATOMIC_INIT(i)	{ (i) }
#define ATOMIC_LONG_INIT(i) { (i) }
#define DEFINE_ATOMIC(name, type, val)					\
static inline val name##_read(const type *v)				\
{									\
	step();								\
	return READ_ONCE(v->counter) + step_delayed(&v->counter);	\
}									\
static inline void name##_set(type *v, val i)				\
{									\
	step();								\
	WRITE_ONCE(v->counter, i);					\
}									\
static inline void name##_add(val i, type *v)				\
{									\
	if (!step_delay(&v->counter, i, sizeof(val)))			\
		__atomic_fetch_add(&v->counter, i, __ATOMIC_RELAXED);	\
}									\
static inline val name##_add_return(val i, type *v)			\
{									\
	step();								\
	step_barrier();							\
	return __atomic_add_fetch(&v->counter, i, __ATOMIC_SEQ_CST);	\
}									\
static inline val name##_xchg(type *v, val i)				\
{									\
	step();								\
	step_barrier();							\
	return __atomic_exchange_n(&v->counter, i, __ATOMIC_SEQ_CST);	\
}									\
static inline void name##_sub(val i, type *v) { name##_add(-i, v); }	\
static inline val name##_inc_return(type *v) { return name##_add_return(1, v); }	\
static inline void name##_inc(type *v) { name##_add(1, v); }		\
static inline void name##_dec(type *v) { name##_add(-1, v); }		\
static inline val name##_sub_return(val i, type *v)			\
{									\
	return name##_add_return(-i, v);				\
}									\
static inline bool name##_add_unless(type *v, val i, val unless)	\
{									\
	val old;							\
									\
	step();								\
	step_barrier();							\
	old = READ_ONCE(v->counter);					\
	do {								\
		if (old == unless)					\
			return false;					\
	} while (!__atomic_compare_exchange_n(&v->counter, &old, old + i, \
			false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));	\
	return true;							\
}

DEFINE_ATOMIC(atomic, atomic_t, int)
DEFINE_ATOMIC(atomic_long, atomic_long_t, long)
#define atomic64_read generic_atomic64_read
DEFINE_ATOMIC(atomic64, atomic64_t, s64)
#undef atomic64_read

/* It may be two counters at once. */
static inline s64 atomic64_read(const atomic64_t *v)
{
	const atomic_t *half = (const atomic_t *)v;

	return generic_atomic64_read(v) + step_delayed(&half[0].counter) +
	       ((u64)step_delayed(&half[1].counter) << 32);
}

#define xchg(p, v)							\
({									\
	step();								\
	step_barrier();							\
	__atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);			\
})
#define try_cmpxchg(p, old, new)					\
({									\
	step();								\
	step_barrier();							\
	__atomic_compare_exchange_n(p, old, new, false, __ATOMIC_SEQ_CST, \
				    __ATOMIC_RELAXED);			\
})

#define atomic_dec_return_release(v) atomic_add_return(-1, v)
#define atomic_read_acquire(v)	atomic_read(v)

#undef set_bit
#define set_bit(nr, map)						\
	__atomic_fetch_or((map) + BIT_WORD(nr), BIT_MASK(nr), __ATOMIC_SEQ_CST)
#define test_and_clear_bit(nr, map)					\
	(!!(__atomic_fetch_and((map) + BIT_WORD(nr), ~BIT_MASK(nr),	\
			       __ATOMIC_SEQ_CST) & BIT_MASK(nr)))

/* Tasks: one per thread, or per coroutine of interleavings.c. */
struct mm_struct {
	struct task_struct *owner;
};

struct task_struct {
	unsigned int flags;
	struct mm_struct *mm;
	u32 active_pins;
	struct cgroup_subsys_state *css;
	unsigned int cpu;
	bool irq;		/* in an interrupt */
	unsigned int atomic;	/* raw spinlocks held */
	unsigned int rcu_nesting;
	unsigned long rcu_seq;	/* odd in an RCU section */
	bool killed;
	char comm[1];
	long fail_nth;		/* the last allocation to fail, of so many: */
	long fail_nr;
};

#define PF_KTHREAD	1

extern __thread struct task_struct *current_task;
#define current		current_task
#define in_task()	(!current->irq)
/* Root's; the arguments need not be there. */
#define capable(cap)	true
#define file_ns_capable(file, ns, cap) true
#define fatal_signal_pending(task) ((task)->killed)
#define task_sigpending(task)	((task)->killed)
#define get_cpu()	(current->cpu)
#define put_cpu()	do { } while (0)

/* I6 anywhere: what is forbidden in interrupts and under raw spinlocks */
static inline void might_block(void)
{
	CHECK(!current->irq && !current->atomic);
}

static inline void might_sleep(void)
{
	might_block();
	CHECK(!current->rcu_nesting);
}

typedef struct { int held; } spinlock_t;
typedef spinlock_t raw_spinlock_t;

#define __SPIN_LOCK_UNLOCKED(x) { 0 }
#define lockdep_is_held(lock) READ_ONCE((lock)->held)
#define lockdep_assert_held(lock) CHECK(lockdep_is_held(lock))
#define might_alloc(gfp) do { } while (0)

static inline void __spin_lock(spinlock_t *lock)
{
	step();
	while (__atomic_exchange_n(&lock->held, 1, __ATOMIC_ACQUIRE))
		step_blocked();
}

static inline void __spin_unlock(spinlock_t *lock)
{
	step_barrier();
	__atomic_store_n(&lock->held, 0, __ATOMIC_RELEASE);
	step_released();
}

static inline void spin_lock_init(spinlock_t *lock)
{
	lock->held = 0;
}

static inline void spin_lock(spinlock_t *lock)
{
	might_block();
	__spin_lock(lock);
}

#define spin_unlock(lock)	__spin_unlock(lock)
#define spin_lock_bh(lock)	spin_lock(lock)
#define spin_unlock_bh(lock)	spin_unlock(lock)
#define spin_lock_irq(lock)	spin_lock(lock)
#define spin_unlock_irq(lock)	spin_unlock(lock)
#define spin_lock_irqsave(lock, flags) \
	do { (flags) = 0; spin_lock(lock); } while (0)
#define spin_unlock_irqrestore(lock, flags) \
	do { (void)(flags); spin_unlock(lock); } while (0)
#define raw_spin_lock_init(lock) spin_lock_init(lock)

static inline void raw_spin_lock_irq(raw_spinlock_t *lock)
{
	__spin_lock(lock);
	current->atomic++;
}

static inline void raw_spin_unlock_irq(raw_spinlock_t *lock)
{
	current->atomic--;
	__spin_unlock(lock);
}

#define raw_spin_lock(lock)	raw_spin_lock_irq(lock)
#define raw_spin_unlock(lock)	raw_spin_unlock_irq(lock)
#define raw_spin_lock_irqsave(lock, flags) \
	do { (flags) = 0; raw_spin_lock_irq(lock); } while (0)
#define raw_spin_unlock_irqrestore(lock, flags) \
	do { (void)(flags); raw_spin_unlock_irq(lock); } while (0)

struct mutex {
	int held;
};

static inline void mutex_init(struct mutex *lock)
{
	lock->held = 0;
}

static inline int mutex_lock_killable(struct mutex *lock)
{
	might_sleep();
	if (fatal_signal_pending(current))
		return -EINTR;
	__spin_lock((spinlock_t *)lock);
	return 0;
}

/* Nobody else is there where it is used. */
#define mutex_trylock(lock)	({ mutex_lock(lock); true; })

/* Cgroups are freed wherever their last reference goes here. */
#define mutex_lock(lock)	__spin_lock((spinlock_t *)(lock))
#define mutex_unlock(lock)	__spin_unlock((spinlock_t *)(lock))
#define DEFINE_MUTEX(name)	struct mutex name

typedef struct {
	int waiters;
	unsigned long woken;
} wait_queue_head_t;

#define init_waitqueue_head(wq)	memset(wq, 0, sizeof(wait_queue_head_t))

static inline bool wq_has_sleeper(wait_queue_head_t *wq)
{
	smp_mb();
	return READ_ONCE(wq->waiters);
}

static inline void wake_up(wait_queue_head_t *wq)
{
	__atomic_fetch_add(&wq->woken, 1, __ATOMIC_SEQ_CST);
	step_released();
}

/* Who is not woken does not look again. */
#define wait_event_killable(wq, cond)					\
({									\
	wait_queue_head_t *__wq = &(wq);				\
	unsigned long __woken;						\
									\
	might_sleep();							\
	__atomic_fetch_add(&__wq->waiters, 1, __ATOMIC_SEQ_CST);	\
	for (;;) {							\
		__woken = READ_ONCE(__wq->woken);			\
		smp_mb();						\
		if ((cond) || fatal_signal_pending(current))		\
			break;						\
		while (READ_ONCE(__wq->woken) == __woken &&		\
		       !fatal_signal_pending(current))			\
			step_blocked();					\
	}								\
	__atomic_fetch_sub(&__wq->waiters, 1, __ATOMIC_SEQ_CST);	\
	fatal_signal_pending(current) ? -EINTR : 0;			\
})

/* RCU: what is to be freed waits for all sections that have begun. */
struct rcu_head {
	struct rcu_head *unused;
	void (*func)(struct rcu_head *head);
};

void rcu_read_lock(void);
void rcu_read_unlock(void);
void rcu_wait(void *arg, void (*func)(void *arg));
void call_rcu(struct rcu_head *head, void (*func)(struct rcu_head *head));
void rcu_poll(void);
void rcu_barrier(void);

#define __rcu
#define kfree_rcu(p, member) rcu_wait(p, kfree)
#define rcu_dereference(p) __atomic_load_n(&(p), __ATOMIC_ACQUIRE)
#define rcu_dereference_check(p, c) rcu_dereference(p)
#define rcu_dereference_protected(p, c) READ_ONCE(p)
#define rcu_dereference_raw(p) rcu_dereference(p)
#define rcu_assign_pointer(p, v) __atomic_store_n(&(p), v, __ATOMIC_RELEASE)
#define RCU_INIT_POINTER(p, v) WRITE_ONCE(p, v)

/* Memory. Allocations fail when the task says so. */
struct list_lru;

struct kmem_cache {
	size_t size;
	void (*ctor)(void *obj);
};

extern atomic_long_t allocated;	/* objects */
extern atomic_long_t allocated_bytes;

void *kmalloc(size_t size, gfp_t gfp);
void kfree(void *p);
void *kmem_cache_alloc(struct kmem_cache *cache, gfp_t gfp);

#define kzalloc(size, gfp)	kmalloc(size, (gfp) | __GFP_ZERO)
#define kmem_cache_zalloc(cache, gfp) kmem_cache_alloc(cache, (gfp) | __GFP_ZERO)
#define kmem_cache_alloc_lru(cache, lru, gfp) kmem_cache_alloc(cache, gfp)
#define kmem_cache_free(cache, p) kfree(p)

static inline void kmem_cache_free_bulk(struct kmem_cache *cache, size_t nr, void **p)
{
	while (nr)
		kfree(p[--nr]);
}

static inline int kmem_cache_alloc_bulk(struct kmem_cache *cache, gfp_t gfp, size_t nr,
					void **p)
{
	size_t i;

	for (i = 0; i < nr; i++) {
		p[i] = kmem_cache_alloc(cache, gfp);
		if (!p[i]) {
			kmem_cache_free_bulk(cache, i, p);
			return 0;
		}
	}
	return nr;
}

#define gfpflags_allow_blocking(gfp) (!!((gfp) & __GFP_DIRECT_RECLAIM))
#define SLAB_PANIC	0
#define SLAB_ACCOUNT	0
#define KMEM_CACHE(name, flags)						\
({									\
	static struct kmem_cache __cache = { .size = sizeof(struct name) };	\
	&__cache;							\
})

#define PERCPU_STRIDE	1024
#define alloc_percpu_gfp(type, gfp) \
	((type *)kzalloc(NR_TASKS * PERCPU_STRIDE + BUILD_BUG_ON_ZERO( \
		sizeof(type) > PERCPU_STRIDE), gfp))
#define free_percpu(p)		kfree(p)
#define per_cpu_ptr(p, n)	((typeof(p))((char *)(p) + (n) * PERCPU_STRIDE))
#define this_cpu_add(var, n)						\
do {									\
	typeof(var) *__var = per_cpu_ptr(&(var), current->cpu);		\
									\
	WRITE_ONCE(*__var, *__var + (n));				\
} while (0)
#define this_cpu_inc(v)		this_cpu_add(v, 1)
#define this_cpu_sub(var, n)	this_cpu_add(var, -(typeof(var))(n))

/* Work runs when a test says so. */
struct work_struct {
	void (*func)(struct work_struct *work);
	int pending;
};

struct delayed_work {
	struct work_struct work;
};

struct irq_work {
	void (*func)(struct irq_work *work);
};

#define IRQ_WORK_INIT(f)	{ .func = f }
#define irq_work_queue(w)	(w)->func(w)
#define DECLARE_WORK(name, f)	struct work_struct name = { .func = f }
#define schedule_work(work)	WRITE_ONCE((work)->pending, 1)
#define DECLARE_DELAYED_WORK(name, f) \
	struct delayed_work name = { .work.func = f }
#define schedule_delayed_work(dwork, delay) \
	((void)(delay), WRITE_ONCE((dwork)->work.pending, 1))
#define mod_delayed_work(wq, dwork, delay) schedule_delayed_work(dwork, delay)
#define queue_delayed_work(wq, dwork, delay) schedule_delayed_work(dwork, delay)

/* Who queues this kind waits for it: it runs at once. */
#define alloc_workqueue(name, flags, nr) ((struct workqueue_struct *)(name))
#define INIT_WORK_ONSTACK(work, f) ((work)->func = (f))
#define queue_work(wq, work)	(work)->func(work)
#define flush_work(work)	do { } while (0)
#define destroy_work_on_stack(work) do { } while (0)

/* Folios. No struct page is larger than a real one. */
#define FOLIO_FIELDS							\
	unsigned long flags;						\
	struct page *head;						\
	unsigned long memcg_data;	/* struct cgroup */		\
	atomic_t _mapcount;		/* less 1 */			\
	atomic_t _refcount;						\
	atomic_t _pincount;						\
	unsigned int order

struct page {
	FOLIO_FIELDS;
} __aligned(64);

struct folio {
	union {
		struct { FOLIO_FIELDS; };
		struct page page;
	};
};

enum { PG_anon = 1, PG_swapbacked = 2, PG_hugetlb = 4, PG_device = 8, PG_mapping = 16 };

#ifndef MEM_PAGES
#define MEM_PAGES	4096
#endif
#define NR_NODES	2
#define GUP_PIN_COUNTING_BIAS 1024
#define FOLL_WRITE	0x1
#define FOLL_LONGTERM	0x100
#define NR_FOLL_PIN_RELEASED 0

extern struct page mem_map[MEM_PAGES + 1];	/* the last is the zero page */

struct pglist_data {
	atomic_long_t released;
};

extern struct pglist_data node_data[NR_NODES];

#define page_to_pfn(p)		((unsigned long)((p) - mem_map))
#define pfn_to_page(pfn)	(&mem_map[pfn])
#define pfn_to_online_page(pfn)	pfn_to_page(pfn)
#define pfn_folio(pfn)		page_folio(pfn_to_page(pfn))
#define folio_nid(f)		((int)(folio_pgdat(f) - node_data))
#define folio_pfn(f)		page_to_pfn(&(f)->page)
#define page_folio(p)		((struct folio *)(p)->head)
#define folio_order(f)		((f)->order)
#define folio_nr_pages(f)	(1L << (f)->order)
#define folio_page_idx(f, p)	((p) - &(f)->page)
#define folio_test_large(f)	((f)->order > 0)
#define folio_test_anon(f)	(!!((f)->flags & PG_anon))
#define folio_test_swapbacked(f) (!!((f)->flags & PG_swapbacked))
#define folio_test_hugetlb(f)	(!!((f)->flags & PG_hugetlb))
#define folio_mapping(f)	((f)->flags & PG_mapping)
#define folio_is_zone_device(f)	(!!((f)->flags & PG_device))
#define is_zero_folio(f)	((f) == (struct folio *)&mem_map[MEM_PAGES])
#define folio_ref_count(f)	atomic_read(&(f)->_refcount)
#define folio_ref_sub(f, n)	atomic_sub(n, &(f)->_refcount)
#define folio_pgdat(f)		(&node_data[folio_pfn(f) / (MEM_PAGES / NR_NODES) % NR_NODES])
#define mod_node_page_state(pgdat, item, n) atomic_long_add(n, &(pgdat)->released)
#define folio_has_pincount(f)	folio_test_large(f)

/* mm/internal.h has more than this. */
#define __MM_INTERNAL_H
#define gup_put_refs(f, n)	folio_put_refs(f, n)

/* Pageblocks, each with a type */
enum { MIGRATE_UNMOVABLE, MIGRATE_MOVABLE, MIGRATE_ISOLATE, NR_MIGRATE_TYPES };

extern u8 block_type[MEM_PAGES / 512 + 1];

#define max_pfn			MEM_PAGES
#define pageblock_order		9
#define pageblock_nr_pages	BIT(pageblock_order)
#define pageblock_start_pfn(pfn) ((pfn) & ~(pageblock_nr_pages - 1))
#define get_pageblock_migratetype(p) \
	READ_ONCE(block_type[page_to_pfn(p) >> pageblock_order])
#define is_migrate_movable(mt)	((mt) == MIGRATE_MOVABLE)
#define is_migrate_isolate(mt)	((mt) == MIGRATE_ISOLATE)
#define is_zone_device_page(p)	false	/* a whole section is, or none of it */

typedef struct folio *new_folio_t(struct folio *folio, unsigned long private);
enum migrate_mode { MIGRATE_ASYNC };

struct bio_vec {
	struct page *bv_page;
};

void folio_put_refs(struct folio *folio, int refs);
void unpin_user_pages(struct page **pages, unsigned long nr);
void unpin_folios(struct folio **folios, unsigned long nr);

/* Time passes when a test says so. */
extern unsigned long the_time;
#define jiffies			READ_ONCE(the_time)
#define time_after(a, b)	((long)((b) - (a)) < 0)
#define time_before(a, b)	time_after(b, a)
#define time_after_eq(a, b)	(!time_before(a, b))
#define schedule_timeout_killable(timeout) (void)(timeout)
#define MAX_JIFFY_OFFSET	(LONG_MAX / 2 - 1)

/* The kernel log */
struct ratelimit_state { int unused; };

#define DEFINE_RATELIMIT_STATE(name, interval, burst) struct ratelimit_state name
#define __ratelimit(state)	({ (void)(state); false; })
#define kstrdup_quotable(s, gfp) NULL
#define task_pid_nr(task)	((task)->cpu)
#define pr_info(...)		printf(__VA_ARGS__)
#define SZ_1K			1024
#define PATH_MAX		4096

/* Cgroups */
struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
	atomic_long_t refcnt;
	int id;
};

struct mem_cgroup {
	struct cgroup_subsys_state css;
};

struct cgroup {
	struct cgroup *parent;
	struct cgroup_subsys_state *pins;
	struct mem_cgroup memcg;
};

struct cgroup_file {
	atomic_t notified;
};

struct cgroup_of_peak {
	unsigned long value;
	struct list_head list;
};

struct kernfs_open_file {
	struct cgroup_subsys_state *css;
	struct cgroup_of_peak peak;
};

struct seq_file {
	struct kernfs_open_file *private;
	char buf[4096];
	unsigned int len;
};

struct cftype {
	const char *name;
	unsigned int flags;
	size_t file_offset;
	u64 (*read_u64)(struct cgroup_subsys_state *css, struct cftype *cft);
	int (*seq_show)(struct seq_file *sf, void *v);
	ssize_t (*write)(struct kernfs_open_file *of, char *buf, size_t n, loff_t off);
	int (*open)(struct kernfs_open_file *of);
	void (*release)(struct kernfs_open_file *of);
};

#define CFTYPE_NOT_ON_ROOT 1

struct cgroup_subsys {
	struct cgroup_subsys_state *(*css_alloc)(struct cgroup_subsys_state *parent);
	int (*css_online)(struct cgroup_subsys_state *css);
	void (*css_free)(struct cgroup_subsys_state *css);
	void (*css_rstat_flush)(struct cgroup_subsys_state *css, int cpu);
	struct cftype *dfl_cftypes;
};

extern struct cgroup_subsys pins_cgrp_subsys, memory_cgrp_subsys;

struct cgroup_subsys_state *css_from_id(int id, struct cgroup_subsys *ss);
bool css_tryget(struct cgroup_subsys_state *css);
void css_put_many(struct cgroup_subsys_state *css, unsigned int n);
void css_rstat_flush(struct cgroup_subsys_state *css);
bool cgroup_is_descendant(struct cgroup *cgrp, struct cgroup *ancestor);
struct cgroup_subsys_state *css_next_descendant_pre(struct cgroup_subsys_state *pos,
						    struct cgroup_subsys_state *root);

#define css_for_each_descendant_pre(pos, root)				\
	for ((pos) = NULL; ((pos) = css_next_descendant_pre(pos, root)); )

/* The root has no count. */
#define css_get_many(css, n)	atomic_long_add(n, &(css)->refcnt)
#define css_get(css)		css_get_many(css, 1)
#define css_put(css)		css_put_many(css, 1)
#define task_css(task, ss)	READ_ONCE((task)->css)
#define cgroup_e_css(cgrp, ss)						\
	({								\
		CHECK(current->rcu_nesting);				\
		(ss) == &memory_cgrp_subsys ? &(cgrp)->memcg.css : (cgrp)->pins; \
	})
#define cgroup_path(cgrp, buf, len) snprintf(buf, len, "%d", (cgrp)->pins->id)
#define cgroup_id(cgrp)		((u64)(cgrp)->pins->id)
#define folio_memcg_check(f) \
	((f)->memcg_data ? &((struct cgroup *)(f)->memcg_data)->memcg : NULL)
#define css_rstat_updated(css, cpu) (void)(cpu)

/* Numbers of 64 bits are whole anyway. */
struct u64_stats_sync { };

#define u64_stats_init(sync)	do { } while (0)
#define u64_stats_update_begin(sync) do { } while (0)
#define u64_stats_update_end(sync) do { } while (0)
#define u64_stats_fetch_begin(sync) 0
#define u64_stats_fetch_retry(sync, start) ((void)(start), false)

#define cgroup_file_notify(file) atomic_inc(&(file)->notified)
#define seq_css(sf)		((sf)->private->css)
#define of_css(of)		((of)->css)
#define of_peak(of)		(&(of)->peak)
#define seq_printf(sf, ...) \
	((sf)->len += sprintf((sf)->buf + (sf)->len, __VA_ARGS__))
#define seq_puts(sf, s)		seq_printf(sf, "%s", s)

static inline struct cgroup_subsys_state *task_get_css(struct task_struct *task,
						       int ss)
{
	struct cgroup_subsys_state *css;

	rcu_read_lock();
	do {
		css = task_css(task, ss);
	} while (!css_tryget(css));
	rcu_read_unlock();
	return css;
}

enum { pins_cgrp_id };

/* Static keys, tracepoints, debugfs, text */
#define DECLARE_STATIC_KEY_FALSE(key) extern atomic_t key
#define DEFINE_STATIC_KEY_FALSE(key) atomic_t key
#define static_branch_unlikely(key) READ_ONCE((key)->counter)
#define static_branch_likely	static_branch_unlikely
#define static_branch_inc(key)	atomic_inc(key)
#define static_branch_dec(key)	atomic_dec(key)

struct static_key_false_deferred {
	atomic_t key;
};

struct static_key_true_deferred {
	atomic_t key;
};

#define DEFINE_STATIC_KEY_DEFERRED_FALSE(name, linger) \
	struct static_key_false_deferred name
#define static_branch_deferred_inc(k) static_branch_inc(&(k)->key)
#define static_branch_slow_dec_deferred(k) static_branch_dec(&(k)->key)

extern bool tracing;

#define trace_pins_charge_enabled()	tracing
#define trace_pins_uncharge_enabled()	tracing
#define trace_pins_refuse_enabled()	tracing
#define trace_pins_revoke_enabled()	tracing
#define trace_pins_repin_enabled()	tracing
#define trace_pins_charge(cgroup, pfn, order) CHECK(cgroup)
#define trace_pins_uncharge(cgroup, pfn, order) CHECK(cgroup)
#define trace_pins_refuse(cgroup, pfn, order, nr) CHECK((cgroup) && (nr))
#define trace_pins_revoke(cgroup, nr)	CHECK(cgroup)
#define trace_pins_repin(cgroup, nr, usecs) CHECK(cgroup)

#define DEFINE_DEBUGFS_ATTRIBUTE(name, get, set, fmt) \
	static int __maybe_unused (*name)(void *, u64 *) = get
#define debugfs_create_dir(name, parent) NULL
#define debugfs_create_file(name, mode, dir, data, fops) (void)(dir)

static inline int kstrtou64(const char *s, unsigned int base, u64 *res)
{
	char *end;

	if (!isdigit(*s))
		return -EINVAL;
	*res = strtoull(s, &end, base);
	return *end ? -EINVAL : 0;
}

static inline int kstrtouint(const char *s, unsigned int base, unsigned int *res)
{
	u64 val;

	if (kstrtou64(s, base, &val) || val > UINT_MAX)
		return -EINVAL;
	*res = val;
	return 0;
}

#define strstrip(s)		(s)
#define memparse(s, end)	strtoull(s, end, 0)

#endif /* _PINS_TEST_KERNEL_H */
