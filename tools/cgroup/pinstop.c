// SPDX-License-Identifier: GPL-2.0
/*
 * pinstop - who keeps memory from moving
 *
 * A table of the cgroups of the pins controller, in the manner of systemd-cgtop;
 * or their numbers as JSON, or as OpenMetrics for the textfile collector of
 * Prometheus' node exporter. It only reads, what it may not read it leaves out,
 * and cgroups that go away while it looks are gone.
 *
 * Copyright (C) 2026 the pins authors
 */
#define _GNU_SOURCE

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <getopt.h>
#include <langinfo.h>
#include <limits.h>
#include <locale.h>
#include <mntent.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>
#include <wctype.h>

typedef unsigned long long u64;

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

/* What is known of a cgroup */

enum unit { BYTES, COUNT, PAGES, USEC, WORD };

enum {
	CURRENT, MAX, PEAK,
	ANON, FILES, SHMEM, HUGETLB, DEVICE, FOREIGN, MOVABLE, REVOCABLE,
	PINS, UNPINS, STEERED_ZONE, STEERED_BLOCK, STEER_FAILED,
	WAIT, WAIT_USEC, WAIT_TIMEOUT,
	BLOCKED_CONTIG, BLOCKED_OFFLINE, BLOCKED_COMPACT,
	REVOKED, REPINNED, REPIN_USEC,
	FILE_WRITE, FILE_REFUSED, WRITEBACK_PINNED,
	MOVED_COMPACT, MOVED_NUMA, MOVED_CONTIG, MOVED_OFFLINE, MOVED_DEMOTE,
	MOVED_COLLAPSE, MOVED_KSM, MOVED_STEER, MOVED_OTHER, MOVED_USEC, HELD_OFF,
	REFUSED, BLOCKED,
	LOCAL_MAX, LOCAL_REFUSED, LOCAL_BLOCKED, LOCAL_REVOKED,
	STEER, REVOKE, MEMLOCK, MIGRATE,
	NR_VALUES
};

