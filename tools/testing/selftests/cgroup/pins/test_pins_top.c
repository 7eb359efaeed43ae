// SPDX-License-Identifier: GPL-2.0
/*
 * pinstop, tools/cgroup/, shows what the files of the cgroups say.
 *
 * Copyright (C) 2026 the pins authors
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pins_util.h"

/* It has been built beside this program. */
static char pinstop[PATH_MAX];

static char out[65536];

/* What it prints, standard error included. Returns its exit code. */
static int __printf(1, 2) run(const char *fmt, ...)
{
	char args[256], command[PATH_MAX + 300];
	va_list ap;
	FILE *f;
	int ret;

	va_start(ap, fmt);
	vsnprintf(args, sizeof(args), fmt, ap);
	va_end(ap);
	snprintf(command, sizeof(command), "%s %s 2>&1 </dev/null", pinstop, args);
	f = popen(command, "r");
	check(f);
	out[fread(out, 1, sizeof(out) - 1, f)] = 0;
	ret = pclose(f);
	check(WIFEXITED(ret));
	return WEXITSTATUS(ret);
}

/* A cgroup with pins, a limit and a request that was refused; what it is called */

static struct pin held;

static const char *busy_cgroup(void)
{
	static char path[PATH_MAX];
	char *cg = enter_new("a");
	struct mem m = mem_get(MEM_ANON, SZ_64K);
	struct pin p;

	need_source(SOURCE_URING);
	set_max(cg, SZ_64K);
	check_eq(pin_part(&held, SOURCE_URING, &m, 0, SZ_64K / 2), 0);
	check_eq(pin_part(&p, SOURCE_URING, &m, 0, SZ_64K), 0);
	unpin(&p);
	set_max(cg, SZ_64K / 2);
	check_eq(pin_part(&p, SOURCE_URING, &m, 0, SZ_64K), -ENOMEM);
	check_eq(pins_current(cg), SZ_64K / 2);
	snprintf(path, sizeof(path), "%s", cg + strlen(pins_root));
	enter_root();
	return path;
}

static void table(void)
{
	const char *path = busy_cgroup();
	unsigned long current, max, peak, foreign, movable, refused, blocked, waits;
	double share;
	char *line;

	check_eq(run("--depth=9 -br -n1"), 0);
	check(!strncmp(out, "CGroup ", 7));
	line = strstr(out, path);
	check(line);
	line += strlen(path);
	if (sscanf(line, "%lu %lu %lu %lf %lu %lu %lu %lu %lu", &current, &max, &peak,
		   &share, &foreign, &movable, &refused, &blocked, &waits) != 9)
		check_eq(line[0], 0);
	check_eq(current, SZ_64K / 2);
	check_eq(max, SZ_64K / 2);
	check_eq(peak, SZ_64K);
	check_eq(refused, 1);
	check_eq(foreign + blocked + waits, 0);
	check_eq(movable, pins_stat(cg_name(pins_root, path), "movable_block"));

	/* For people */
	check_eq(run("-1 --depth=9 --filter=%s", path), 0);
	check(strstr(out, " 32.0K    32.0K    64.0K "));
	check_eq(run("-1 --depth=9 --filter=nobody"), 0);
	check(!strstr(out, path));
	check_eq(run("-1 %s", path), 0);
	check(strstr(out, "\n/ "));
	unpin(&held);
}

static char *where(const char *what)
{
	char *found = strstr(out, what);

	check(found);
	return found;
}

static void sorted(void)
{
	const char *path = busy_cgroup();
	char *other = cg_make("0"), *third = cg_make("b");

	set_max(other, SZ_1G);
	set_max(third, SZ_1G);
	check_eq(run("-1 --depth=9 -s path"), 0);
	check(where("/0 ") < where(path));
	check(where("/b ") > where(path));
	check_eq(run("-1 --depth=9 -s current"), 0);
	check(where("/0 ") > where(path));
	check_eq(run("-1 --depth=9 -s max"), 0);
	check(where("/0 ") < where(path));
	check_eq(run("-1 --depth=1"), 0);
	check(!strstr(out, path));
	unpin(&held);
}

static void as_json(void)
{
	char want[PATH_MAX + 200];

	snprintf(want, sizeof(want),
		 "{\"path\": \"%s\", \"current\": 32768, \"max\": 32768, \"peak\": 65536, \"anon\": 32768, \"file\": 0,",
		 busy_cgroup());
	check_eq(run("--json"), 0);
	check(!strncmp(out, "{\"time\": ", 9));
	check(strstr(out, want));
	check(strstr(out, "\"refused\": 1, \"blocked\": 0, \"local_max\": 1, "));
	check(!strcmp(out + strlen(out) - 3, "]}\n"));
	unpin(&held);
}

