/* SPDX-License-Identifier: GPL-2.0 */
/*
 * RLIMIT_MEMLOCK for memory that is pinned: what everybody asks who pins for the long term
 * and counts it against that. With pins.memlock set to "max", pins.max applies instead. It
 * is not for mlock(), perf, BPF, and pages that only the kernel uses: these are in no
 * pins.current; nor for zero-copy sends, which pin for a moment.
 *
 * Copyright (C) 2026 the pins authors
 */
#ifndef _LINUX_PINS_MEMLOCK_H
#define _LINUX_PINS_MEMLOCK_H

#include <linux/capability.h>
#include <linux/mm.h>
#include <linux/mmap_lock.h>
#include <linux/sched/signal.h>

#ifdef CONFIG_PINS_MEMLOCK

bool pins_memlock_is_max(struct mm_struct *mm);

#else

static inline bool pins_memlock_is_max(struct mm_struct *mm)
{
	return false;
}

#endif

/**
 * pins_task_rlimit() - task_rlimit() of RLIMIT_MEMLOCK, for what the current task pins
 * @task: whose limit it is; the caller has a reference
 * @mm: the address space that is pinned, NULL for memory that has none
 *
 * Context: process context.
 * Return: the limit in bytes, or %RLIM_INFINITY if pins.max applies instead.
 */
static inline unsigned long pins_task_rlimit(const struct task_struct *task,
					     struct mm_struct *mm)
{
	return pins_memlock_is_max(mm) ? RLIM_INFINITY : task_rlimit(task, RLIMIT_MEMLOCK);
}

/* The same for a task that pins its own memory: in place of rlimit(RLIMIT_MEMLOCK) */
static inline unsigned long pins_rlimit(void)
{
	return pins_task_rlimit(current, current->mm);
}

/* May the current task pin anything at all? In place of can_do_mlock() */
static inline bool can_do_pin(void)
{
	return pins_rlimit() || capable(CAP_IPC_LOCK);
}

/**
 * account_pinned_vm() - account_locked_vm() for pages that the current task pins
 * @mm: the address space that is pinned and whose locked_vm counts them, may be NULL
 * @pages: how many
 *
 * account_locked_vm() undoes it.
 *
 * Context: process context, takes mmap_lock of @mm to write.
 * Return: 0, or -ENOMEM.
 */
static inline int account_pinned_vm(struct mm_struct *mm, unsigned long pages)
{
	bool unlimited;
	int ret;

	if (!pages || !mm)
		return 0;
	unlimited = pins_memlock_is_max(mm) || capable(CAP_IPC_LOCK);
	mmap_write_lock(mm);
	ret = __account_locked_vm(mm, pages, true, current, unlimited);
	mmap_write_unlock(mm);
	return ret;
}

#endif /* _LINUX_PINS_MEMLOCK_H */