static const struct value {
	const char *file;
	const char *key;	/* in a flat-keyed file; or the word that is asked for */
	const char *json;
	enum unit unit;
	const char *metric;
	const char *label;	/* what tells it from others of the same metric */
	const char *help;
	bool counter;
} values[NR_VALUES] = {
	[CURRENT] = { "pins.current", NULL, "current", BYTES,
		"pins_current_bytes", NULL,
		"Memory that the cgroup keeps from moving.", false },
	[MAX] = { "pins.max", NULL, "max", BYTES,
		"pins_max_bytes", NULL, "The most that the cgroup may keep from moving.", false },
	[PEAK] = { "pins.peak", NULL, "peak", BYTES,
		"pins_peak_bytes", NULL, "The most that pins_current_bytes has been.", false },
	[ANON] = { "pins.stat", "anon", "anon", BYTES,
		"pins_memory_bytes", "type=\"anon\"",
		"Pinned memory by its type.", false },
	[FILES] = { "pins.stat", "file", "file", BYTES,
		"pins_memory_bytes", "type=\"file\"", NULL, false },
	[SHMEM] = { "pins.stat", "shmem", "shmem", BYTES,
		"pins_memory_bytes", "type=\"shmem\"", NULL, false },
	[HUGETLB] = { "pins.stat", "hugetlb", "hugetlb", BYTES,
		"pins_memory_bytes", "type=\"hugetlb\"", NULL, false },
	[DEVICE] = { "pins.stat", "device", "device", BYTES,
		"pins_memory_bytes", "type=\"device\"", NULL, false },
	[FOREIGN] = { "pins.stat", "foreign", "foreign", BYTES,
		"pins_foreign_bytes", NULL,
		"Pinned memory that is charged to another container.", false },
	[MOVABLE] = { "pins.stat", "movable_block", "movable_block", BYTES,
		"pins_movable_block_bytes", NULL,
		"Pinned memory in movable pageblocks.", false },
	[REVOCABLE] = { "pins.stat", "revocable", "revocable", BYTES,
		"pins_revocable_bytes", NULL,
		"Pinned memory that gives way while nothing uses it.", false },
	[PINS] = { "pins.stat", "pins", "pins", PAGES,
		"pins_pinned_pages", NULL, "Pages that were pinned.", true },
	[UNPINS] = { "pins.stat", "unpins", "unpins", PAGES,
		"pins_unpinned_pages", NULL, "Pages that were unpinned.", true },
	[STEERED_ZONE] = { "pins.stat", "steered_zone", "steered_zone", PAGES,
		"pins_steered_pages", "out_of=\"zone\"",
		"Pages that were moved to be pinned.", true },
	[STEERED_BLOCK] = { "pins.stat", "steered_block", "steered_block", PAGES,
		"pins_steered_pages", "out_of=\"block\"", NULL, true },
	[STEER_FAILED] = { "pins.stat", "steer_failed", "steer_failed", PAGES,
		"pins_steer_failed_pages", NULL,
		"Pages that could not be moved to be pinned.", true },
	[WAIT] = { "pins.stat", "wait", "wait", COUNT,
		"pins_waits", NULL,
		"Requests that waited for memory to be moved.", true },
	[WAIT_USEC] = { "pins.stat", "wait_usec", "wait_usec", USEC,
		"pins_wait_seconds", NULL,
		"How long requests waited for memory to be moved.", true },
	[WAIT_TIMEOUT] = { "pins.stat", "wait_timeout", "wait_timeout", COUNT,
		"pins_wait_timeouts", NULL,
		"Waits for memory to be moved that were given up.", true },
	[BLOCKED_CONTIG] = { "pins.stat", "blocked_contig", "blocked_contig", COUNT,
		"pins_blocked", "what=\"contig\"",
		"How often pins kept memory from being emptied.", true },
	[BLOCKED_OFFLINE] = { "pins.stat", "blocked_offline", "blocked_offline", COUNT,
		"pins_blocked", "what=\"offline\"", NULL, true },
	[BLOCKED_COMPACT] = { "pins.stat", "blocked_compact", "blocked_compact", COUNT,
		"pins_blocked", "what=\"compact\"", NULL, true },
	[REVOKED] = { "pins.stat", "revoked", "revoked", PAGES,
		"pins_revoked_pages", NULL,
		"Pages whose pins were taken back.", true },
	[REPINNED] = { "pins.stat", "repinned", "repinned", PAGES,
		"pins_repinned_pages", NULL,
		"Pages that were pinned again after their pins were taken back.", true },
	[REPIN_USEC] = { "pins.stat", "repin_usec", "repin_usec", USEC,
		"pins_repin_seconds", NULL, "How long it took to pin them again.", true },
	[FILE_WRITE] = { "pins.stat", "file_write", "file_write", BYTES,
		"pins_file_write_bytes", NULL,
		"Page cache that is pinned to be written.", false },
	[FILE_REFUSED] = { "pins.stat", "file_refused", "file_refused", COUNT,
		"pins_file_refused", NULL,
		"Requests that were refused because they were to write to a file.", true },
	[WRITEBACK_PINNED] = { "pins.stat", "writeback_pinned", "writeback_pinned", PAGES,
		"pins_writeback_pages", NULL,
		"Pages of its page cache that were written out while pinned.", true },
	[MOVED_COMPACT] = { "pins.stat", "moved_compact", "moved_compact", PAGES,
		"pins_moved_pages", "why=\"compact\"",
		"Pages of its memory, pinned or not, that were moved.", true },
	[MOVED_NUMA] = { "pins.stat", "moved_numa", "moved_numa", PAGES,
		"pins_moved_pages", "why=\"numa\"", NULL, true },
	[MOVED_CONTIG] = { "pins.stat", "moved_contig", "moved_contig", PAGES,
		"pins_moved_pages", "why=\"contig\"", NULL, true },
	[MOVED_OFFLINE] = { "pins.stat", "moved_offline", "moved_offline", PAGES,
		"pins_moved_pages", "why=\"offline\"", NULL, true },
	[MOVED_DEMOTE] = { "pins.stat", "moved_demote", "moved_demote", PAGES,
		"pins_moved_pages", "why=\"demote\"", NULL, true },
	[MOVED_COLLAPSE] = { "pins.stat", "moved_collapse", "moved_collapse", PAGES,
		"pins_moved_pages", "why=\"collapse\"", NULL, true },
	[MOVED_KSM] = { "pins.stat", "moved_ksm", "moved_ksm", PAGES,
		"pins_moved_pages", "why=\"ksm\"", NULL, true },
	[MOVED_STEER] = { "pins.stat", "moved_steer", "moved_steer", PAGES,
		"pins_moved_pages", "why=\"steer\"", NULL, true },
	[MOVED_OTHER] = { "pins.stat", "moved_other", "moved_other", PAGES,
		"pins_moved_pages", "why=\"other\"", NULL, true },
	[MOVED_USEC] = { "pins.stat", "moved_usec", "moved_usec", USEC,
		"pins_moved_seconds", NULL, "How long it took to move them.", true },
	[HELD_OFF] = { "pins.stat", "held_off", "held_off", PAGES,
		"pins_held_off_pages", NULL,
		"Pages that were left alone because they need not be moved.", true },
	[REFUSED] = { "pins.events", "refused", "refused", COUNT,
		"pins_refused", NULL,
		"Requests of its tasks that a limit refused.", true },
	/* The sum of two above */
	[BLOCKED] = { "pins.events", "blocked", "blocked", COUNT,
		NULL, NULL, NULL, true },
	/* Without what is below, so that an alert names just the cgroup that it is about */
	[LOCAL_MAX] = { "pins.events.local", "max", "local_max", COUNT,
		"pins_events_local", "event=\"max\"",
		"Events of the cgroup itself, without those below.", true },
	[LOCAL_REFUSED] = { "pins.events.local", "refused", "local_refused", COUNT,
		"pins_events_local", "event=\"refused\"", NULL, true },
	[LOCAL_BLOCKED] = { "pins.events.local", "blocked", "local_blocked", COUNT,
		"pins_events_local", "event=\"blocked\"", NULL, true },
	[LOCAL_REVOKED] = { "pins.events.local", "revoked", "local_revoked", COUNT,
		"pins_events_local", "event=\"revoked\"", NULL, true },
	[STEER] = { "pins.steer", "block", "steer_block", WORD,
		"pins_setting", "file=\"pins.steer\",value=\"block\"",
		"1 if the file has that value; ancestors may have it all the same.", false },
	[REVOKE] = { "pins.revoke", "idle", "revoke_idle", WORD,
		"pins_setting", "file=\"pins.revoke\",value=\"idle\"", NULL, false },
	[MEMLOCK] = { "pins.memlock", "max", "memlock_max", WORD,
		"pins_setting", "file=\"pins.memlock\",value=\"max\"", NULL, false },
	[MIGRATE] = { "pins.migrate", "needed", "migrate_needed", WORD,
		"pins_setting", "file=\"pins.migrate\",value=\"needed\"", NULL, false },
};

