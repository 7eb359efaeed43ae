// SPDX-License-Identifier: GPL-2.0-only
/*
 * The pins controller: how to pin, not how much. pins.steer says where long-term pins are
 * to lie, see mm/pins/steer.c; pins.revoke whether they give way, see pins-revoke.c;
 * pins.memlock which limit holds, that of the cgroup or that of the process as well;
 * pins.migrate for what reasons memory is moved that is not pinned, see mm/pins/migrate.c.
 *
 * Copyright (C) 2026 the pins authors
 */

#include <linux/jump_label_ratelimit.h>
#include <linux/kernel.h>
#ifdef CONFIG_PINS_MEMLOCK
#include <linux/pins_memlock.h>
#endif
#ifdef CONFIG_PINS_REVOKE
#include <linux/pins_revoke.h>
#endif

#include "pins-internal.h"

/* Return which of two values is written, or -EINVAL. */
static int knob_value(char *buf, const char *off, const char *on)
{
	buf = strstrip(buf);
	return !strcmp(buf, on) ? 1 : !strcmp(buf, off) ? 0 : -EINVAL;
}

#if defined(CONFIG_PINS_STEER) || defined(CONFIG_PINS_REVOKE)

/* Held while a value changes, and the static key with it that says whether any is set */
static DEFINE_MUTEX(policy_lock);

/* A knob of two values, with the key that is on while any is */
static void set_knob(bool *knob, bool on, struct static_key_false_deferred *key)
{
	mutex_lock(&policy_lock);
	if (on && !*knob)
		static_branch_deferred_inc(key);
	if (!on && *knob)
		static_branch_slow_dec_deferred(key);
	WRITE_ONCE(*knob, on);
	mutex_unlock(&policy_lock);
}

static int write_knob(bool *knob, char *buf, const char *off, const char *on,
		      struct static_key_false_deferred *key)
{
	int value = knob_value(buf, off, on);

	if (value < 0)
		return value;
	set_knob(knob, value, key);
	return 0;
}

#endif

#ifdef CONFIG_PINS_STEER

/*
 * On while some cgroup steers pins out of movable pageblocks. To switch it patches kernel
 * text and interrupts all CPUs, so it stays on for a while after its last user is gone.
 */
DEFINE_STATIC_KEY_DEFERRED_FALSE(pins_steer_key, 10 * HZ);

/**
 * pins_cgroup_steers_blocks() - are pins to leave movable pageblocks?
 * @pins: the cgroup that pays for them
 *
 * Yes if it, or an ancestor, says so: it is for others that they are to leave, and
 * who is in charge of them all need not ask each. Not if they are going to be refused
 * anyway.
 *
 * Context: any.
 */
bool pins_cgroup_steers_blocks(struct pins_cgroup *pins)
{
	bool steers = false;

	for (; pins; pins = limited_parent(pins)) {
		steers |= READ_ONCE(pins->steers_blocks);
		if (page_counter_read(&pins->counter) >= READ_ONCE(pins->counter.max))
			return false;
	}
	return steers;
}

int pins_steer_show(struct seq_file *sf, void *v)
{
	struct pins_cgroup *pins = css_pins(seq_css(sf));

	seq_puts(sf, READ_ONCE(pins->steers_blocks) ? "block\n" : "zone\n");
	return 0;
}

ssize_t pins_steer_write(struct kernfs_open_file *of, char *buf, size_t nbytes,
			 loff_t off)
{
	return write_knob(&css_pins(of_css(of))->steers_blocks, buf, "zone", "block",
			  &pins_steer_key) ?: nbytes;
}

#endif /* CONFIG_PINS_STEER */

#ifdef CONFIG_PINS_REVOKE

/* On while some cgroup lets its pins be taken back, and stays on as that does */
DEFINE_STATIC_KEY_DEFERRED_FALSE(pins_revoke_key, 10 * HZ);