static void as_openmetrics(void)
{
	static const char file[] = "/tmp/pins.prom";
	const char *path = busy_cgroup();
	char want[PATH_MAX + 200], text[65536], *cg = cg_name(pins_root, path);

	check_eq(cg_write(cg, "pins.memlock", "max"), 0);
	check_eq(run("--openmetrics"), 0);
	snprintf(want, sizeof(want),
		 "\npins_setting{cgroup=\"%s\",file=\"pins.memlock\",value=\"max\"} 1\n", path);
	check(strstr(out, want));
	snprintf(want, sizeof(want),
		 "\npins_setting{cgroup=\"%s\",file=\"pins.migrate\",value=\"needed\"} 0\n",
		 path);
	check(strstr(out, want));
	snprintf(want, sizeof(want), "\npins_current_bytes{cgroup=\"%s\"} 32768\n", path);
	check(strstr(out, want));
	snprintf(want, sizeof(want), "\npins_refused_total{cgroup=\"%s\"} 1\n", path);
	check(strstr(out, want));
	snprintf(want, sizeof(want),
		 "\npins_events_local_total{cgroup=\"%s\",event=\"refused\"} 1\n", path);
	check(strstr(out, want));
	/* Counted by those above, but not theirs */
	*strrchr(want, '/') = 0;
	strcat(want, "\",event=\"refused\"} 0\n");
	check(strstr(out, want));
	snprintf(want, sizeof(want),
		 "\npins_memory_bytes{cgroup=\"%s\",type=\"anon\"} 32768\n", path);
	check(strstr(out, want));
	check(!strcmp(out + strlen(out) - 6, "# EOF\n"));

	check_eq(run("-o%s -n 2 -d 0.1", file), 0);
	check_eq(out[0], 0);
	check(read_text(file, text, sizeof(text)) > 0);
	check(strstr(text, want));
	check(strstr(text, "\n# TYPE pins_refused_total counter\n"));
	check_eq(unlink(file), 0);
	check_eq(run("-o/nowhere/pins.prom"), 1);
	unpin(&held);
}

/* It needs no privilege, and leaves out what the user may not read */
static void as_somebody(void)
{
	const char *path = busy_cgroup();

	check_eq(setgid(65534), 0);
	check_eq(setuid(65534), 0);
	if (access(pinstop, X_OK))
		skip("other users can't run %s", pinstop);
	check_eq(run("-1 --depth=9"), 0);
	check(strstr(out, path));
}

static void secret(void)
{
	const char *path = busy_cgroup();
	char current[PATH_MAX];
	pid_t pid;

	snprintf(current, sizeof(current), "%s%s/pins.current", pins_root, path);
	check_eq(chmod(current, 0400), 0);
	pid = test_fork();
	if (!pid) {
		check_eq(setuid(65534), 0);
		check_eq(run("-1 --depth=9"), 0);
		check(!strstr(out, path));
		check(strstr(out, "1 cgroups may not be read"));
		_exit(0);
	}
	check_eq(reap(pid), 0);
	unpin(&held);
}

static void vanishing(void)
{
	char *parent = cg_make("p"), *cg;
	int i, ret = 0;
	pid_t pid;

	check_eq(cg_write(parent, "cgroup.subtree_control", "+pins"), 0);
	pid = test_fork();
	if (!pid) {
		for (i = 0; i < 20 && !ret; i++)
			ret = run("-a --depth=9 -b -n 20 -d 0.01");
		_exit(ret);
	}
	cg = cg_name(parent, "gone");
	while (waitpid(pid, &ret, WNOHANG) != pid) {
		check_eq(cg_create(cg), 0);
		check_eq(cg_destroy(cg), 0);
	}
	check(WIFEXITED(ret));
	check_eq(WEXITSTATUS(ret), 0);
}

/* Names are chosen by tenants and must not control the admin's terminal. */
static void names(void)
{
	set_max(cg_make("\033[31mred\" \200"), SZ_64K);
	set_max(cg_make("\033[31mred\" \201"), SZ_64K);
	/* Nor can they hide. */
	set_max(cg_make(".dot"), SZ_64K);
	check_eq(run("-1 --depth=9"), 0);
	check(strstr(out, "/?[31mred\" ?"));
	check(strstr(out, "/.dot "));
	check(!strchr(out, '\033'));
	check_eq(run("-j"), 0);
	check(strstr(out, "/\\u001b[31mred\\\" \357\277\27580\", "));
	check(strstr(out, "/\\u001b[31mred\\\" \357\277\27581\", "));
}

