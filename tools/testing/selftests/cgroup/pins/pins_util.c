// SPDX-License-Identifier: GPL-2.0
/*
 * The runner of the pins controller's tests: see pins_util.h.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/capability.h>
#include <linux/limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pins_util.h"

#define SYSFS_THP	"/sys/kernel/mm/transparent_hugepage/"
#define SYSFS_HUGETLB	"/sys/kernel/mm/hugepages/"
#define FAILSLAB	"/sys/kernel/debug/failslab"
#define FAIL_PAGE_ALLOC	"/sys/kernel/debug/fail_page_alloc"

/* How long work in the background may take: only so that a test ends */
#define PATIENCE_MS	5000
#define HANG_S		480

char pins_root[PATH_MAX], pins_top[PATH_MAX];
static char pins_other[PATH_MAX];	/* for what belongs to no test */

/* Why a test was skipped; its process writes, the runner reads */
static char *skip_reason;
#define SKIP_REASON_LEN	256

static struct setting {
	const char *path, *want;
	char was[64];
} settings[] = {
	{ SYSFS_THP "enabled", "madvise" },
	{ SYSFS_THP "shmem_enabled", "advise" },
	{ SYSFS_THP "hugepages-64kB/enabled", "madvise" },
	{ SYSFS_THP "hugepages-64kB/shmem_enabled", "advise" },
	{ SYSFS_HUGETLB "hugepages-2048kB/nr_hugepages", "8" },
	{ SYSFS_HUGETLB "hugepages-1048576kB/nr_hugepages", "1" },
	{ VM "/dirty_expire_centisecs", "3000" },
	{ VM "/dirty_writeback_centisecs", "500" },
};

/* cgroups */

char *cg_make(const char *name)
{
	char *cg = cg_name(pins_top, name);
	char parent[PATH_MAX];

	snprintf(parent, sizeof(parent), "%s", cg);
	*strrchr(parent, '/') = '\0';
	check_eq(cg_write(parent, "cgroup.subtree_control", "+pins"), 0);
	check_eq(cg_create(cg), 0);
	return cg;
}

/* pins.steer and pins.wait.max are not in every kernel. */
bool cg_has(const char *cg, const char *file)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", cg, file);
	return !access(path, F_OK);
}

void enter(const char *cg)
{
	check_eq(cg_enter_current(cg), 0);
}

/* Makes a cgroup, and a task of it that can pin by io_uring, as most do. */
char *enter_new(const char *name)
{
	char *cg = cg_make(name);

	need_source(SOURCE_URING);
	enter(cg);
	return cg;
}

void enter_root(void)
{
	enter(pins_root);
}

static bool has_thp(void)
{
	return !access(SYSFS_THP "enabled", F_OK);
}

void need_thp(void)
{
	if (!has_thp())
		skip("no transparent huge pages");
}

/* The cgroups of this test are cgroups of memory, too. */
void need_memory_controller(void)
{
	if (cg_write(pins_root, "cgroup.subtree_control", "+memory") ||
	    cg_write(pins_top, "cgroup.subtree_control", "+memory"))
		skip("no memory controller");
}

/* Huge pages that each kernel has: PREEMPT_RT has no transparent ones. */
int mem_huge(void)
{
	return has_thp() ? MEM_THP : MEM_HUGETLB;
}

void set_max(const char *cg, long bytes)
{
	check_eq(cg_write_numeric(cg, "pins.max", bytes), 0);
}

static long key_value(const char *dir, const char *file, const char *key)
{
	char path[PATH_MAX], name[64];
	long value, ret = -1;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	f = fopen(path, "r");
	if (!f)
		return -1;
	while (ret < 0 && fscanf(f, "%63s %ld", name, &value) == 2)
		if (!strcmp(name, key))
			ret = value;
	fclose(f);
	return ret;
}

long pins_current(const char *cg)
{
	return cg_read_long(cg, "pins.current");
}

long pins_peak(const char *cg)
{
	return cg_read_long(cg, "pins.peak");
}

long pins_stat(const char *cg, const char *key)
{
	return key_value(cg, "pins.stat", key);
}

long pins_events(const char *cg)
{
	return key_value(cg, "pins.events", "max");
}

long pins_events_local(const char *cg)
{
	return key_value(cg, "pins.events.local", "max");
}

long pins_dying(const char *cg)
{
	return key_value(cg, "cgroup.stat", "nr_dying_descendants");
}

/* Checks */

