// SPDX-License-Identifier: GPL-2.0
/*
 * The files of the pins controller: what they show, what they take, how limits
 * work in a hierarchy, who hears of a refusal.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pins_util.h"

static const struct pins_file {
	const char *name;
	bool writable;
} files[] = {
	{ "pins.current", false },
	{ "pins.max", true },
	{ "pins.peak", true },
	{ "pins.events", false },
	{ "pins.events.local", false },
	{ "pins.stat", false },
};

static struct mem anon(int pages)
{
	return mem_get(MEM_ANON, PAGES(pages));
}

/* Pins that many new pages, which stay pinned when p is given. */
static int pin_new(struct pin *p, int pages)
{
	struct mem m = anon(pages);
	struct pin own;
	int ret;

	ret = pin(p ?: &own, SOURCE_URING, &m);
	if (!ret && !p)
		unpin(&own);
	return ret;
}

static void files_everywhere_but_root(void)
{
	char *cg = cg_make("a"), *path;
	int i;

	for (i = 0; i < ARRAY_SIZE(files); i++) {
		path = cg_control(cg, files[i].name);
		check_eq(access(path, F_OK), 0);
		free(path);
		path = cg_control(pins_root, files[i].name);
		check_eq(access(path, F_OK), -1);
		free(path);
	}
}

static void new_cgroup(void)
{
	char *cg = cg_make("a");

	check_eq(cg_read_strcmp(cg, "pins.current", "0\n"), 0);
	check_eq(cg_read_strcmp(cg, "pins.max", "max\n"), 0);
	check_eq(cg_read_strcmp(cg, "pins.peak", "0\n"), 0);
	check_eq(pins_events(cg), 0);
	check_eq(pins_events_local(cg), 0);
	check_stat(cg, "anon", 0);
	check_eq(pins_stat(cg, "pins"), 0);
	check_eq(pins_stat(cg, "unpins"), 0);
}

static void stat_order(void)
{
	static const char * const keys[] = {
		"anon", "file", "shmem", "hugetlb", "device", "foreign",
		"pins", "unpins"
	};
	char *cg = cg_make("a"), text[PAGE_SIZE], key[64], *at = text;
	int i;

	check_eq(cg_read(cg, "pins.stat", text, sizeof(text)), 0);
	check_eq(strncmp(text, "anon 0\n", 7), 0);
	for (i = 1; i < ARRAY_SIZE(keys); i++) {
		snprintf(key, sizeof(key), "\n%s 0\n", keys[i]);
		at = strstr(at, key);
		check(at);
	}
}

static void max_values(void)
{
	static const struct {
		char *in, *out;
	} values[] = {
		{ "4096", "4096\n" },
		{ "8192\n", "8192\n" },
		{ "0", "0\n" },
		{ "4K", "4096\n" },
		{ "4k", "4096\n" },
		{ "2M", "2097152\n" },
		{ "3G", "3221225472\n" },
		{ "1g\n", "1073741824\n" },
		{ "4097", "4096\n" },
		{ "8191", "4096\n" },
		{ "4095", "0\n" },
		{ "max", "max\n" },
		{ "12288", "12288\n" },
		{ "max\n", "max\n" },
	};
	char *cg = cg_make("a");
	int i;

	for (i = 0; i < ARRAY_SIZE(values); i++) {
		check_eq(cg_write(cg, "pins.max", values[i].in), 0);
		check_eq(cg_read_strcmp(cg, "pins.max", values[i].out), 0);
	}
}

static void max_garbage(void)
{
	static char * const values[] = {
		"", "\n", " ", "-1", "-4096", "+", "x", "garbage", "max1",
		"maximum", "MAX", "ma", "4096x", "4KB", "4K4", "4096 4096",
		"4096,", "1.5M", "K", "M", "0x", "--1", "4096-", "max max",
		"99999999999999999999", "18446744073709551616",
		"340282366920938463463374607431768211456", "16E", "1000000G000",
	};
	char *cg = cg_make("a");
	int i, ret;

	set_max(cg, PAGES(3));
	for (i = 0; i < ARRAY_SIZE(values); i++) {
		ret = cg_write(cg, "pins.max", values[i]);
		/* A write of nothing may not even reach the controller */
		if (*values[i])
			pins_check_eq(ret, -EINVAL, values[i], __FILE__,
				      __LINE__);
		check_eq(cg_read_strcmp(cg, "pins.max", "12288\n"), 0);
	}
}

