/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of the pins controller share: memory of every kind, all that
 * can pin it for long, and a runner after which nothing may be left.
 *
 * A test is a function that returns when it has passed. It runs in a
 * process of its own, which starts in the root cgroup, and gets its cgroups
 * from cg_make(). check() and skip() end it. pins_test() then kills what still
 * runs of it, and fails the test when a charge, a record, a pin or a dying
 * cgroup stays, or when the kernel has warned.
 */
#ifndef PINS_UTIL_H
#define PINS_UTIL_H

#include <linux/io_uring.h>
#include <linux/limits.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "../../kselftest.h"
#include "cgroup_util.h"

#ifndef PAGE_SIZE
#define PAGE_SIZE	4096
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

#define PAGES(n)	((n) * (long)PAGE_SIZE)
#define SZ_64K		(64UL << 10)
#define SZ_2M		(2UL << 20)
#define SZ_1G		(512 * SZ_2M)

/* Memory: one buffer of one kind, mapped and touched as the kind says. */

enum {
	MEM_ANON,
	MEM_UNTOUCHED,
	MEM_ZERO_READ,
	MEM_ZERO,
	MEM_NODE1,
	MEM_THP,
	MEM_THP_PTES,
	MEM_THP_HOLES,
	MEM_MTHP,
	MEM_HUGETLB,
	MEM_HUGETLB_FD,
	MEM_GIGANTIC,
	MEM_SHMEM,
	MEM_MEMFD,
	MEM_MEMFD_MTHP,
	MEM_MEMFD_THP,
	MEM_TMPFS,
	MEM_TMPFS_HUGE,
	MEM_TMPFS_PRIVATE,
	MEM_EXT4,
	MEM_EXT4_PRIVATE,
	MEM_BDEV,
	MEM_DAX,
	NR_MEM_KINDS
};

struct mem_kind {
	const char *name;
	const char *stat;		/* its line in pins.stat */
	size_t folio;			/* what size its folios must have, if any */
	size_t len;			/* of a buffer, by default */
	size_t pin;			/* how much of it test_pins_sources pins, if not all */
	int map_flags;
	unsigned int memfd_flags;
	const char *fs, *fs_data;	/* a file on such a mount */
	const char *path;		/* or the device to mount or to map */
	int advice;
	unsigned int how;
};

#define HOW_MEMFD	0x01		/* a memfd that udmabuf takes, too */
#define HOW_READ_MAP	0x02		/* only mapped for reading */
#define HOW_READ_PIN	0x04		/* pins must not ask to write */
#define HOW_READ_TOUCH	0x08		/* only read so far */
#define HOW_NO_TOUCH	0x10		/* not even that */
#define HOW_SPLIT_PMD	0x20		/* a huge folio mapped by small entries */
#define HOW_REPLACED	0x40		/* and some of it replaced by others */
#define HOW_NODE1	0x80
#define HOW_DAX		0x100

struct mem {
	const struct mem_kind *kind;
	char *addr;
	size_t len;
	int fd;				/* the memfd or file, or -1 */
};

extern const struct mem_kind mem_kinds[NR_MEM_KINDS];

struct mem mem_get(int kind, size_t len);
void *mem_reserve(size_t len, size_t align);
size_t mem_folio(const void *addr);
bool mem_is_dirty(const void *addr);
size_t mem_folios(const struct mem *m, size_t off, size_t len);

/* What a tracepoint says in between: names are as "pins/pins_blocked". */

void trace_begin(const char *event);
FILE *trace_end(const char *event);

/* Files of a file system that writes back */

#define FILE_LEN	PAGES(8)

extern const struct mem_kind file_to_write;

int file_new(const char *dir);
struct mem file_map(int fd, const struct mem_kind *kind, int prot, int flags);
char *file_cgroup(const char *name);
struct mem file_cached(const char *cg);
void file_forget(const struct mem *m);

/* Sources: whoever pins memory for long on behalf of user space. */

enum {
	SOURCE_URING,
	SOURCE_PBUF,
	SOURCE_RDMA,
	SOURCE_IOMMUFD,
	SOURCE_XDP,
	SOURCE_UDMABUF,
	SOURCE_GUP,
	SOURCE_GUP_FAST,
	NR_SOURCES
};

struct pin {
	const struct pin_source *source;
	int fd;				/* closing it unpins as well */
	__u32 id;			/* of an object in that file */
	size_t len;
};

struct pin_source {
	const char *name;
	unsigned int can;
	size_t max_len;
	int (*pin)(struct pin *p, const struct mem *m, size_t off, size_t len);
	void (*unpin)(struct pin *p);
};

#define CAN_READ	0x01		/* pins without asking to write */
#define CAN_MEMFD_ONLY	0x02
#define CAN_ONCE	0x04		/* one pin at a time in the whole system */
#define CAN_NAME	0x08		/* the task that unpins drops the pins itself */