static void __noreturn test_exit(int code)
{
	fflush(stdout);
	_exit(code);
}

void pins_check(bool ok, const char *what, const char *file, int line)
{
	if (ok)
		return;
	ksft_print_msg("%s:%d: check failed: %s (%m)\n", file, line, what);
	test_exit(KSFT_FAIL);
}

void pins_check_eq(long value, long want, const char *what, const char *file,
		   int line)
{
	if (value == want)
		return;
	ksft_print_msg("%s:%d: %s is %ld, not %ld\n", file, line, what, value,
		       want);
	test_exit(KSFT_FAIL);
}

void pins_check_reaches(const char *cg, long want, const char *file, int line)
{
	int ms;

	for (ms = 0; ms < PATIENCE_MS && pins_current(cg) != want; ms++)
		usleep(1000);
	pins_check_eq(pins_current(cg), want, "pins.current in the end", file,
		      line);
	/* Whoever unpins uncharges first, and then accounts for it. */
	for (ms = 0; ms < 100 && !want && pins_stat(cg, "unpins") < pins_stat(cg, "pins"); ms++)
		usleep(1000);
}

void pins_check_stat(const char *cg, const char *key, long want,
		     const char *file, int line)
{
	static const char * const keys[] = {
		"anon", "file", "shmem", "hugetlb", "device"
	};
	int i;

	pins_check_eq(pins_current(cg), want, "pins.current", file, line);
	for (i = 0; i < ARRAY_SIZE(keys); i++)
		pins_check_eq(pins_stat(cg, keys[i]),
			      strcmp(keys[i], key) ? 0 : want, keys[i], file,
			      line);
}

void skip(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(skip_reason, SKIP_REASON_LEN, fmt, args);
	va_end(args);
	test_exit(KSFT_SKIP);
}

struct baton baton_make(void)
{
	struct baton b;

	check(!pipe(b.fd));
	return b;
}

void baton_pass(struct baton *b)
{
	check(write(b->fd[1], "", 1) == 1);
}

void baton_take(struct baton *b)
{
	struct pollfd pfd = { .fd = b->fd[0], .events = POLLIN };
	char byte;

	check(poll(&pfd, 1, HANG_S * 1000 / 2) == 1);
	check(read(b->fd[0], &byte, 1) == 1);
}

pid_t test_fork(void)
{
	pid_t pid = fork();

	check(pid >= 0);
	return pid;
}

int reap(pid_t pid)
{
	int status;

	check(waitpid(pid, &status, 0) == pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* This process can no longer do that, root or not. */
void drop_capability(int cap)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	check_eq(syscall(SYS_capget, &header, data), 0);
	data[cap / 32].effective &= ~(1U << cap % 32);
	data[cap / 32].permitted &= ~(1U << cap % 32);
	check_eq(syscall(SYS_capset, &header, data), 0);
}

/* Let allocations that may sleep fail, too. Returns where to say which. */
int fail_setup(void)
{
	int fd = open("/proc/self/fail-nth", O_RDWR);

	if (fd < 0 || cg_write(FAILSLAB, "ignore-gfp-wait", "N"))
		skip("no injection of failing allocations");
	cg_write(FAIL_PAGE_ALLOC, "ignore-gfp-wait", "N");
	cg_write(FAIL_PAGE_ALLOC, "min-order", "0");
	return fd;
}

/* Fail the nth allocation from here on; 0 for none. */
void fail_nth(int fd, int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", n);

	check_eq(pwrite(fd, text, len, 0), len);
}

/* What a test must leave as it was */

struct trace {
	long current, records, dying, dying_pins, pinned, tainted;
};

/* What the last test left, taken before its result was printed: output may also
 * be pinned until it is written.
 */
static struct trace before;

static long number_in(const char *path)
{
	char buf[64];

	return read_text(path, buf, sizeof(buf)) > 0 ? atol(buf) : -1;
}

/* How many pins there are in the whole system, charged or not. */
long pages_pinned(void)
{
	/* The counters of /proc/vmstat are per CPU until this is written */
	write_text("/proc/sys/vm/stat_refresh", "1", 1);
	return key_value("/proc", "vmstat", "nr_foll_pin_acquired") -
	       key_value("/proc", "vmstat", "nr_foll_pin_released");
}

static void trace_take(struct trace *t)
{
	t->pinned = pages_pinned();
	t->current = pins_current(pins_top);
	t->records = number_in("/sys/kernel/debug/pins/records");
	t->dying = pins_dying(pins_top);
	t->dying_pins = key_value(pins_top, "cgroup.stat",
				  "nr_dying_subsys_pins");
	t->tainted = number_in("/proc/sys/kernel/tainted");
}

static long charged;

static int sum_current(const char *path, const struct stat *st, int type,
		       struct FTW *ftw)
{
	if (type == FTW_DP && ftw->level)
		charged += labs(pins_current(path));
	return 0;
}

static int remove_cgroup(const char *path, const struct stat *st, int type,
			 struct FTW *ftw)
{
	if (type == FTW_DP && ftw->level)
		cg_destroy(path);
	return 0;
}

static void walk_cgroups(int (*fn)(const char *, const struct stat *, int,
				   struct FTW *))
{
	charged = 0;
	nftw(pins_top, fn, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/*
 * Memory keeps its cgroup: what was read, and what some CPU is yet to put onto a list. So
 * does each CPU the one for which it charged last, even if it has nothing left of that.
 */
static void forget_memory(void)
{
	cpu_set_t all, one;
	int cpu;

	write_text("/proc/sys/vm/drop_caches", "1", 1);
	if (sched_getaffinity(0, sizeof(all), &all))
		return;
	cg_enter_current(pins_other);
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &all))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		sched_setaffinity(0, sizeof(one), &one);
		munmap(mmap(NULL, PAGE_SIZE, PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0), PAGE_SIZE);
	}
	sched_setaffinity(0, sizeof(all), &all);
	cg_enter_current(pins_root);
}

