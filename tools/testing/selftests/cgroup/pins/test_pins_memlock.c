// SPDX-License-Identifier: GPL-2.0
/*
 * pins.memlock: pins.max applies to pins in place of RLIMIT_MEMLOCK, if somebody says so
 * who may lift that limit.
 *
 * Copyright (C) 2026 the pins authors
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/iommufd.h>
#include "pins_util.h"

#define LEN	(16 * SZ_64K)	/* of a buffer */
#define LITTLE	SZ_64K		/* what RLIMIT_MEMLOCK allows */
#define NOBODY	65534

/* Who counts pins against RLIMIT_MEMLOCK, and what it says when that is reached */
static const struct {
	int source, refused;
} counting[] = {
	{ SOURCE_URING, -ENOMEM },
	{ SOURCE_RDMA, -ENOMEM },
	{ SOURCE_IOMMUFD, -ENOMEM },
	{ SOURCE_XDP, -ENOBUFS },
};

/* From now on the limit holds, also for who is root otherwise. */
static void be_limited(void)
{
	struct rlimit little = { LITTLE, LITTLE };

	check_eq(setrlimit(RLIMIT_MEMLOCK, &little), 0);
	drop_capability(CAP_IPC_LOCK);
}

/* Returns 0 or an errno. */
static int set_memlock(const char *cg, const char *value)
{
	return cg_write(cg, "pins.memlock", (char *)value) ? errno : 0;
}

static void check_memlock(const char *cg, const char *value)
{
	char now[16];

	check_eq(cg_read(cg, "pins.memlock", now, sizeof(now)), 0);
	check(!strncmp(now, value, strlen(value)) && now[strlen(value)] == '\n');
}

static void need_memlock(const char *cg)
{
	if (!cg_has(cg, "pins.memlock"))
		skip("no pins.memlock");
}

static char *enter_limited(const char *name)
{
	char *cg = enter_new(name);

	need_memlock(cg);
	be_limited();
	return cg;
}

static void every_source(void)
{
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_ANON, LEN), other = mem_get(MEM_ANON, LEN);
	bool there[ARRAY_SIZE(counting)];
	int i, refused, source;
	struct pin p, more;

	need_memlock(cg);
	/* To find that out pins memory */
	for (i = 0; i < ARRAY_SIZE(counting); i++)
		there[i] = !source_missing(counting[i].source);
	be_limited();
	for (i = 0; i < ARRAY_SIZE(counting); i++) {
		source = counting[i].source;
		refused = counting[i].refused;
		ksft_print_msg("%s%s\n", there[i] ? "" : "no ", pin_sources[source].name);
		if (!there[i])
			continue;
		check_memlock(cg, "rlimit");
		check_eq(pin(&p, source, &m), refused);
		check_eq(pins_current(cg), 0);
		check_eq(pin_part(&p, source, &m, 0, LITTLE / 2), 0);
		unpin(&p);

		check_eq(set_memlock(cg, "max"), 0);
		set_max(cg, LEN);
		check_eq(pin(&p, source, &m), 0);
		check_eq(pins_current(cg), LEN);
		check_eq(pin(&more, source, &other), -ENOMEM);
		check_eq(pins_current(cg), LEN);

		/* It is for what is pinned from now on. */
		check_eq(set_memlock(cg, "rlimit"), 0);
		set_max(cg, LEN * 2);
		check_eq(pin(&more, source, &other), refused);
		check_eq(pins_current(cg), LEN);
		unpin(&p);
		check_reaches(cg, 0);
	}
}

/* RDMA takes a limit of 0 as a ban. */
static void banned(void)
{
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_ANON, LEN);
	struct rlimit none = {};
	struct pin p;

	need_memlock(cg);
	need_source(SOURCE_RDMA);
	be_limited();
	check_eq(setrlimit(RLIMIT_MEMLOCK, &none), 0);
	check_eq(pin(&p, SOURCE_RDMA, &m), -EPERM);
	check_eq(set_memlock(cg, "max"), 0);
	check_eq(pin(&p, SOURCE_RDMA, &m), 0);
	unpin(&p);
}