/* What it shows on a terminal of that width, without escape sequences */
static void run_live(int cols, const char *options)
{
	struct winsize size = { .ws_row = 24, .ws_col = cols };
	char command[PATH_MAX + 300], *from = out, *to = out;
	size_t len = 0;
	ssize_t ret;
	pid_t pid;
	int fd;

	snprintf(command, sizeof(command), "exec %s -n 1 --depth=9 %s", pinstop, options);
	fflush(NULL);
	pid = forkpty(&fd, NULL, NULL, &size);
	check(pid >= 0);
	if (!pid) {
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	while ((ret = read(fd, out + len, sizeof(out) - 1 - len)) > 0)
		len += ret;
	out[len] = '\0';
	close(fd);
	check_eq(reap(pid), 0);
	/* The screen is cleared before the heading. */
	from = where("\033[H\033[J");
	while (*from) {
		if (*from == '\033')
			from += strcspn(from, "ABCDHJKhlm") + 1;
		else
			*to++ = *from++;
	}
	*to = '\0';
}

static void on_a_terminal(void)
{
	const char *path = busy_cgroup();
	static const int widths[] = { 40, 80, 200 };
	char *line, *save;
	int i;

	run_live(200, "");
	check(strstr(out, path));
	check(strstr(out, " Refused  Blocked    Waits"));
	run_live(80, "");
	check(strstr(out, " Refused"));
	check(!strstr(out, "Blocked"));
	run_live(80, "-s waits");
	check(strstr(out, " Movable    Waits"));
	run_live(80, "-r -s refused");
	check(strstr(out, " Refused"));
	for (i = 0; i < ARRAY_SIZE(widths); i++) {
		run_live(widths[i], "");
		for (line = strtok_r(out, "\r\n", &save); line;
		     line = strtok_r(NULL, "\r\n", &save))
			check(strlen(line) <= widths[i]);
	}
	unpin(&held);
}

/* Refusals while it looks; and nothing when nothing happens */
static void what_happens(void)
{
	const char *path = busy_cgroup();
	char want[PATH_MAX + 16];
	pid_t pid;
	int i;

	check_eq(run("-w -d 0.1 -n 3 --filter=%s", path), 0);
	check_eq(out[0], 0);
	pid = test_fork();
	if (!pid) {
		struct mem m = mem_get(MEM_ANON, SZ_64K);
		struct pin p;

		enter(cg_name(pins_root, path));
		for (;;) {
			check_eq(pin_part(&p, SOURCE_URING, &m, 0, SZ_64K), -ENOMEM);
			usleep(10000);
		}
	}
	snprintf(want, sizeof(want), " %s: max ", path);
	for (i = 0; i < 100 && !strstr(out, want); i++)
		check_eq(run("--watch-events -d 0.2 -n 3"), 0);
	check(strstr(where(want), ", refused "));
	check(!strstr(out, "blocked"));
	check_eq(kill(pid, SIGKILL), 0);
	check_eq(reap(pid), 128 + SIGKILL);
	unpin(&held);
}

static void nothing_there(void)
{
	check_eq(run("-1 /proc/self/task"), 1);
	check(strstr(out, "no cgroup has the pins controller"));
	check_eq(run("-j /proc/self/task"), 1);
	check_eq(run("--openmetrics --filter=nobody"), 0);
	/* A timer that writes a file does not fail on each host without limits. */
	check_eq(run("--openmetrics=/tmp/pins.prom /proc/self/task"), 0);
	check_eq(unlink("/tmp/pins.prom"), 0);
}

static void wrong_usage(void)
{
	check_eq(run("--sort=size"), 1);
	check_eq(run("--json --openmetrics"), 2);
	check_eq(run("--json --watch-events"), 2);
	check_eq(run("--delay=-1"), 1);
	check_eq(run("--iterations=0.5"), 1);
	check_eq(run("--what"), 2);
	check_eq(run("/no/such/directory"), 1);
	check_eq(run("--help"), 0);
}

static const struct pins_test tests[] = {
	{ "pinstop: the table says what the files say", table },
	{ "pinstop: sorted, and as deep as it is told", sorted },
	{ "pinstop: JSON says what the files say", as_json },
	{ "pinstop: OpenMetrics, also to a file that is replaced", as_openmetrics },
	{ "pinstop: what happens, as it happens", what_happens },
	{ "pinstop: for an ordinary user", as_somebody },
	{ "pinstop: what may not be read is left out", secret },
	{ "pinstop: cgroups that vanish", vanishing },
	{ "pinstop: names are not sent to the terminal as they are", names },
	{ "pinstop: fits the terminal", on_a_terminal },
	{ "pinstop: says so if there is nothing to show", nothing_there },
	{ "pinstop: wrong usage", wrong_usage },
};

int main(int argc, char **argv)
{
	char *slash = strrchr(argv[0], '/');

	snprintf(pinstop, sizeof(pinstop), "%.*spinstop",
		 slash ? (int)(slash + 1 - argv[0]) : 0, argv[0]);
	if (argc > 1)
		snprintf(pinstop, sizeof(pinstop), "%s", argv[1]);
	pins_run(tests, ARRAY_SIZE(tests));
}