#define NONE	(~0ULL)	/* pins.max is "max" */

struct cgroup {
	char *path;		/* below the one that was asked for */
	u64 value[NR_VALUES];
	u64 known;		/* bits: which of them there are */
};

static struct cgroup *cgroups;
static size_t nr_cgroups, room;
static bool found;			/* any that has the files */
static unsigned int unreadable;
static u64 ram;

/* What is shown */

#define SHARE		-1	/* of RAM, in percent */

static const struct column {
	const char *name, *head;
	int value;
	char key;
	int width;
} columns[] = {
	{ "current", "Current", CURRENT, 'c', 8 },
	{ "max", "Max", MAX, 'x', 8 },
	{ "peak", "Peak", PEAK, 'k', 8 },
	{ "share", "%RAM", SHARE, 'r', 6 },
	{ "foreign", "Foreign", FOREIGN, 'f', 8 },
	{ "movable", "Movable", MOVABLE, 'm', 8 },
	{ "refused", "Refused", REFUSED, 'e', 8 },
	{ "blocked", "Blocked", BLOCKED, 'l', 8 },
	{ "waits", "Waits", WAIT, 'w', 8 },
};

#define BY_PATH		-1

static int order;			/* a column, or BY_PATH */
static bool all, batch, raw;
static bool json, metrics, events;
static const char *metrics_file, *filter;
static long depth = -1;			/* -1: as it suits what is printed */
static long iterations = -1;		/* 0: until told to stop */
static double delay = 1;

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *fmt, ...)
{
	va_list args;

	fputs("pinstop: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static void *must(void *p)
{
	if (!p)
		die("out of memory");
	return p;
}

/* Reading */

/* Return 0 or an errno. */
static int read_at(int dir, const char *name, char *text, size_t size)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	ssize_t len;

	if (fd < 0)
		return errno;
	len = read(fd, text, size - 1);
	if (len < 0) {
		int err = errno;

		close(fd);
		return err;
	}
	close(fd);
	text[len] = '\0';
	return 0;
}

static bool parse(const char *text, const char *key, u64 *value)
{
	size_t len = key ? strlen(key) : 0;
	char *end;

	while (key && (strncmp(text, key, len) || text[len] != ' ')) {
		text = strchr(text, '\n');
		if (!text)
			return false;
		text++;
	}
	text += key ? len + 1 : 0;
	if (!strncmp(text, "max", 3)) {
		*value = NONE;
		return true;
	}
	errno = 0;
	*value = strtoull(text, &end, 10);
	return end != text && !errno;
}

/* Is that the value? */
static bool parse_word(const char *text, const char *word, u64 *value)
{
	size_t len = strlen(word);

	*value = !strncmp(text, word, len) && text[len] == '\n';
	return *text;
}

static bool matches(const char *path)
{
	if (!filter)
		return true;
	if (strpbrk(filter, "*?["))
		return !fnmatch(filter, path, 0);
	return strstr(path, filter);
}

/* Worth a line, if not all are asked for? */
static bool of_interest(const struct cgroup *cg)
{
	static const int which[] = { CURRENT, PEAK, REFUSED, BLOCKED, WAIT };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(which); i++)
		if ((cg->known & 1ULL << which[i]) && cg->value[which[i]])
			return true;
	return (cg->known & 1ULL << MAX) && cg->value[MAX] != NONE;
}

static void add_cgroup(struct cgroup *cg, const char *path)
{
	if (nr_cgroups == room) {
		room = room ? 2 * room : 64;
		cgroups = must(realloc(cgroups, room * sizeof(*cgroups)));
	}
	cg->path = must(strdup(path));
	cgroups[nr_cgroups++] = *cg;
}

