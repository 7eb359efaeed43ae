/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Pins that give way: what those call who want them back.
 *
 * Copyright (C) 2026 the pins authors
 */
#ifndef _MM_PINS_REVOKE_H
#define _MM_PINS_REVOKE_H

#include <linux/pins_revoke.h>

bool __pins_revoke_range(unsigned long start_pfn, unsigned long end_pfn);

/**
 * pins_revoke_range() - take back the long-term pins of a range
 * @start_pfn: its first page
 * @end_pfn: behind its last page
 *
 * Context: process context, sleeps; the caller may hold any lock.
 * Return: whether pins are gone, or may soon be.
 */
static inline bool pins_revoke_range(unsigned long start_pfn, unsigned long end_pfn)
{
	return pins_may_revoke() && __pins_revoke_range(start_pfn, end_pfn);
}

#endif /* _MM_PINS_REVOKE_H */
