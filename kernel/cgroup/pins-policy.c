// SPDX-License-Identifier: GPL-2.0-only
/*
 * The pins controller: how to pin, not how much. pins.steer says where long-term pins are
 * to lie, see mm/pins/steer.c; pins.revoke whether they give way, see pins-revoke.c;
 * pins.memlock which limit holds, that of the cgroup or that of the process as well;
 * pins.migrate for what reasons memory is moved that is not pinned, see mm/pins/migrate.c.
 *
 * Copyright (C) 2026 the pins authors
 */

#include <linux/capability.h>
#include <linux/jump_label_ratelimit.h>
#include <linux/kernel.h>
#ifdef CONFIG_PINS_MEMLOCK
#include <linux/pins_memlock.h>
#endif
#ifdef CONFIG_PINS_REVOKE
#include <linux/pins_revoke.h>
#endif

#include "pins-internal.h"

/**
 * struct pins_knob - a file of two values
 * @off: the default
 * @on: the other one
 * @key: on while any cgroup has that; NULL if nobody needs to know
 * @takes: @on takes something from others
 */
struct pins_knob {
	const char *off;
	const char *on;
	struct static_key_false_deferred *key;
	bool takes;
};

/* Held while a value changes, and the static key with it that says whether any is set */
static DEFINE_MUTEX(policy_lock);

static void set_knob(const struct pins_knob *knob, bool *value, bool on)
{
	mutex_lock(&policy_lock);
	if (knob->key && on && !*value)
		static_branch_deferred_inc(knob->key);
	if (knob->key && !on && *value)
		static_branch_slow_dec_deferred(knob->key);
	WRITE_ONCE(*value, on);
	mutex_unlock(&policy_lock);
}

static int show_knob(struct seq_file *sf, const struct pins_knob *knob, const bool *value)
{
	seq_printf(sf, "%s\n", READ_ONCE(*value) ? knob->on : knob->off);
	return 0;
}

/*
 * What takes something from others takes who may do that anyway, to open the file and to
 * write to it: nobody is made to write who only meant to print, or is given such a file.
 */
static ssize_t write_knob(struct kernfs_open_file *of, char *buf, size_t nbytes,
			  const struct pins_knob *knob, bool *value)
{
	bool on;

	buf = strstrip(buf);
	on = !strcmp(buf, knob->on);
	if (!on && strcmp(buf, knob->off))
		return -EINVAL;
	if (on && knob->takes && !(capable(CAP_SYS_RESOURCE) &&
				   file_ns_capable(of->file, &init_user_ns,
						   CAP_SYS_RESOURCE)))
		return -EPERM;
	set_knob(knob, value, on);
	return nbytes;
}

#ifdef CONFIG_PINS_STEER

/*
 * On while some cgroup steers pins out of movable pageblocks. To switch it patches kernel
 * text and interrupts all CPUs, so it stays on for a while after its last user is gone.
 */
DEFINE_STATIC_KEY_DEFERRED_FALSE(pins_steer_key, 10 * HZ);

static const struct pins_knob steer_knob = { "zone", "block", &pins_steer_key };

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
	return show_knob(sf, &steer_knob, &css_pins(seq_css(sf))->steers_blocks);
}

ssize_t pins_steer_write(struct kernfs_open_file *of, char *buf, size_t nbytes,
			 loff_t off)
{
	return write_knob(of, buf, nbytes, &steer_knob, &css_pins(of_css(of))->steers_blocks);
}

#endif /* CONFIG_PINS_STEER */

#ifdef CONFIG_PINS_REVOKE

/* On while some cgroup lets its pins be taken back, and stays on as that does */
DEFINE_STATIC_KEY_DEFERRED_FALSE(pins_revoke_key, 10 * HZ);

static const struct pins_knob revoke_knob = { "never", "idle", &pins_revoke_key };

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
	return show_knob(sf, &revoke_knob, &css_pins(seq_css(sf))->revokes_idle);
}

ssize_t pins_revoke_write(struct kernfs_open_file *of, char *buf, size_t nbytes,
			  loff_t off)
{
	return write_knob(of, buf, nbytes, &revoke_knob, &css_pins(of_css(of))->revokes_idle);
}

#endif /* CONFIG_PINS_REVOKE */

#ifdef CONFIG_PINS_MIGRATE

/* On while memory of some cgroup is moved only when it must, and stays on as above */
DEFINE_STATIC_KEY_DEFERRED_FALSE(pins_migrate_key, 10 * HZ);

/* "needed" takes huge pages. */
static const struct pins_knob migrate_knob = {
	"any", "needed", &pins_migrate_key, .takes = true,
};

/**
 * pins_cgroup_stays() - is memory left alone by who merely finds it convenient to move it?
 * @own: the cgroup that it belongs to, see pins_cgroup_from_memcg(), or NULL
 * @nr_pages: how many pages are left alone then; 0 if it is not about any
 *
 * Context: any but NMI, RCU read side.
 * Return: whether its cgroup says so, or an ancestor.
 */
bool pins_cgroup_stays(struct pins_cgroup *own, long nr_pages)
{
	struct pins_cgroup *pins;

	for (pins = own; pins; pins = limited_parent(pins)) {
		if (READ_ONCE(pins->migrates_needed)) {
			if (nr_pages)
				pins_cgroup_count(own, PINS_HELD_OFF, nr_pages);
			return true;
		}
	}
	return false;
}

bool __pins_current_stays(void)
{
	bool ret;

	rcu_read_lock();
	ret = pins_cgroup_stays(css_pins(task_css(current, pins_cgrp_id)), 0);
	rcu_read_unlock();
	return ret;
}

int pins_migrate_show(struct seq_file *sf, void *v)
{
	return show_knob(sf, &migrate_knob, &css_pins(seq_css(sf))->migrates_needed);
}

ssize_t pins_migrate_write(struct kernfs_open_file *of, char *buf, size_t nbytes,
			   loff_t off)
{
	return write_knob(of, buf, nbytes, &migrate_knob,
			  &css_pins(of_css(of))->migrates_needed);
}

#endif /* CONFIG_PINS_MIGRATE */

#ifdef CONFIG_PINS_MEMLOCK

/* "max" takes a limit away. */
static const struct pins_knob memlock_knob = { "rlimit", "max", .takes = true };

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
	return show_knob(sf, &memlock_knob, &css_pins(seq_css(sf))->memlock_is_max);
}

ssize_t pins_memlock_write(struct kernfs_open_file *of, char *buf, size_t nbytes,
			   loff_t off)
{
	return write_knob(of, buf, nbytes, &memlock_knob,
			  &css_pins(of_css(of))->memlock_is_max);
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
	set_knob(&steer_knob, &pins->steers_blocks, false);
#endif
#ifdef CONFIG_PINS_REVOKE
	set_knob(&revoke_knob, &pins->revokes_idle, false);
#endif
#ifdef CONFIG_PINS_MIGRATE
	set_knob(&migrate_knob, &pins->migrates_needed, false);
#endif
}
