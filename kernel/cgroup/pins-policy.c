// SPDX-License-Identifier: GPL-2.0-only
/*
 * The pins controller: how to pin, not how much. pins.steer says where long-term pins are
 * to lie, see mm/pins/steer.c.
 *
 * Copyright (C) 2026 the pins authors
 */

#include <linux/jump_label_ratelimit.h>
#include <linux/kernel.h>
#include <linux/pins_revoke.h>
#include <linux/pins_wait.h>

#include "pins-internal.h"

/* Held while a value changes, and the static key with it that says whether any is set */
static DEFINE_MUTEX(policy_lock);

/* On while some cgroup steers pins out of movable pageblocks */
DEFINE_STATIC_KEY_DEFERRED_FALSE(pins_steer_key, PINS_KEY_LINGER);

static void set_steers_blocks(struct pins_cgroup *pins, bool steers_blocks)
{
	mutex_lock(&policy_lock);
	if (steers_blocks && !pins->steers_blocks)
		static_branch_deferred_inc(&pins_steer_key);
	if (!steers_blocks && pins->steers_blocks)
		static_branch_slow_dec_deferred(&pins_steer_key);
	WRITE_ONCE(pins->steers_blocks, steers_blocks);
	mutex_unlock(&policy_lock);
}

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
	bool block;

	buf = strstrip(buf);
	block = !strcmp(buf, "block");
	if (!block && strcmp(buf, "zone"))
		return -EINVAL;

	set_steers_blocks(css_pins(of_css(of)), block);
	return nbytes;
}

#ifdef CONFIG_PINS_REVOKE

/* On while some cgroup lets its pins be taken back */
DEFINE_STATIC_KEY_DEFERRED_FALSE(pins_revoke_key, PINS_KEY_LINGER);

static void set_revokes_idle(struct pins_cgroup *pins, bool revokes_idle)
{
	mutex_lock(&policy_lock);
	if (revokes_idle && !pins->revokes_idle)
		static_branch_deferred_inc(&pins_revoke_key);
	if (!revokes_idle && pins->revokes_idle)
		static_branch_slow_dec_deferred(&pins_revoke_key);
	WRITE_ONCE(pins->revokes_idle, revokes_idle);
	mutex_unlock(&policy_lock);
}

/**
 * pins_cgroup_revocable() - may pins be taken back?
 * @pins: the cgroup that is charged for them
 * @ancestor: only if it is this one or below, or NULL
 *
 * Context: any but NMI; the caller keeps both.
 * Return: whether the cgroup, or an ancestor, says so.
 */
bool pins_cgroup_revocable(struct pins_cgroup *pins, struct pins_cgroup *ancestor)
{
	if (ancestor && !cgroup_is_descendant(pins->css.cgroup, ancestor->css.cgroup))
		return false;
	for (; pins; pins = limited_parent(pins))
		if (READ_ONCE(pins->revokes_idle))
			return true;
	return false;
}

/**
 * pins_id_revocable() - may pins be taken back?
 * @id: number of the cgroup, as from pins_current_id()
 *
 * Context: any but NMI.
 */
bool pins_id_revocable(u32 id)
{
	struct pins_cgroup *pins;
	bool ret;

	rcu_read_lock();
	pins = pins_cgroup_from_id(id);
	ret = pins && pins->css.parent && pins_cgroup_revocable(pins, NULL);
	rcu_read_unlock();
	return ret;
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
	bool idle;

	buf = strstrip(buf);
	idle = !strcmp(buf, "idle");
	if (!idle && strcmp(buf, "never"))
		return -EINVAL;

	set_revokes_idle(css_pins(of_css(of)), idle);
	return nbytes;
}

#endif /* CONFIG_PINS_REVOKE */

#ifdef CONFIG_CGROUP_PINS_WAIT

/*
 * pins.wait.max says how long a request may wait for memory that is being moved, see
 * mm/pins/wait.c. Values of wait_max:
 */
#define WAIT_MAX	UINT_MAX
#define WAIT_INHERIT	(UINT_MAX - 1)

static bool lets_wait(unsigned int wait_max)
{
	return wait_max && wait_max != WAIT_INHERIT;
}

static void set_wait_max(struct pins_cgroup *pins, unsigned int wait_max)
{
	mutex_lock(&policy_lock);
	pins_wait_update_key(lets_wait(pins->wait_max), lets_wait(wait_max));
	WRITE_ONCE(pins->wait_max, wait_max);
	mutex_unlock(&policy_lock);
}

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

	set_wait_max(css_pins(of_css(of)), wait_max);
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
#ifdef CONFIG_CGROUP_PINS_WAIT
	set_wait_max(pins, WAIT_INHERIT);
#endif
#ifdef CONFIG_PINS_REVOKE
	set_revokes_idle(pins, false);
#endif
	set_steers_blocks(pins, false);
}