/**
 * pins_cgroup_gives_way() - may pins of a cgroup be taken back?
 * @pins: the cgroup
 *
 * Context: any.
 * Return: whether it says so, or an ancestor.
 */
bool pins_cgroup_gives_way(struct pins_cgroup *pins)
{
	for (; pins; pins = limited_parent(pins))
		if (READ_ONCE(pins->revokes_idle))
			return true;
	return false;
}

int pins_revoke_show(struct seq_file *sf, void *v)
{
	struct pins_cgroup *pins = css_pins(seq_css(sf));

	seq_puts(sf, READ_ONCE(pins->revokes_idle) ? "idle\n" : "never\n");
	return 0;
}

ssize_t pins_revoke_write(struct kernfs_open_file *of, char *buf, size_t nbytes,
			  loff_t off)
{
	return write_knob(&css_pins(of_css(of))->revokes_idle, buf, "never", "idle",
			  &pins_revoke_key) ?: nbytes;
}

#endif /* CONFIG_PINS_REVOKE */

#if defined(CONFIG_PINS_MIGRATE) || defined(CONFIG_PINS_MEMLOCK)

/*
 * Some values take something from others. So they take who may do that anyway, to open
 * the file and to write to it: nobody is made to write who only meant to print, or is
 * given such a file.
 */
static bool may_take_from_others(struct kernfs_open_file *of)
{
	return capable(CAP_SYS_RESOURCE) &&
	       file_ns_capable(of->file, &init_user_ns, CAP_SYS_RESOURCE);
}

#endif

#ifdef CONFIG_PINS_MIGRATE

/* On while memory of some cgroup is moved only when it must, and stays on as above */
DEFINE_STATIC_KEY_DEFERRED_FALSE(pins_migrate_key, 10 * HZ);

/**
 * pins_cgroup_stays() - is memory left alone by who merely finds it convenient to move it?
 * @memcg: the memory cgroup that it is charged to
 * @nr_pages: how many pages are left alone then
 *
 * Context: any but NMI, RCU read side.
 * Return: whether its cgroup says so, or an ancestor.
 */
bool pins_cgroup_stays(struct mem_cgroup *memcg, long nr_pages)
{
	struct pins_cgroup *own = pins_cgroup_from_memcg(memcg), *pins;

	for (pins = own; pins; pins = limited_parent(pins)) {
		if (READ_ONCE(pins->migrates_needed)) {
			pins_cgroup_count(own, PINS_HELD_OFF, nr_pages);
			return true;
		}
	}
	return false;
}

int pins_migrate_show(struct seq_file *sf, void *v)
{
	struct pins_cgroup *pins = css_pins(seq_css(sf));

	seq_puts(sf, READ_ONCE(pins->migrates_needed) ? "needed\n" : "any\n");
	return 0;
}

/* "needed" takes huge pages from others. */
ssize_t pins_migrate_write(struct kernfs_open_file *of, char *buf, size_t nbytes,
			   loff_t off)
{
	int needed = knob_value(buf, "any", "needed");

	if (needed < 0)
		return needed;
	if (needed && !may_take_from_others(of))
		return -EPERM;
	set_knob(&css_pins(of_css(of))->migrates_needed, needed, &pins_migrate_key);
	return nbytes;
}

#endif /* CONFIG_PINS_MIGRATE */

#ifdef CONFIG_PINS_MEMLOCK

/**
 * pins_memlock_is_max() - does pins.max apply in place of RLIMIT_MEMLOCK?
 * @mm: to what the current task pins of this address space, as get_pins_cgroup_from_mm()
 *
 * Context: process context; the caller keeps @mm alive.
 * Return: whether the cgroup that pays says so, or an ancestor of it.
 */