static void read_cgroup(int dir, const char *path)
{
	char text[4096] = "";
	const char *file = NULL;
	struct cgroup cg = {};
	int i, err;

	if (!matches(path))
		return;
	for (i = 0; i < NR_VALUES; i++) {
		if (!file || strcmp(values[i].file, file)) {
			file = values[i].file;
			err = read_at(dir, file, text, sizeof(text));
			if (err)
				text[0] = '\0';
			/* Not one of the controller's, or secret */
			if (err && i == CURRENT) {
				unreadable += err != ENOENT && err != ENODEV;
				return;
			}
			/* Gone */
			if (err == ENODEV || (err == ENOENT && i == MAX))
				return;
		}
		if ((values[i].unit == WORD ? parse_word : parse)(text, values[i].key,
								  &cg.value[i]))
			cg.known |= 1ULL << i;
		found = true;
	}
	if (!(cg.known & 1ULL << CURRENT) || (!all && !of_interest(&cg)))
		return;

	add_cgroup(&cg, path);
}

/* What has happened to a cgroup itself, by the lines of pins.events.local */
static const char *const event[] = { "max", "refused", "blocked", "revoked" };

static void read_events(int dir, const char *path)
{
	struct cgroup cg = {};
	char text[4096];
	size_t i;
	int err;

	if (!matches(path))
		return;
	err = read_at(dir, "pins.events.local", text, sizeof(text));
	if (err) {
		unreadable += err != ENOENT && err != ENODEV;
		return;
	}
	found = true;
	/* Those that a kernel does not know stay 0. */
	for (i = 0; i < ARRAY_SIZE(event); i++)
		parse(text, event[i], &cg.value[i]);
	add_cgroup(&cg, path);
}

static void walk(int dir, const char *path, long levels)
{
	struct dirent *entry;
	DIR *d;

	if (events)
		read_events(dir, path);
	else
		read_cgroup(dir, path);
	d = levels ? fdopendir(dir) : NULL;
	if (!d) {
		unreadable += !!levels;
		close(dir);
		return;
	}
	while ((entry = readdir(d))) {
		struct stat st;
		char *below;
		int fd;

		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") ||
		    (entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN))
			continue;
		if (entry->d_type == DT_UNKNOWN &&
		    (fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) ||
		     !S_ISDIR(st.st_mode)))
			continue;
		fd = openat(dirfd(d), entry->d_name,
			    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0) {
			unreadable += errno != ENOENT && errno != ENODEV;
			continue;
		}
		if (asprintf(&below, "%s/%s", path[1] ? path : "", entry->d_name) < 0)
			die("out of memory");
		walk(fd, below, levels - 1);
		free(below);
	}
	closedir(d);
}

/* Sorting */

static double number(const struct cgroup *cg, int column)
{
	int value = columns[column].value;

	if (value == SHARE)
		value = CURRENT;
	return cg->known & 1ULL << value ? (double)cg->value[value] : -1;
}

static int compare(const void *a, const void *b)
{
	const struct cgroup *x = a, *y = b;

	if (order != BY_PATH && number(x, order) != number(y, order))
		return number(x, order) < number(y, order) ? 1 : -1;
	return strcmp(x->path, y->path);
}

static void sample(const char *top)
{
	int dir = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0)
		die("%s: %s", top, strerror(errno));
	while (nr_cgroups)
		free(cgroups[--nr_cgroups].path);
	unreadable = 0;
	walk(dir, "/", depth);
	if (nr_cgroups)
		qsort(cgroups, nr_cgroups, sizeof(*cgroups), compare);
}

/* The length of the UTF-8 character that begins here, or 0 if there is none */
static int utf8(const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	int len = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 :
		  s[0] >= 0xe0 && s[0] < 0xf0 ? 3 : s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : 0;
	int i;

	for (i = 1; i < len; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	/* Too long a form, or half of a pair */
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return len;
}

/* The same, if it is one that may reach the terminal: tenants choose names. */
static int printable(const char *text)
{
	int len = utf8(text);
	wchar_t wc;

	if (len <= 1)
		return len == 1 && isprint((unsigned char)*text);
	/* In a locale of single bytes they mean something else. */
	if (strcmp(nl_langinfo(CODESET), "UTF-8") || mbtowc(&wc, text, len) != len)
		return 0;
	/* Nor what changes the direction of what follows */
	if (!iswprint(wc) || (wc >= 0x2028 && wc <= 0x202e) || (wc >= 0x2066 && wc <= 0x2069))
		return 0;
	return len;
}

/* A table, for people */

static const char *show(const struct cgroup *cg, const struct column *column)
{
	static const char units[] = "BKMGTPE";
	static char text[32];
	int value = column->value == SHARE ? CURRENT : column->value;
	u64 v = cg->value[value];
	double d = v;
	int unit = 0;

	if (!(cg->known & 1ULL << value))
		return "-";
	if (column->value == SHARE) {
		snprintf(text, sizeof(text), "%.1f", ram ? 100.0 * v / ram : 0);
		return text;
	}
	if (v == NONE)
		return "max";
	if (values[value].unit != BYTES || raw) {
		snprintf(text, sizeof(text), "%llu", v);
		return text;
	}
	for (; d >= 1024 && units[unit + 1]; d /= 1024)
		unit++;
	snprintf(text, sizeof(text), unit ? "%.1f%c" : "%.0f%c", d, units[unit]);
	return text;
}

/* Returns how many characters it has printed, at most @width. */
static int print_printable(const char *path, int width)
{
	int used = 0, len;

	for (; *path && used < width; path += len, used++) {
		len = printable(path);
		if (len) {
			fwrite(path, len, 1, stdout);
		} else {
			putchar('?');
			len = utf8(path) ?: 1;
		}
	}
	return used;
}

static void print_path(const char *path, int width)
{
	printf("%*s", width - print_printable(path, width), "");
}

static void screen_size(int *lines, int *cols)
{
	struct winsize ws;

	*lines = 24;
	*cols = 80;
	if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) && ws.ws_row && ws.ws_col) {
		*lines = ws.ws_row;
		*cols = ws.ws_col;
	}
}