/* iommufd can count as VFIO does: per process, not per user */
static void per_process(void)
{
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_ANON, LEN);
	struct iommu_option option = {
		.size = sizeof(option), .op = IOMMU_OPTION_OP_SET,
		.option_id = IOMMU_OPTION_RLIMIT_MODE, .val64 = 1,
	};
	struct iommu_ioas_alloc ioas = { .size = sizeof(ioas) };
	int i, want[] = { -ENOMEM, 0 };
	struct pin p = {};

	need_memlock(cg);
	need_source(SOURCE_IOMMUFD);
	be_limited();
	for (i = 0; i < 2; i++) {
		p.fd = open("/dev/iommu", O_RDWR);
		check(p.fd >= 0);
		check_eq(ioctl(p.fd, IOMMU_OPTION, &option), 0);
		check_eq(ioctl(p.fd, IOMMU_IOAS_ALLOC, &ioas), 0);
		p.id = ioas.out_ioas_id;
		check_eq(iommufd_attach(&p), 0);
		check_eq(iommufd_map(&p, &m, 0, LEN), want[i]);
		check_eq(pins_current(cg), want[i] ? 0 : LEN);
		unpin_by_close(&p);
		check_reaches(cg, 0);
		check_eq(set_memlock(cg, "max"), 0);
	}
}

static void for_all_below(void)
{
	char *parent = cg_make("p"), *cg = cg_make("p/a"), *other = cg_make("p/b");
	struct mem m = mem_get(MEM_ANON, LEN);
	struct pin p;

	need_memlock(cg);
	enter(cg);
	be_limited();
	check_eq(set_memlock(other, "max"), 0);
	check_eq(pin(&p, SOURCE_URING, &m), -ENOMEM);
	check_eq(set_memlock(parent, "max"), 0);
	check_memlock(cg, "rlimit");
	check_eq(pin(&p, SOURCE_URING, &m), 0);
	unpin(&p);

	/* The limit above is there still. */
	check_eq(set_memlock(cg, "max"), 0);
	set_max(parent, LEN / 2);
	check_eq(pin(&p, SOURCE_URING, &m), -ENOMEM);
	check_eq(cg_read_key_long(parent, "pins.events.local", "max "), 1);
	check_eq(pins_current(parent), 0);
}

/* Who moves leaves his charge behind, but what is counted of him goes with him. */
static void moved(void)
{
	char *cg = enter_limited("a"), *other = cg_make("b");
	struct mem m = mem_get(MEM_ANON, LEN), little = mem_get(MEM_ANON, LITTLE / 2);
	struct pin p, more;

	check_eq(set_memlock(cg, "max"), 0);
	check_eq(pin(&p, SOURCE_URING, &m), 0);
	enter(other);
	check_eq(pins_current(cg), LEN);
	check_eq(pin(&more, SOURCE_URING, &little), -ENOMEM);
	check_eq(pins_current(other), 0);
	enter(cg);
	check_eq(pin(&more, SOURCE_URING, &little), 0);
	unpin(&more);
	unpin(&p);
	enter(other);
	check_eq(pin(&more, SOURCE_URING, &little), 0);
	unpin(&more);
}

/* It is who registers that counts, not who has made the ring. */
static void passed_on(void)
{
	char *limited = cg_make("a"), *cg = cg_make("b");
	struct mem m = mem_get(MEM_ANON, LEN);
	struct iovec iov = { m.addr, m.len };
	int fd, i;
	pid_t pid;

	need_memlock(cg);
	need_source(SOURCE_URING);
	be_limited();
	check_eq(set_memlock(cg, "max"), 0);
	for (i = 0; i < 2; i++) {
		enter(i ? cg : limited);
		fd = uring_setup();
		check(fd >= 0);
		enter(i ? limited : cg);
		pid = test_fork();
		if (!pid) {
			check_eq(uring_register(fd, IORING_REGISTER_BUFFERS, &iov, 1),
				 i ? -ENOMEM : 0);
			check_eq(pins_current(cg), i ? 0 : LEN);
			check_eq(pins_current(limited), 0);
			_exit(0);
		}
		check_eq(reap(pid), 0);
		close(fd);
		check_reaches(cg, 0);
	}
}

static long locked_kb(void)
{
	char line[128];
	long kb = -1;
	FILE *f = fopen("/proc/self/status", "r");

	check(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "VmPin: %ld kB", &kb) == 1)
			break;
	fclose(f);
	return kb;
}

static void goes_on_counting(void)
{
	char *cg = enter_limited("a");
	struct mem m = mem_get(MEM_ANON, LEN);
	long before = locked_kb();
	struct pin p;

	check_eq(set_memlock(cg, "max"), 0);
	check_eq(pin(&p, SOURCE_URING, &m), 0);
	check_eq(locked_kb() - before, LEN / 1024);
	unpin(&p);
	check_eq(locked_kb(), before);
}

static void not_mlock(void)
{
	char *cg = enter_limited("a");
	struct mem m = mem_get(MEM_ANON, LEN);

	check_eq(set_memlock(cg, "max"), 0);
	check(mlock(m.addr, m.len) && errno == ENOMEM);
	check_eq(mlock(m.addr, LITTLE / 2), 0);
}