static void read_only_files(void)
{
	char *cg = enter_new("a"), before[PAGE_SIZE], *path;
	struct stat st;
	int i, fd;

	for (i = 0; i < ARRAY_SIZE(files); i++) {
		path = cg_control(cg, files[i].name);
		check_eq(stat(path, &st), 0);
		check_eq(st.st_mode & 0777, files[i].writable ? 0644 : 0444);
		if (files[i].writable)
			continue;
		check_eq(cg_read(cg, files[i].name, before, sizeof(before)), 0);
		fd = open(path, O_WRONLY);
		check(fd < 0 || write(fd, "1", 1) < 0);
		check_eq(cg_read_strcmp(cg, files[i].name, before), 0);
	}
}

/* pins is a domain controller: threads are charged to their domain */
static void *pin_in_thread(void *cg)
{
	struct pin p;

	check_eq(cg_enter_current_thread(cg), 0);
	check_eq(pin_new(&p, 4), 0);
	return NULL;
}

static void threaded(void)
{
	char *domain = enter_new("a"), *cg = cg_name(domain, "threads");
	char *path = cg_control(cg, "pins.current");
	pthread_t thread;

	check_eq(cg_create(cg), 0);
	check_eq(cg_write(cg, "cgroup.type", "threaded"), 0);
	check(cg_write(domain, "cgroup.subtree_control", "+pins") < 0);
	check_eq(access(path, F_OK), -1);
	check_eq(pthread_create(&thread, NULL, pin_in_thread, cg), 0);
	check_eq(pthread_join(thread, NULL), 0);
	check_eq(pins_current(domain), PAGES(4));
}

static void root_is_free(void)
{
	long pages = pins_stat(pins_top, "pins");
	struct pin p;

	need_source(SOURCE_URING);
	check_eq(pin_new(&p, 8), 0);
	check_eq(pins_current(pins_top), 0);
	unpin(&p);
	check_eq(pins_current(pins_top), 0);
	check_eq(pins_stat(pins_top, "pins"), pages);
}

static void no_room_at_all(void)
{
	char *cg = enter_new("a");

	set_max(cg, 0);
	check_eq(pin_new(NULL, 1), -ENOMEM);
	check_eq(pins_events(cg), 1);
	check_eq(cg_write(cg, "pins.max", "max"), 0);
	check_eq(pin_new(NULL, 256), 0);
}

static void lowered_below_current(void)
{
	char *cg = enter_new("a");
	struct pin p[3], again;
	struct mem m[3];
	int i;

	for (i = 0; i < 3; i++) {
		m[i] = anon(4);
		check_eq(pin(&p[i], SOURCE_URING, &m[i]), 0);
	}
	set_max(cg, PAGES(6));
	check_eq(pins_current(cg), PAGES(12));
	check_eq(pin_new(NULL, 1), -ENOMEM);
	for (i = 0; i < 3; i++) {
		check_eq(pin(&again, SOURCE_URING, &m[i]), 0);
		unpin(&again);
	}
	check_eq(pins_current(cg), PAGES(12));
	unpin(&p[0]);
	check_eq(pins_current(cg), PAGES(8));
	check_eq(pin_new(NULL, 1), -ENOMEM);
	unpin(&p[1]);
	check_eq(pin_new(NULL, 3), -ENOMEM);
	check_eq(pin_new(NULL, 2), 0);
	check_eq(pins_events_local(cg), 3);
	unpin(&p[2]);
	check_eq(pins_current(cg), 0);
}

/* A failed request counts in the cgroup whose limit was reached, and in those
 * above it.
 */
static void ancestor_refuses(void)
{
	char *top = cg_make("a"), *mid = cg_make("a/b"), *cg;
	long outer = pins_events(pins_top);
	struct pin p;

	cg = enter_new("a/b/c");
	set_max(top, PAGES(100));
	set_max(mid, PAGES(4));
	check_eq(pin_new(NULL, 5), -ENOMEM);
	check_eq(pins_current(top), 0);
	check_eq(pins_current(mid), 0);
	check_eq(pins_current(cg), 0);
	check_eq(pins_events_local(mid), 1);
	check_eq(pins_events(mid), 1);
	check_eq(pins_events(top), 1);
	check_eq(pins_events(pins_top), outer + 1);
	check_eq(pins_events_local(top), 0);
	check_eq(pins_events_local(cg), 0);
	check_eq(pins_events(cg), 0);

	set_max(cg, PAGES(2));
	check_eq(pin_new(NULL, 3), -ENOMEM);
	check_eq(pins_events_local(cg), 1);
	check_eq(pins_events_local(mid), 1);
	check_eq(pins_events(mid), 2);

	check_eq(pin_new(&p, 2), 0);
	check_eq(pins_current(cg), PAGES(2));
	check_eq(pins_current(mid), PAGES(2));
	check_eq(pins_current(top), PAGES(2));
	check_eq(pins_stat(top, "anon"), PAGES(2));
	check_eq(pins_stat(top, "pins"), pins_stat(cg, "pins"));
	unpin(&p);
	check_eq(pins_current(top), 0);
}