static int width_of(int i)
{
	bool bytes = columns[i].value != SHARE && values[columns[i].value].unit == BYTES;

	return raw && bytes ? 14 : columns[i].width;
}

#define LEAST_PATH	16

/*
 * Leave out what a terminal has no room for: from the right, but what it is sorted by.
 * Return the columns that stay; *@width is what they leave for the path.
 */
static unsigned int fitting(int cols, int *width)
{
	unsigned int fit = 0;
	int numbers = 1, c;

	for (c = 0; c < (int)ARRAY_SIZE(columns); c++) {
		numbers += 1 + width_of(c);
		fit |= 1U << c;
	}
	while (c-- && cols - numbers < LEAST_PATH) {
		if (c == order)
			continue;
		numbers -= 1 + width_of(c);
		fit &= ~(1U << c);
	}
	*width = cols > numbers ? cols - numbers : 1;
	return fit;
}

static void print_table(bool live)
{
	unsigned int fit = ~0U;
	size_t i, shown = nr_cgroups, c;
	int lines, cols, width = 24;

	screen_size(&lines, &cols);
	if (live) {
		fit = fitting(cols, &width);
		if (shown + 2 > (size_t)lines)
			shown = lines > 2 ? lines - 2 : 0;
		fputs("\033[H\033[J", stdout);
	} else {
		for (i = 0; i < nr_cgroups; i++)
			if ((int)strlen(cgroups[i].path) > width)
				width = strlen(cgroups[i].path);
	}

	if (live)
		fputs(order == BY_PATH ? "\033[1;4m" : "\033[4m", stdout);
	printf("%-*.*s", width, width, "CGroup");
	if (live)
		fputs("\033[0m", stdout);
	for (c = 0; c < ARRAY_SIZE(columns); c++) {
		if (!(fit & 1U << c))
			continue;
		putchar(' ');
		if (live)
			fputs((int)c == order ? "\033[1;4m" : "\033[4m", stdout);
		printf("%*s", width_of(c), columns[c].head);
		if (live)
			fputs("\033[0m", stdout);
	}
	putchar('\n');
	for (i = 0; i < shown; i++) {
		print_path(cgroups[i].path, width);
		for (c = 0; c < ARRAY_SIZE(columns); c++)
			if (fit & 1U << c)
				printf(" %*s", width_of(c), show(&cgroups[i], &columns[c]));
		putchar('\n');
	}
	if (unreadable && !live)
		fprintf(stderr, "pinstop: %u cgroups may not be read\n", unreadable);
	fflush(stdout);
}

/* For programs. What is not known is left out. */

#define REPLACEMENT	"\357\277\275"	/* U+FFFD */

/* No two paths look alike, or they would be one to whoever reads this. */
static void print_quoted(FILE *f, const char *path)
{
	int len;

	fputc('"', f);
	for (; *path; path += len) {
		len = utf8(path);
		if (!len || !strncmp(path, REPLACEMENT, 3)) {
			fprintf(f, REPLACEMENT "%02x", (unsigned char)*path);
			len = 1;
		} else if (*path == '"' || *path == '\\') {
			fprintf(f, "\\%c", *path);
		} else if (*path == '\n') {
			fputs("\\n", f);
		} else if (json && (unsigned char)*path < 0x20) {
			fprintf(f, "\\u%04x", *path);
		} else {
			fwrite(path, len, 1, f);
		}
	}
	fputc('"', f);
}