extern const struct pin_source pin_sources[NR_SOURCES];

int pin_part(struct pin *p, int source, const struct mem *m, size_t off,
	     size_t len);
int pin(struct pin *p, int source, const struct mem *m);
void unpin(struct pin *p);
void unpin_by_close(struct pin *p);
const char *source_missing(int source);
bool source_takes(int source, const struct mem_kind *kind);
void need_source(int source);

int uring_setup(void);
int uring_register(int ring, unsigned int op, const void *arg, unsigned int nr);
int uring_read(int ring, int fd, void *addr, size_t len);

/* A ring that is used */
struct ring {
	int fd;
	unsigned int wakeup;		/* what io_uring_enter() needs to submit */
	unsigned int big;		/* 1: entries have twice their size */
	unsigned int *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
	struct iovec parts[3];
};

struct ring ring_make(struct io_uring_params p);
struct io_uring_sqe *ring_queue(struct ring *r, struct io_uring_sqe sqe);
void ring_submit(struct ring *r, int nr);
bool ring_has_completion(struct ring *r);
int ring_complete(struct ring *r, __u64 *user_data);
int iommufd_open(struct pin *p);
int iommufd_map(struct pin *p, const struct mem *m, size_t off, size_t len);
int iommufd_attach(struct pin *p);

/* cgroups */

char *cg_make(const char *name);
bool cg_has(const char *cg, const char *file);
void enter(const char *cg);
char *enter_new(const char *name);
void enter_root(void);
void need_thp(void);
void need_memory_controller(void);
int mem_huge(void);
void set_max(const char *cg, long bytes);
long pins_current(const char *cg);
long pins_peak(const char *cg);
long pins_stat(const char *cg, const char *key);
long pins_events(const char *cg);
long pins_events_local(const char *cg);
long pins_dying(const char *cg);
long pages_pinned(void);
extern char pins_root[], pins_top[];

/* A test's own checks */

void pins_check(bool ok, const char *what, const char *file, int line);
void pins_check_eq(long value, long want, const char *what, const char *file,
		   int line);
void pins_check_reaches(const char *cg, long want, const char *file, int line);
void pins_check_stat(const char *cg, const char *key, long want,
		     const char *file, int line);
void __noreturn skip(const char *fmt, ...) __printf(1, 2);

#define check(cond) \
	pins_check(cond, #cond, __FILE__, __LINE__)
#define check_eq(value, want) \
	pins_check_eq(value, want, #value, __FILE__, __LINE__)
/* pins.current reaches that value, at once or after some deferred work */
#define check_reaches(cg, want) \
	pins_check_reaches(cg, want, __FILE__, __LINE__)
/* pins.current is that, and all of it counts under that key of pins.stat */
#define check_stat(cg, key, want) \
	pins_check_stat(cg, key, want, __FILE__, __LINE__)

/* Two processes take turns */
struct baton {
	int fd[2];
};

struct baton baton_make(void);
void baton_pass(struct baton *b);
void baton_take(struct baton *b);
pid_t test_fork(void);
int reap(pid_t pid);
void drop_capability(int cap);

/* Allocations of this process that fail */
int fail_setup(void);
void fail_nth(int fd, int n);

/* A block device, with these attributes of null_blk */

struct null_setup {
	const char *file;
	long value;
};

int null_disk(const struct null_setup *setup, int nr);

/* One that ends each request so many ns later, in a timer's interrupt */

#define MS	1000000L	/* in ns */

int slow_disk(long ns);
__kernel_ulong_t read_begin(int disk, void *addr, size_t len);
bool read_done(__kernel_ulong_t ctx);
void read_end(__kernel_ulong_t ctx, size_t len);

/* Memory that is to be emptied */

#define VM	"/proc/sys/vm"

struct range {
	unsigned long pfn, pages;
	int block;			/* number of a memory block, or -1: CMA */
	bool last;			/* is only allocated when all else is */
	char dir[PATH_MAX];
};

struct range cma_range(void);
struct range movable_range(void);
struct range kernel_range(void);
unsigned long pfn_of(const void *addr);
bool in_range(const struct range *r, const char *addr, size_t len);
void fill_pool(void);
void empty_pool(void);
char *memory_of(const struct range *r, bool inside, size_t len, int flags);
int take(const struct range *r);
void give_back(const struct range *r);

/* The runner */

struct pins_test {
	const char *name;
	void (*fn)(void);
};

void pins_setup(int nr_tests);
void pins_test(const char *name, void (*fn)(void));
void __noreturn pins_finish(void);
/* All of it */
void __noreturn pins_run(const struct pins_test *tests, int nr);

#endif /* PINS_UTIL_H */