/* What is from before the test may end during the test. */
static void forget_what_ended(const struct trace *now)
{
	if (before.pinned > now->pinned)
		before.pinned = now->pinned;
	if (before.dying > now->dying)
		before.dying = now->dying;
	if (before.dying_pins > now->dying_pins)
		before.dying_pins = now->dying_pins;
}

static bool left_nothing(void)
{
	struct trace now;
	int ms;

	for (ms = 0; ms < PATIENCE_MS; ms += 10) {
		walk_cgroups(sum_current);
		if (!charged)
			break;
		usleep(10000);
	}
	walk_cgroups(remove_cgroup);
	for (; ms < PATIENCE_MS * 2; ms += 10) {
		trace_take(&now);
		forget_what_ended(&now);
		if (!charged && !memcmp(&now, &before, sizeof(now)))
			return true;
		if (now.dying > before.dying)
			forget_memory();
		if (charged || now.tainted != before.tainted)
			break;
		usleep(10000);
	}
	ksft_print_msg("left: %ld bytes charged in live cgroups, %ld in all (%ld before)\n",
		       charged, now.current, before.current);
	ksft_print_msg("left: %ld records (%ld), %ld pinned pages (%ld)\n",
		       now.records, before.records, now.pinned,
		       before.pinned);
	ksft_print_msg("left: %ld dying cgroups (%ld), %ld of pins (%ld), tainted %#lx (%#lx)\n",
		       now.dying, before.dying, now.dying_pins,
		       before.dying_pins, now.tainted, before.tainted);
	before = now;
	return false;
}

static void __noreturn run_child(void (*fn)(void))
{
	struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };

	setpgid(0, 0);
	alarm(HANG_S);
	check(!setrlimit(RLIMIT_MEMLOCK, &unlimited));
	/* What a test mounts is gone when it ends */
	check(!unshare(CLONE_NEWNS));
	check(!mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	fn();
	test_exit(KSFT_PASS);
}

#define TRACING	"/sys/kernel/tracing"

static int trace_enable(const char *event, bool on)
{
	char file[64];

	snprintf(file, sizeof(file), "events/%s/enable", event);
	return cg_write_numeric(TRACING, file, on);
}

void trace_begin(const char *event)
{
	/* Opening it with O_TRUNC clears it. */
	FILE *f = fopen(TRACING "/trace", "w");

	if (!f || trace_enable(event, true))
		skip("no tracing");
	fclose(f);
}

FILE *trace_end(const char *event)
{
	FILE *f;

	check_eq(trace_enable(event, false), 0);
	f = fopen(TRACING "/trace", "r");
	check(f);
	return f;
}

static void settings_write(void)
{
	struct setting *s;

	for (s = settings; s < settings + ARRAY_SIZE(settings); s++)
		write_text(s->path, (char *)s->want, strlen(s->want));
}