static void print_json(FILE *f)
{
	struct timespec now;
	size_t i;
	int v;

	clock_gettime(CLOCK_REALTIME, &now);
	fprintf(f, "{\"time\": %lld.%03ld, ", (long long)now.tv_sec, now.tv_nsec / 1000000);
	fprintf(f, "\"ram\": %llu, \"unreadable\": %u, \"cgroups\": [", ram, unreadable);
	for (i = 0; i < nr_cgroups; i++) {
		fputs(i ? ",\n {\"path\": " : "\n {\"path\": ", f);
		print_quoted(f, cgroups[i].path);
		for (v = 0; v < NR_VALUES; v++) {
			if (!(cgroups[i].known & 1ULL << v))
				continue;
			if (cgroups[i].value[v] == NONE)
				fprintf(f, ", \"%s\": null", values[v].json);
			else
				fprintf(f, ", \"%s\": %llu", values[v].json,
					cgroups[i].value[v]);
		}
		fputc('}', f);
	}
	fputs("\n]}\n", f);
}

static void print_metric(FILE *f, const struct cgroup *cg, int v)
{
	if (!(cg->known & 1ULL << v))
		return;
	fprintf(f, "%s%s{cgroup=", values[v].metric, values[v].counter ? "_total" : "");
	print_quoted(f, cg->path);
	if (values[v].label)
		fprintf(f, ",%s", values[v].label);
	if (cg->value[v] == NONE)
		fputs("} +Inf\n", f);
	else if (values[v].unit == USEC)
		fprintf(f, "} %llu.%06llu\n", cg->value[v] / 1000000,
			cg->value[v] % 1000000);
	else
		fprintf(f, "} %llu\n", cg->value[v]);
}

/*
 * What Prometheus reads from files is an older format, in which counters are called
 * the same wherever they are named.
 */
static void print_metrics(FILE *f, bool old)
{
	int v, last;
	size_t i;

	for (v = 0; v < NR_VALUES; v = last) {
		const char *metric = values[v].metric;
		const char *total = old && values[v].counter ? "_total" : "";
		int each;

		last = v + 1;
		if (!metric)
			continue;
		while (last < NR_VALUES && values[last].metric &&
		       !strcmp(values[last].metric, metric))
			last++;
		fprintf(f, "# HELP %s%s %s\n", metric, total, values[v].help);
		fprintf(f, "# TYPE %s%s %s\n", metric, total,
			values[v].counter ? "counter" : "gauge");
		for (i = 0; i < nr_cgroups; i++)
			for (each = v; each < last; each++)
				print_metric(f, &cgroups[i], each);
	}
	if (!old)
		fputs("# EOF\n", f);
}

/* Whoever reads the file finds all of it, old or new. */
static void write_metrics(void)
{
	char *name;
	int fd, err = 0;
	FILE *f;

	if (!metrics_file) {
		print_metrics(stdout, false);
		return;
	}
	if (asprintf(&name, "%s.XXXXXX", metrics_file) < 0)
		die("out of memory");
	fd = mkostemp(name, O_CLOEXEC);
	if (fd < 0)
		die("%s: %s", name, strerror(errno));
	f = must(fdopen(fd, "w"));
	print_metrics(f, true);
	if (fchmod(fd, 0644) || fflush(f))
		err = errno;
	if (fclose(f) && !err)
		err = errno;
	if (!err && rename(name, metrics_file))
		err = errno;
	if (err) {
		unlink(name);
		die("%s: %s", metrics_file, strerror(err));
	}
	free(name);
}

/* The terminal */

static struct termios was, is;

/*
 * A line for each cgroup to which something has happened since the last sample; for one
 * that is new, since it was made.
 */
static void print_events(bool first)
{
	static struct cgroup *before;
	static size_t nr_before;
	const struct cgroup none = {};
	char at[32];
	time_t t = time(NULL);
	size_t i, j = 0, e;

	strftime(at, sizeof(at), "%F %T", localtime(&t));
	for (i = 0; i < nr_cgroups && !first; i++) {
		const struct cgroup *cg = &cgroups[i], *was = &none;
		const char *between = ": ";

		while (j < nr_before && strcmp(before[j].path, cg->path) < 0)
			j++;
		if (j < nr_before && !strcmp(before[j].path, cg->path))
			was = &before[j];
		for (e = 0; e < ARRAY_SIZE(event); e++) {
			/* Less than before: another one of the same name */
			u64 n = cg->value[e] - (cg->value[e] < was->value[e] ? 0 :
						was->value[e]);

			if (!n)
				continue;
			if (*between == ':') {
				printf("%s ", at);
				print_printable(cg->path, INT_MAX);
			}
			printf("%s%s %llu", between, event[e], n);
			between = ", ";
		}
		if (*between != ':')
			putchar('\n');
	}

	while (nr_before)
		free(before[--nr_before].path);
	free(before);
	before = cgroups;
	nr_before = nr_cgroups;
	cgroups = NULL;
	nr_cgroups = 0;
	room = 0;
}

static void terminal_restore(void)
{
	tcsetattr(STDIN_FILENO, TCSADRAIN, &was);
	fputs("\033[?25h", stdout);
	fflush(stdout);
}