static void siblings(void)
{
	char *top = cg_make("a"), *b = cg_make("a/b"), *c;
	struct pin p, q;

	c = enter_new("a/c");
	enter(b);
	set_max(b, PAGES(4));
	check_eq(pin_new(&p, 4), 0);
	check_eq(pin_new(NULL, 1), -ENOMEM);
	enter(c);
	check_eq(pin_new(&q, 8), 0);
	check_eq(pins_current(b), PAGES(4));
	check_eq(pins_current(c), PAGES(8));
	check_eq(pins_current(top), PAGES(12));
	check_eq(pins_events(c), 0);
	unpin(&q);

	/* A limit of the parent applies to both */
	set_max(top, PAGES(6));
	check_eq(pin_new(NULL, 3), -ENOMEM);
	check_eq(pins_events_local(top), 1);
	check_eq(pin_new(NULL, 2), 0);
	unpin(&p);
	check_eq(pin_new(NULL, 6), 0);
	check_eq(pins_current(top), 0);
}

static void raised_while_refused(void)
{
	char *cg = enter_new("a");
	pid_t pid;
	int ret;

	set_max(cg, PAGES(3));
	pid = test_fork();
	if (!pid) {
		do {
			ret = pin_new(NULL, 4);
		} while (ret == -ENOMEM);
		_exit(ret ? 1 : 0);
	}
	while (!pins_events_local(cg))
		usleep(1000);
	set_max(cg, PAGES(4));
	check_eq(reap(pid), 0);
	check_eq(pins_current(cg), 0);
}

static void peak_resets(void)
{
	char *cg = enter_new("a"), *child = cg_make("b");
	int fd[3], i;
	struct pin p;

	for (i = 0; i < 3; i++) {
		fd[i] = cg_open(cg, "pins.peak", O_RDWR | O_APPEND | O_CLOEXEC);
		check(fd[i] >= 0);
	}
	check_eq(pin_new(NULL, 8), 0);
	check_eq(pins_peak(cg), PAGES(8));
	check_eq(pin_new(&p, 2), 0);
	check_eq(pins_peak(cg), PAGES(8));

	check_eq(write(fd[0], "reset", 5), 5);
	check_eq(cg_read_long_fd(fd[0]), PAGES(2));
	check_eq(cg_read_long_fd(fd[1]), PAGES(8));
	check_eq(pins_peak(cg), PAGES(8));

	check_eq(pin_new(NULL, 4), 0);
	check_eq(write(fd[1], "1\n", 2), 2);
	check_eq(cg_read_long_fd(fd[0]), PAGES(6));
	check_eq(cg_read_long_fd(fd[1]), PAGES(2));
	check_eq(cg_read_long_fd(fd[2]), PAGES(8));

	check_eq(close(fd[0]), 0);
	check_eq(pin_new(NULL, 10), 0);
	check_eq(cg_read_long_fd(fd[1]), PAGES(12));
	check_eq(cg_read_long_fd(fd[2]), PAGES(12));
	check_eq(pins_peak(cg), PAGES(12));

	/* An empty write does not reset */
	(void)!write(fd[2], "", 0);
	check_eq(cg_read_long_fd(fd[2]), PAGES(12));
	unpin(&p);
	check_eq(write(fd[2], "x", 1), 1);
	check_eq(cg_read_long_fd(fd[2]), 0);
	check_eq(pins_peak(child), 0);
}

/* A re-pin holds no new memory, a refused request none at all. */
static void peak_is_no_higher(void)
{
	char *cg = enter_new("a");
	struct mem m = anon(8);
	struct pin p, q;

	check_eq(pin(&p, SOURCE_URING, &m), 0);
	check_eq(pin(&q, SOURCE_URING, &m), 0);
	check_eq(pins_peak(cg), PAGES(8));
	set_max(cg, PAGES(12));
	check_eq(pin_new(NULL, 8), -ENOMEM);
	check_eq(pins_peak(cg), PAGES(8));
	unpin(&p);
	unpin(&q);
}

static void notified(const char *file)
{
	char *top = cg_make("a"), *path = cg_control(top, file);
	struct pollfd poll_events = { .events = POLLPRI };
	struct pollfd poll_inotify = { .events = POLLIN };
	char text[PAGE_SIZE];

	enter_new("a/b");
	poll_events.fd = open(path, O_RDONLY);
	check(read(poll_events.fd, text, sizeof(text)) > 0);
	poll_inotify.fd = inotify_init1(IN_NONBLOCK);
	check(inotify_add_watch(poll_inotify.fd, path, IN_MODIFY) >= 0);

	check_eq(pin_new(NULL, 1), 0);
	check_eq(poll(&poll_events, 1, 0), 0);
	check_eq(poll(&poll_inotify, 1, 0), 0);

	set_max(top, 0);
	check_eq(pin_new(NULL, 1), -ENOMEM);
	check_eq(poll(&poll_events, 1, 10000), 1);
	check(poll_events.revents & POLLPRI);
	check_eq(poll(&poll_inotify, 1, 10000), 1);
	check_eq(cg_read_strstr(top, file, "max 1\n"), 0);
}