bool pins_memlock_is_max(struct mm_struct *mm)
{
	struct pins_cgroup *payer = get_pins_cgroup_from_mm(mm), *pins;
	bool is_max = false;

	if (!payer)
		return false;
	for (pins = payer; pins; pins = limited_parent(pins))
		is_max |= READ_ONCE(pins->memlock_is_max);
	put_pins_cgroup(payer);
	return is_max;
}
EXPORT_SYMBOL_GPL(pins_memlock_is_max);

int pins_memlock_show(struct seq_file *sf, void *v)
{
	struct pins_cgroup *pins = css_pins(seq_css(sf));

	seq_puts(sf, READ_ONCE(pins->memlock_is_max) ? "max\n" : "rlimit\n");
	return 0;
}

/* "max" takes a limit away. */
ssize_t pins_memlock_write(struct kernfs_open_file *of, char *buf, size_t nbytes,
			   loff_t off)
{
	int max = knob_value(buf, "rlimit", "max");

	if (max < 0)
		return max;
	if (max && !may_take_from_others(of))
		return -EPERM;
	WRITE_ONCE(css_pins(of_css(of))->memlock_is_max, max);
	return nbytes;
}

#endif /* CONFIG_PINS_MEMLOCK */

#ifdef CONFIG_CGROUP_PINS_WAIT

/*
 * pins.wait.max says how long a request may wait for memory that is being moved, see
 * mm/pins/wait.c. Values of wait_max:
 */
#define WAIT_MAX	UINT_MAX
#define WAIT_INHERIT	(UINT_MAX - 1)

/**
 * pins_cgroup_wait_max() - how long a request of the current task may wait
 * @inherited: what is inherited at the top, in microseconds
 *
 * Context: process context, RCU read side.
 * Return: microseconds, or %PINS_WAIT_MAX.
 */
u64 pins_cgroup_wait_max(u64 inherited)
{
	struct cgroup_subsys_state *css = task_css(current, pins_cgrp_id);

	for (; css->parent; css = css->parent) {
		unsigned int wait_max = READ_ONCE(css_pins(css)->wait_max);

		if (wait_max == WAIT_MAX)
			return PINS_WAIT_MAX;
		if (wait_max != WAIT_INHERIT)
			return wait_max;
	}
	return inherited;
}

int pins_wait_max_show(struct seq_file *sf, void *v)
{
	unsigned int wait_max = READ_ONCE(css_pins(seq_css(sf))->wait_max);

	if (wait_max == WAIT_MAX)
		seq_puts(sf, "max\n");
	else if (wait_max == WAIT_INHERIT)
		seq_puts(sf, "inherit\n");
	else
		seq_printf(sf, "%u\n", wait_max);
	return 0;
}

ssize_t pins_wait_max_write(struct kernfs_open_file *of, char *buf, size_t nbytes,
			    loff_t off)
{
	unsigned int wait_max;

	buf = strstrip(buf);
	if (!strcmp(buf, "max"))
		wait_max = WAIT_MAX;
	else if (!strcmp(buf, "inherit"))
		wait_max = WAIT_INHERIT;
	else if (kstrtouint(buf, 0, &wait_max) || *buf == '+' ||
		 wait_max >= WAIT_INHERIT)
		return -EINVAL;

	WRITE_ONCE(css_pins(of_css(of))->wait_max, wait_max);
	return nbytes;
}

/* A cgroup is made: nothing is set. */
void pins_policy_init(struct pins_cgroup *pins)
{
	pins->wait_max = WAIT_INHERIT;
}

#endif /* CONFIG_CGROUP_PINS_WAIT */

/* A cgroup is freed. */
void pins_policy_free(struct pins_cgroup *pins)
{
#ifdef CONFIG_PINS_STEER
	set_knob(&pins->steers_blocks, false, &pins_steer_key);
#endif
#ifdef CONFIG_PINS_REVOKE
	set_knob(&pins->revokes_idle, false, &pins_revoke_key);
#endif
#ifdef CONFIG_PINS_MIGRATE
	set_knob(&pins->migrates_needed, false, &pins_migrate_key);
#endif
}