static void stopped(int sig)
{
	/* Both are safe here, unlike stdio. */
	tcsetattr(STDIN_FILENO, TCSADRAIN, &was);
	if (write(STDOUT_FILENO, "\033[?25h\n", 7) < 0)
		_exit(1);
	signal(sig, SIG_DFL);
	raise(sig);
}

static void resized(int sig)
{
	(void)sig;	/* ends the wait for a key */
}

/* Ctrl-Z: the shell gets the terminal as it was, and back it is as we had it. */
static void suspended(int sig)
{
	int err = errno;

	tcsetattr(STDIN_FILENO, TCSADRAIN, &was);
	if (write(STDOUT_FILENO, "\033[?25h\n", 7) < 0)
		_exit(1);
	raise(SIGSTOP);
	tcsetattr(STDIN_FILENO, TCSADRAIN, &is);
	if (write(STDOUT_FILENO, "\033[?25l", 6) < 0)
		_exit(1);
	errno = err;
	(void)sig;
}

static void terminal_setup(void)
{
	struct sigaction sa = { .sa_handler = stopped };
	/* A write to the terminal goes on, the wait for a key does not. */
	struct sigaction winch = { .sa_handler = resized, .sa_flags = SA_RESTART };
	struct sigaction stop = { .sa_handler = suspended, .sa_flags = SA_RESTART };

	if (tcgetattr(STDIN_FILENO, &was))
		die("standard input: %s", strerror(errno));
	is = was;
	is.c_lflag &= ~(ICANON | ECHO);
	is.c_cc[VMIN] = 1;
	is.c_cc[VTIME] = 0;
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGQUIT, &sa, NULL);
	sigaction(SIGTSTP, &stop, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	sigaction(SIGWINCH, &winch, NULL);
	tcsetattr(STDIN_FILENO, TCSADRAIN, &is);
	atexit(terminal_restore);
	fputs("\033[?25l", stdout);
}

/* Not by stdio, which would take more than one at a time */
static int read_key(void)
{
	unsigned char key;

	return read(STDIN_FILENO, &key, 1) == 1 ? key : EOF;
}

static void help_screen(void)
{
	size_t c;

	fputs("\033[H\033[JSort by\n  p  path\n", stdout);
	for (c = 0; c < ARRAY_SIZE(columns); c++)
		printf("  %c  %s\n", columns[c].key, columns[c].name);
	fputs("\n  a  all cgroups, or only those of interest\n"
	      "  b  bytes, or K, M, G\n"
	      "  +  longer delay\n  -  shorter delay\n"
	      "  SPACE  refresh\n  q  quit\n\nPress any key.", stdout);
	fflush(stdout);
	read_key();
}

/* Return false to quit. */
static bool handle(int key)
{
	size_t c;

	switch (key) {
	case 'q':
	case EOF:
		return false;
	case 'p':
		order = BY_PATH;
		break;
	case 'a':
		all = !all;
		break;
	case 'b':
		raw = !raw;
		break;
	case '+':
		delay += delay < 1 ? 0.25 : 1;
		break;
	case '-':
		delay = delay <= 0.25 ? 0.25 : delay - (delay <= 1 ? 0.25 : 1);
		break;
	case '?':
	case 'h':
		help_screen();
		break;
	default:
		for (c = 0; c < ARRAY_SIZE(columns); c++)
			if (columns[c].key == key)
				order = c;
	}
	return true;
}

/* Until the next sample. Return false to quit. */
static bool rest(bool live)
{
	struct pollfd keys = { .fd = STDIN_FILENO, .events = POLLIN };
	struct timespec pause = { .tv_sec = delay,
				  .tv_nsec = (delay - (time_t)delay) * 1e9 };

	if (live)
		return ppoll(&keys, 1, &pause, NULL) <= 0 || handle(read_key());
	nanosleep(&pause, NULL);
	return true;
}

/* Where to look */

static char *mount_point(void)
{
	FILE *f = setmntent("/proc/self/mounts", "re");
	struct mntent *entry;
	char *found = NULL;

	while (f && !found && (entry = getmntent(f)))
		if (!strcmp(entry->mnt_type, "cgroup2"))
			found = must(strdup(entry->mnt_dir));
	if (f)
		endmntent(f);
	return found;
}

/* A path below the root cgroup, or any directory */
static char *find_top(const char *arg)
{
	char text[4096], *root = mount_point(), *top = NULL;
	int dir;

	if (arg && root && asprintf(&top, "%s/%s", root, arg) < 0)
		die("out of memory");
	if (arg && (!top || access(top, F_OK)))
		return must(strdup(arg));
	if (!root)
		die("no cgroup2 file system is mounted");
	dir = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || read_at(dir, "cgroup.controllers", text, sizeof(text)))
		die("%s: %s", root, strerror(errno));
	close(dir);
	if (!strstr(text, "pins"))
		die("this kernel has no pins controller");
	return top ?: root;
}