static void events_notified(void)
{
	notified("pins.events");
}

static void events_local_notified(void)
{
	notified("pins.events.local");
}

static void stat_of_kinds(void)
{
	static const int kinds[] = {
		MEM_ANON, MEM_MEMFD, MEM_HUGETLB, MEM_THP,
	};
	char *top = cg_make("a"), *cg;
	struct pin p[ARRAY_SIZE(kinds)];
	long pages = 0;
	struct mem m;
	int i;

	cg = enter_new("a/b");
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		m = mem_get(kinds[i], 0);
		pages += m.len / PAGE_SIZE;
		check_eq(pin(&p[i], SOURCE_URING, &m), 0);
		check_eq(pins_stat(cg, "pins"), pages);
	}
	check_eq(pins_stat(cg, "anon"), SZ_64K + 2 * SZ_2M);
	check_eq(pins_stat(cg, "shmem"), SZ_64K);
	check_eq(pins_stat(cg, "hugetlb"), 2 * SZ_2M);
	check_eq(pins_stat(top, "hugetlb"), 2 * SZ_2M);
	check_eq(pins_stat(cg, "file"), 0);
	check_eq(pins_current(cg), 2 * SZ_64K + 4 * SZ_2M);
	for (i = 0; i < ARRAY_SIZE(kinds); i++)
		unpin(&p[i]);
	check_stat(cg, "anon", 0);
	check_stat(top, "anon", 0);
	check_eq(pins_stat(cg, "pins"), pages);
	check_eq(pins_stat(cg, "unpins"), pages);
	check_eq(pins_stat(top, "unpins"), pages);
}

static void stat_foreign(void)
{
	char *a = cg_make("a"), *b;
	struct pin p, q;
	struct mem m;

	b = enter_new("b");
	need_memory_controller();
	enter(a);
	m = mem_get(MEM_MEMFD, SZ_64K);
	check_eq(pin(&p, SOURCE_URING, &m), 0);
	check_eq(pins_stat(a, "foreign"), 0);
	enter(b);
	check_eq(pin(&q, SOURCE_URING, &m), 0);
	check_stat(b, "shmem", SZ_64K);
	check_eq(pins_stat(b, "foreign"), SZ_64K);
	/* Memory that both pin is not foreign to its owner */
	check_eq(pins_stat(a, "foreign"), 0);
	unpin(&q);
	check_reaches(b, 0);
	check_eq(pins_stat(b, "foreign"), 0);
	check_eq(pins_current(a), SZ_64K);
	unpin(&p);
	check_reaches(a, 0);
	check_eq(munmap(m.addr, m.len), 0);
	check_eq(close(m.fd), 0);
	check_eq(cg_write(pins_top, "cgroup.subtree_control", "-memory"), 0);
}

static const struct pins_test tests[] = {
	{ "every cgroup but the root has the files", files_everywhere_but_root },
	{ "a new cgroup has no limit and holds nothing", new_cgroup },
	{ "pins.stat has its lines in the documented order", stat_order },
	{ "pins.max takes bytes, K, M, G and max, in whole pages", max_values },
	{ "pins.max rejects invalid sizes with EINVAL and does not change", max_garbage },
	{ "only pins.max and pins.peak can be written", read_only_files },
	{ "a threaded cgroup has no pins files, its domain pays", threaded },
	{ "tasks in the root cgroup are not charged", root_is_free },
	{ "a limit of 0 refuses every pin, max none", no_room_at_all },
	{ "a limit below usage unpins nothing, refuses new memory, allows re-pins",
	  lowered_below_current },
	{ "a refusal counts where the limit is and above, not below",
	  ancestor_refuses },
	{ "a full cgroup leaves its sibling alone, a full parent does not",
	  siblings },
	{ "a refused request succeeds once the limit is raised", raised_while_refused },
	{ "pins.peak is the highest, and can be reset for one open file",
	  peak_resets },
	{ "re-pins and refused requests do not raise pins.peak",
	  peak_is_no_higher },
	{ "poll and inotify tell of pins.events", events_notified },
	{ "poll and inotify tell of pins.events.local", events_local_notified },
	{ "pins.stat counts each kind and every page, up the hierarchy",
	  stat_of_kinds },
	{ "pins.stat says how much belongs to another memory cgroup",
	  stat_foreign },
};

int main(void)
{
	pins_run(tests, ARRAY_SIZE(tests));
}
