/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the guest programs of the benchmarks share: a machine set up to be
 * quiet, memory of a known kind at known physical places, the ways to pin it,
 * and records for the host.
 *
 * A guest runs under -icount with one instruction per nanosecond, so now()
 * counts instructions. Every failure ends the program: a number that is not
 * what it says is worse than none.
 */
#ifndef BENCH_GUEST_H
#define BENCH_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define KB		1024UL
#define MB		(1024UL * KB)
#define GB		(1024UL * MB)
#define PAGE		(4 * KB)
#define HUGE		(2 * MB)

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

#define CGROUP_ROOT	"/sys/fs/cgroup"

/* Stop what would run beside the measured work. Only in the VM. */
void guest_setup(void);

void die(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* One record for the host: the members of a JSON object, without braces. */
void record(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Guest time in nanoseconds, and what one look at the clock costs. */
uint64_t now(void);
extern uint64_t clock_cost;

/* Let timers, RCU callbacks and delayed frees run out. */
void settle(unsigned int seconds);

/* Time that other tasks have run, which are the kernel's, in ns. */
uint64_t background(void);

bool try_write(const char *path, const char *text);
void write_file(const char *path, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* A file's first number, or the number behind a key of a flat-keyed file. */
uint64_t read_number(const char *path, const char *key);

/* A memory block; its state, "offline" or how to go online. False after two seconds. */
bool memory_block_set(unsigned int block, const char *state);

/* Smallest first */
void sort_us(uint32_t *us, size_t nr);

/* Memory, faulted in and writable. */
char *map_small(size_t bytes);
char *map_thp(size_t bytes);
char *map_hugetlb(size_t bytes);
void unmap(char *p, size_t bytes);
uint64_t pfn_of(const void *p);

/*
 * Small pages that lie apart in physical memory, in one mapping whose order
 * tells nothing of theirs. With a block each block of that many bytes gives
 * one page at most; without one pages are taken at random. The pages come from
 * a donor, a large mapping that is gone afterwards; the answer is how many
 * there are.
 */
size_t map_apart(char **p, size_t donor_bytes, size_t max_pages, size_t block);

/*
 * A cgroup that many levels below the root, each with that pins.max: enter it,
 * go back to the root, and remove it as well.
 */
bool pins_supported(void);
void pins_enter(unsigned int depth, uint64_t max);
void pins_revoke_idle(void);
void pins_step_out(void);
void pins_leave(void);
uint64_t pins_current(void);

/* gup_test */
enum gup_how {
	GUP_SHORT_FAST,		/* pin_user_pages_fast */
	GUP_LONG,		/* pin_user_pages, FOLL_LONGTERM */
	GUP_LONG_FAST,		/* pin_user_pages_fast, FOLL_LONGTERM */
};

struct gup_cost {
	uint64_t pin, unpin;	/* ns, in steps of 1000 */
	uint64_t call;		/* ns, the whole system call */
};

void gup_cycle(enum gup_how how, char *p, size_t bytes, unsigned int per_call,
	       struct gup_cost *cost);
/* Pin for a long time, and let go. One at a time. */
void gup_hold(char *p, size_t bytes);
void gup_release(void);

/* io_uring registered buffers */
struct iovec;
/* A ring that reads into its first buffer */
struct uring_queue {
	int fd;
	unsigned int *sq_tail, *sq_array, *cq_head, mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
	struct mapping {
		void *at;
		size_t bytes;
	} mappings[3];
};

void uring_queue_open(struct uring_queue *q);
void uring_queue_close(struct uring_queue *q);
void uring_read_fixed(struct uring_queue *q, int fd, void *addr, size_t len);

int uring_open(void);
bool uring_try_register(int fd, struct iovec *iov, unsigned int nr);
void uring_register(int fd, struct iovec *iov, unsigned int nr);
void uring_unregister(int fd);

/* RDMA memory regions of a soft RoCE device, which go when the file is closed */
int rdma_open(void);
void rdma_register(int fd, const struct iovec *iov, unsigned int nr);

#endif /* BENCH_GUEST_H */
