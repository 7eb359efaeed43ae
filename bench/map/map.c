// SPDX-License-Identifier: GPL-2.0
/*
 * What the pin map takes of the kernel's memory, for pins that lie in different
 * ways: the growth of its slab caches while the pins are held.
 *
 * An object is counted with its share of the slab's pages, so with what the
 * slab allocator itself loses. The caches are shrunk before each look, else
 * the per-CPU slabs would count as full. All other caches are watched as well:
 * one that grows by as much as the pins would explain is told to the host.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"

#define AT	"\"mode\": \"%s\", \"layout\": \"%s\""
#define BYTES	"\"bytes\": %ld, \"slabs\": %ld"

/* name, objects, size, objects and pages of a slab; tunables; slabs */
#define SLABINFO	"%63s %lu %*u %*u %lu %lu : tunables %*u %*u %*u" \
			" : slabdata %*u %lu"

struct cache {
	char name[64];
	uint64_t objects;	/* in use */
	uint64_t per_slab;	/* objects */
	uint64_t pages;		/* per slab */
	uint64_t slabs;
};

struct snapshot {
	struct cache cache[512];
	int nr;
};

static bool is_maps(const char *name)
{
	return !strncmp(name, "pins", 4) || !strcmp(name, "radix_tree_node");
}

/* Shrinks the caches that it knows from the look before. */
static void look(struct snapshot *s)
{
	char line[512], path[128];
	struct cache *c;
	FILE *f;
	int i;

	settle(20);
	for (i = 0; i < s->nr; i++) {
		snprintf(path, sizeof(path), "/sys/kernel/slab/%s/shrink",
			 s->cache[i].name);
		try_write(path, "1");
	}

	f = fopen("/proc/slabinfo", "r");
	if (!f)
		die("no slabinfo: %m");
	s->nr = 0;
	while (fgets(line, sizeof(line), f)) {
		if (s->nr == ARRAY_SIZE(s->cache))
			die("too many slab caches");
		c = &s->cache[s->nr];
		if (sscanf(line, SLABINFO,
			   c->name, &c->objects, &c->per_slab, &c->pages,
			   &c->slabs) == 5)
			s->nr++;
	}
	fclose(f);
}

static const struct cache *find(const struct snapshot *s, const char *name)
{
	static const struct cache none;
	int i;

	for (i = 0; i < s->nr; i++)
		if (!strcmp(s->cache[i].name, name))
			return &s->cache[i];
	return &none;
}

static void compare(const char *mode, const char *layout, size_t pinned,
		    const struct snapshot *was, const struct snapshot *is)
{
	long objects, slabs, bytes, all_bytes = 0, all_slabs = 0;
	const struct cache *c, *old;
	int i;

	for (i = 0; i < is->nr; i++) {
		c = &is->cache[i];
		old = find(was, c->name);
		objects = c->objects - old->objects;
		slabs = (c->slabs - old->slabs) * (long)(c->pages * PAGE);
		bytes = objects * (long)(c->pages * PAGE) / (long)c->per_slab;
		if (is_maps(c->name)) {
			all_bytes += bytes;
			all_slabs += slabs;
		} else if (bytes < (long)(16 * KB)) {
			continue;
		}
		if (objects)
			record(AT ", \"cache\": \"%s\", \"objects\": %ld, " BYTES,
			       mode, layout, c->name, objects, bytes, slabs);
	}
	record(AT ", \"pinned\": %zu, " BYTES,
	       mode, layout, pinned, all_bytes, all_slabs);
}

static void hold(const char *mode, const char *layout, char *p, size_t bytes)
{
	static struct snapshot before, during;
	bool charged = !strcmp(mode, "in use");
	uint64_t current;

	note("map: %s, %s", mode, layout);
	/* Once for what is allocated on first use */
	gup_hold(p, bytes);
	gup_release();
	look(&before);
	look(&before);
	during = before;
	gup_hold(p, bytes);
	look(&during);
	if (charged) {
		current = pins_current();
		if (current != bytes)
			die("pins.current is %llu of %zu",
			    (unsigned long long)current, bytes);
	}
	gup_release();
	compare(mode, layout, bytes, &before, &during);

	look(&during);
	compare(mode, "gone", bytes, &before, &during);
	if (charged && pins_current())
		die("pins.current does not fall to 0");
}

struct layout {
	const char *name;
	char *p;
	size_t bytes;
};

int main(void)
{
	struct layout layout[] = {
		{ .name = "dense" },	  { .name = "apart" },	{ .name = "alone 256k" },
		{ .name = "alone 2M" }, { .name = "huge" },
	};
	size_t i;

	guest_setup();
	note("map: preparing memory");
	layout[4].bytes = GB;
	layout[4].p = map_hugetlb(layout[4].bytes);
	layout[0].bytes = 256 * MB;
	layout[0].p = map_small(layout[0].bytes);
	layout[1].bytes = PAGE * map_apart(&layout[1].p, 3 * GB / 2,
					   128 * MB / PAGE, 0);
	layout[2].bytes = PAGE * map_apart(&layout[2].p, 3 * GB / 2, 100000,
					   256 * KB);
	layout[3].bytes = PAGE * map_apart(&layout[3].p, 3 * GB / 2, 100000,
					   2 * MB);

	for (i = 0; i < ARRAY_SIZE(layout); i++)
		hold("unused", layout[i].name, layout[i].p, layout[i].bytes);
	if (!pins_supported())
		return 0;
	pins_enter(1, 4 * GB);
	for (i = 0; i < ARRAY_SIZE(layout); i++)
		hold("in use", layout[i].name, layout[i].p, layout[i].bytes);
	pins_leave();
	return 0;
}