void pins_test(const char *name, void (*fn)(void))
{
	bool clean;
	pid_t pid;
	int code;

	skip_reason[0] = '\0';
	/* An earlier test may have turned it off and failed */
	cg_write(pins_root, "cgroup.subtree_control", "+pins");
	cg_write(pins_top, "cgroup.subtree_control", "+pins");
	fflush(stdout);
	pid = fork();
	if (!pid)
		run_child(fn);
	code = reap(pid);
	/* It may have filled the pool of huge pages. */
	if (code != KSFT_PASS)
		settings_write();
	if (code > 128)
		ksft_print_msg("killed by signal %d\n", code - 128);
	/* Its children have become ours */
	kill(-pid, SIGKILL);
	while (waitpid(-1, NULL, 0) > 0)
		;
	clean = left_nothing();

	if (code == KSFT_SKIP && clean)
		ksft_test_result_skip("%s: %s\n", name, skip_reason);
	else
		ksft_test_result(code == KSFT_PASS && clean, "%s\n", name);
}

static void settings_apply(void)
{
	struct setting *s;
	char *was, *end;

	for (s = settings; s < settings + ARRAY_SIZE(settings); s++) {
		if (read_text(s->path, s->was, sizeof(s->was)) <= 0)
			continue;
		/* Of "a [b] c" it is b that was set */
		was = strchr(s->was, '[');
		if (was) {
			end = strchr(was, ']');
			memmove(s->was, was + 1, end - was - 1);
			s->was[end - was - 1] = '\0';
		}
	}
	settings_write();
}

static void settings_restore(void)
{
	struct setting *s;

	for (s = settings; s < settings + ARRAY_SIZE(settings); s++)
		write_text(s->path, s->was, strlen(s->was));
}

void pins_setup(int nr_tests)
{
	struct trace was;
	int i;

	ksft_print_header();
	if (geteuid())
		ksft_exit_skip("these tests need root\n");
	if (cg_find_unified_root(pins_root, sizeof(pins_root), NULL))
		ksft_exit_skip("cgroup v2 isn't mounted\n");
	if (cg_read_strstr(pins_root, "cgroup.controllers", "pins"))
		ksft_exit_skip("pins controller isn't available\n");
	if (cg_write(pins_root, "cgroup.subtree_control", "+pins"))
		ksft_exit_skip("pins controller can't be enabled\n");

	snprintf(pins_top, sizeof(pins_top), "%.4000s/pins_test", pins_root);
	if (cg_create(pins_top) && errno != EEXIST)
		ksft_exit_fail_msg("can't make %s\n", pins_top);
	snprintf(pins_other, sizeof(pins_other), "%.4000s/pins_other", pins_root);
	if (cg_create(pins_other) && errno != EEXIST)
		ksft_exit_fail_msg("can't make %s\n", pins_other);
	walk_cgroups(remove_cgroup);
	if (cg_write(pins_top, "cgroup.subtree_control", "+pins"))
		ksft_exit_fail_msg("can't enable pins below %s\n", pins_top);

	skip_reason = mmap(NULL, SKIP_REASON_LEN, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (skip_reason == MAP_FAILED || cg_enter_current(pins_root) ||
	    prctl(PR_SET_CHILD_SUBREAPER, 1))
		ksft_exit_fail_perror("setup");

	/* What of this program is first read in a cgroup would keep that. */
	mlockall(MCL_CURRENT);
	munlockall();

	settings_apply();
	for (i = 0; i < NR_SOURCES; i++)
		if (source_missing(i))
			ksft_print_msg("no %s: %s\n", pin_sources[i].name,
				       source_missing(i));
	if (access("/sys/kernel/debug/pins/records", R_OK))
		ksft_print_msg("no /sys/kernel/debug/pins/records: records are not checked\n");

	/* Wait until nothing changes: earlier pins may still be released */
	ksft_set_plan(nr_tests);
	trace_take(&before);
	do {
		was = before;
		usleep(100000);
		trace_take(&before);
	} while (memcmp(&was, &before, sizeof(was)));
}

void pins_finish(void)
{
	settings_restore();
	cg_destroy(pins_top);
	cg_destroy(pins_other);
	ksft_finished();
}

void pins_run(const struct pins_test *tests, int nr)
{
	const char *only = getenv("PINS_TEST");
	int i, n = 0;

	for (i = 0; i < nr; i++)
		n += !only || strstr(tests[i].name, only);
	pins_setup(n);
	for (i = 0; i < nr; i++)
		if (!only || strstr(tests[i].name, only))
			pins_test(tests[i].name, tests[i].fn);
	pins_finish();
}