static void usage(FILE *f)
{
	fputs("Usage: pinstop [OPTION...] [CGROUP]\n"
	      "Show who keeps memory from moving, by cgroup.\n\n"
	      "  -s, --sort=COLUMN      path, current, max, peak, share, foreign, movable,\n"
	      "                         refused, blocked or waits\n"
	      "  -f, --filter=PATTERN   only paths that match, or contain it\n"
	      "  -a, --all              also cgroups that have not pinned anything\n"
	      "      --depth=N          so many levels; a table has 3, others all\n"
	      "  -r, --raw              bytes in place of K, M, G\n"
	      "  -d, --delay=SECONDS    between two samples\n"
	      "  -n, --iterations=N     so many samples; 0: until stopped\n"
	      "  -1                     one\n"
	      "  -b, --batch            do not clear the screen, take no keys\n"
	      "  -j, --json             one JSON object for each sample\n"
	      "  -o[FILE], --openmetrics[=FILE]  for Prometheus; FILE is replaced as a whole\n"
	      "  -w, --watch-events     a line for each cgroup that is refused pins, gives some up,\n"
	      "                         or is in the way\n"
	      "  -h, --help             this\n", f);
}

static double parse_number(const char *text, const char *what, double least)
{
	char *end;
	double n;

	errno = 0;
	n = strtod(text, &end);
	if (end == text || *end || errno || !(n >= least) || n > 1e6)
		die("%s: bad %s", text, what);
	return n;
}

static long parse_count(const char *text, const char *what)
{
	double n = parse_number(text, what, 0);

	if (n != (long)n)
		die("%s: bad %s", text, what);
	return n;
}

static int parse_order(const char *text)
{
	size_t c;

	if (!strcmp(text, "path"))
		return BY_PATH;
	for (c = 0; c < ARRAY_SIZE(columns); c++)
		if (!strcmp(text, columns[c].name))
			return c;
	die("%s: no such column", text);
}

int main(int argc, char **argv)
{
	enum { DEPTH = 256 };
	static const struct option options[] = {
		{ "sort", required_argument, NULL, 's' },
		{ "filter", required_argument, NULL, 'f' },
		{ "all", no_argument, NULL, 'a' },
		{ "depth", required_argument, NULL, DEPTH },
		{ "raw", no_argument, NULL, 'r' },
		{ "delay", required_argument, NULL, 'd' },
		{ "iterations", required_argument, NULL, 'n' },
		{ "batch", no_argument, NULL, 'b' },
		{ "json", no_argument, NULL, 'j' },
		{ "openmetrics", optional_argument, NULL, 'o' },
		{ "watch-events", no_argument, NULL, 'w' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	struct sysinfo info;
	bool live;
	char *top;
	long i;
	int c;

	setlocale(LC_CTYPE, "");
	while ((c = getopt_long(argc, argv, "s:f:ard:n:1bjo::wh", options, NULL)) >= 0) {
		switch (c) {
		case 's':
			order = parse_order(optarg);
			break;
		case 'f':
			filter = optarg;
			break;
		case 'a':
			all = true;
			break;
		case DEPTH:
			depth = parse_count(optarg, "depth");
			break;
		case 'r':
			raw = true;
			break;
		case 'd':
			delay = parse_number(optarg, "delay", 0.01);
			break;
		case 'n':
			iterations = parse_count(optarg, "number");
			break;
		case '1':
			iterations = 1;
			break;
		case 'b':
			batch = true;
			break;
		case 'j':
			json = true;
			break;
		case 'o':
			metrics = true;
			metrics_file = optarg;
			break;
		case 'w':
			events = true;
			break;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	}
	if (argc - optind > 1 || json + metrics + events > 1) {
		usage(stderr);
		return 2;
	}
	/* As they are compared with those before */
	if (events)
		order = BY_PATH;
	top = find_top(argv[optind]);
	if (!sysinfo(&info))
		ram = (u64)info.totalram * info.mem_unit;

	live = !batch && !json && !metrics && !events && isatty(STDIN_FILENO) &&
	       isatty(STDOUT_FILENO);
	/* As systemd-cgtop: to the end of time on a terminal, else once */
	if (iterations < 0)
		iterations = live || events || (batch && isatty(STDOUT_FILENO)) ? 0 : 1;
	if (depth < 0)
		depth = json || metrics || events ? LONG_MAX : 3;
	if (live)
		terminal_setup();

	for (i = 0; !iterations || i < iterations; i++) {
		if (i && !rest(live))
			break;
		sample(top);
		if (events) {
			print_events(!i);
		} else if (json) {
			print_json(stdout);
		} else if (metrics) {
			write_metrics();
		} else {
			if (i && !live)
				putchar('\n');
			print_table(live);
		}
		fflush(stdout);
		if (ferror(stdout))
			return 1;
	}
	/* FILE says so, and its timer runs on hosts of all kinds. */
	if (!live && !filter && !found && !unreadable && !metrics_file)
		die("%s: no cgroup has the pins controller here", top);
	free(top);
	return 0;
}