static void bad_values(void)
{
	static const char *const bad[] = { "", "\n", "0", "Max", "maximum", "rlimit max", "-1" };
	char *cg = enter_new("a");
	int i, k;

	need_memlock(cg);
	for (k = 0; k < 2; k++) {
		check_eq(set_memlock(cg, k ? "max\n" : " rlimit "), 0);
		for (i = 0; i < ARRAY_SIZE(bad); i++) {
			/* Nothing at all is not written. */
			if (*bad[i])
				check_eq(set_memlock(cg, bad[i]), EINVAL);
			check_memlock(cg, k ? "max" : "rlimit");
		}
	}
	check(!cg_has(pins_root, "pins.memlock"));
}

/* An errno or 0, for one write to an open file */
static int write_max(int fd)
{
	return pwrite(fd, "max", 3, 0) == 3 ? 0 : errno;
}

static void not_by_its_owner(void)
{
	char *cg = enter_new("a"), path[PATH_MAX];
	pid_t pid;
	int fd;

	need_memlock(cg);
	snprintf(path, sizeof(path), "%s/pins.memlock", cg);
	check_eq(chown(path, NOBODY, NOBODY), 0);
	fd = open(path, O_RDWR);
	check(fd >= 0);
	pid = test_fork();
	if (!pid) {
		check_eq(setresuid(NOBODY, NOBODY, NOBODY), 0);
		check_eq(set_memlock(cg, "max"), EPERM);
		/* Opened by somebody who may */
		check_eq(write_max(fd), EPERM);
		check_memlock(cg, "rlimit");
		check_eq(set_memlock(cg, "nonsense"), EINVAL);
		check_eq(set_memlock(cg, "rlimit"), 0);
		_exit(0);
	}
	check_eq(reap(pid), 0);
	check_memlock(cg, "rlimit");

	/* Opened by somebody who may not, and written to by who does not know */
	check_eq(setresuid(-1, NOBODY, 0), 0);
	close(fd);
	fd = open(path, O_RDWR);
	check(fd >= 0);
	check_eq(setresuid(-1, 0, 0), 0);
	check_eq(write_max(fd), EPERM);
	check_memlock(cg, "rlimit");
	check_eq(set_memlock(cg, "max"), 0);
}

/* Root of a user namespace has all capabilities, but not these. */
static void not_in_a_namespace(void)
{
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_ANON, LEN);
	struct pin p;
	pid_t pid;

	need_memlock(cg);
	need_source(SOURCE_URING);
	be_limited();
	pid = test_fork();
	if (!pid) {
		if (unshare(CLONE_NEWUSER))
			_exit(KSFT_SKIP);
		check_eq(set_memlock(cg, "max"), EPERM);
		check_eq(pin(&p, SOURCE_URING, &m), -ENOMEM);
		_exit(0);
	}
	switch (reap(pid)) {
	case 0:
		break;
	case KSFT_SKIP:
		skip("no user namespaces");
	default:
		check(false);
	}
	/* Whoever is in charge outside may say so. */
	check_eq(set_memlock(cg, "max"), 0);
	pid = test_fork();
	if (!pid) {
		check_eq(unshare(CLONE_NEWUSER), 0);
		check_eq(pin(&p, SOURCE_URING, &m), 0);
		check_eq(pins_current(cg), LEN);
		_exit(0);
	}
	check_eq(reap(pid), 0);
}

/* Who has the file may lose nothing but his own. */
static void without_sys_resource(void)
{
	char *cg = enter_new("a");

	need_memlock(cg);
	check_eq(set_memlock(cg, "max"), 0);
	drop_capability(CAP_SYS_RESOURCE);
	check_eq(set_memlock(cg, "max"), EPERM);
	check_memlock(cg, "max");
	check_eq(set_memlock(cg, "rlimit"), 0);
	check_eq(set_memlock(cg, "max"), EPERM);
	check_memlock(cg, "rlimit");
}

static const struct pins_test tests[] = {
	{ "each source pins what pins.max allows", every_source },
	{ "a limit of 0 forbids nothing then", banned },
	{ "iommufd that counts as VFIO does, too", per_process },
	{ "a value holds for cgroups below, and so does each limit", for_all_below },
	{ "I9 sticky: who moves takes what is counted of him along", moved },
	{ "it is who registers a buffer that counts", passed_on },
	{ "what was counted is counted still", goes_on_counting },
	{ "mlock() has its limit", not_mlock },
	{ "bad values change nothing", bad_values },
	{ "no owner of the file grants it, nor who is given it open", not_by_its_owner },
	{ "root of a user namespace does not", not_in_a_namespace },
	{ "it takes CAP_SYS_RESOURCE, and takes that only to lift a limit", without_sys_resource },
};

int main(void)
{
	pins_run(tests, ARRAY_SIZE(tests));
}
