// SPDX-License-Identifier: GPL-2.0-only
/*
 * Could a long-term request fit its cgroup's limits?
 *
 * A request is charged when it has been pinned. By then its memory has been faulted
 * in and moved out of CMA, other memory has been reclaimed for it, and tasks may have
 * been killed; for nothing, if the limit refuses it. So if there may not be room for
 * all of it, its page tables are looked at first: who does not fit for certain is
 * refused at once, and nothing has happened.
 *
 * For certain means that each page which is counted will be one of its own, and is
 * not pinned by the cgroup already:
 *
 * - In private mappings that is what is not there yet, or is there without a record of
 *   the cgroup.
 * - Pages of a shared mapping may be mapped elsewhere, too, in the same request or in
 *   one that the cgroup has pinned before. Those of one mapping are different ones, and
 *   no more of them are pinned than the cgroup has pinned in all.
 *
 * What is not counted may turn out new all the same: such a request goes on, and is
 * refused when it is charged.
 *
 * Copyright (C) 2026 the pins authors
 */

#include <linux/fs.h>
#include <linux/hugetlb.h>
#include <linux/mm.h>
#include <linux/mmu_context.h>
#include <linux/pagemap.h>
#include <linux/pagewalk.h>
#include <linux/swap.h>
#include <linux/swapops.h>

#include <trace/events/pins.h>

#include "../internal.h"
#include "internal.h"
#ifdef CONFIG_PINS_REVOKE
#include <linux/pins_revoke.h>
#endif

/**
 * struct pins_fit - what is known of a request before it pins
 * @charge: who pays, and whose limit is in the way
 * @id: the number of that cgroup
 * @writes: whether it is FOLL_WRITE
 * @room: how many pages may be new
 * @most: no need to look further once more are
 * @pinned: how many pages the cgroup has pinned
 * @new: how many are new for certain, in private mappings
 * @shared: how many pages of the current mapping may be
 * @most_shared: the largest of these of any mapping
 */
struct pins_fit {
	struct pins_charge charge;
	u32 id;
	bool writes;
	unsigned long room;
	unsigned long most;
	unsigned long pinned;
	unsigned long new;
	unsigned long shared;
	unsigned long most_shared;
};

static unsigned long fit_needed(const struct pins_fit *fit)
{
	unsigned long shared = max(fit->shared, fit->most_shared);

	return fit->new + shared - min(shared, fit->pinned);
}

/*
 * Each page of a private mapping that is pinned for the long term is anonymous, and
 * nobody else's: GUP copies what is not, to be read as well as to be written.
 */
static bool fit_private(const struct mm_walk *walk)
{
	return vma_is_cow_mapping(walk->vma);
}

/* Pages that are not in the page table */
static void fit_missing(struct pins_fit *fit, const struct mm_walk *walk,
			unsigned long nr_pages)
{
	if (fit_private(walk))
		fit->new += nr_pages;
	else
		fit->shared += nr_pages;
}

/* Pages that are: of a folio, or else of none that can be charged */
static void fit_present(struct pins_fit *fit, const struct mm_walk *walk,
			struct page *page, unsigned long nr_pages)
{
	if (page ? !pins_map_may_hold(page_folio(page), fit->id) : fit_private(walk))
		fit_missing(fit, walk, nr_pages);
}

static int fit_pmd(pmd_t *pmd, unsigned long addr, unsigned long end,
		   struct mm_walk *walk)
{
	struct pins_fit *fit = walk->private;
	struct page *page;
	pte_t *start, *pte;
	spinlock_t *ptl;	/* of the page table */

	ptl = pmd_trans_huge_lock(pmd, walk->vma);
	if (ptl) {
		__acquire(ptl);	/* sparse does not know */
		if (pmd_present(*pmd)) {
			page = vm_normal_page_pmd(walk->vma, addr, *pmd);
			fit_present(fit, walk, page, (end - addr) / PAGE_SIZE);
		}
		spin_unlock(ptl);
		goto out;
	}

	start = pte_offset_map_lock(walk->mm, pmd, addr, &ptl);
	if (!start) {
		walk->action = ACTION_AGAIN;
		return 0;
	}
	__acquire(ptl);
	for (pte = start; addr < end; addr += PAGE_SIZE, pte++) {
		pte_t entry = ptep_get(pte);

		if (pte_present(entry)) {
			page = vm_normal_page(walk->vma, addr, entry);
			fit_present(fit, walk, page, 1);
		} else if (pte_none(entry) || softleaf_is_swap(softleaf_from_pte(entry))) {
			fit_missing(fit, walk, 1);
		}
	}
	pte_unmap_unlock(start, ptl);
out:
	cond_resched();
	return fit_needed(fit) > fit->most;
}

static int fit_hole(unsigned long addr, unsigned long end, int depth,
		    struct mm_walk *walk)
{
	struct pins_fit *fit = walk->private;

	if (!walk->vma)
		return -EFAULT;
	fit_missing(fit, walk, (end - addr) / PAGE_SIZE);
	return fit_needed(fit) > fit->most;
}

/* What is not to be pinned is GUP's to refuse: it says why. */
static int fit_vma(unsigned long addr, unsigned long end, struct mm_walk *walk)
{
	struct vm_area_struct *vma = walk->vma;
	struct pins_fit *fit = walk->private;

	fit->most_shared = max(fit->most_shared, fit->shared);
	fit->shared = 0;
	if (!(vma->vm_flags & (fit->writes ? VM_WRITE : VM_READ)) ||
	    (vma->vm_flags & (VM_IO | VM_PFNMAP | VM_SHADOW_STACK)) ||
	    !arch_vma_access_permitted(vma, fit->writes, false,
				       walk->mm != current->mm) ||
	    vma_is_fsdax(vma))
		return -EFAULT;
	/* There is nothing behind the end of a file. */
	if (vma->vm_file && !is_vm_hugetlb_page(vma) &&
	    linear_page_index(vma, end - PAGE_SIZE) >=
	    DIV_ROUND_UP_ULL(i_size_read(file_inode(vma->vm_file)), PAGE_SIZE))
		return -EFAULT;
	if (is_vm_hugetlb_page(vma)) {
		fit->shared = (end - addr) / PAGE_SIZE;
		return 1;
	}
	/* Only these can be pinned to be written, and others are not faulted in. */
	if (!fit_private(walk) && !vma_is_shmem(vma))
		return -EFAULT;
	return 0;
}

static const struct mm_walk_ops fit_ops = {
	.pmd_entry = fit_pmd,
	.pte_hole = fit_hole,
	.test_walk = fit_vma,
	.walk_lock = PGWALK_RDLOCK,
};

/* Does it need more than there is room for? */
static bool fit_exceeds(struct pins_fit *fit, struct mm_struct *mm, unsigned long start,
			unsigned long nr_pages)
{
	unsigned long end;
	int err;

	if (!mm) {
		fit->shared = nr_pages;
		return fit_needed(fit) > fit->room;
	}
	start = untagged_addr_remote(mm, start) & PAGE_MASK;
	if (check_add_overflow(start, nr_pages * PAGE_SIZE, &end))
		return false;
	err = walk_page_range(mm, start, end, &fit_ops, fit);
	return err >= 0 && fit_needed(fit) > fit->room;
}

/* The part of pins_refused() that needs no inlining. */
bool __pins_refused(struct mm_struct *mm, unsigned long start, unsigned long nr_pages,
		    unsigned int gup_flags, bool locked)
{
	struct pins_fit fit = { .writes = gup_flags & FOLL_WRITE };
	struct pins_charge *charge = &fit.charge;
	unsigned long until = 0, settled, now;
	bool ret;

	charge->pins = get_pins_cgroup_from_mm(mm);
	if (!charge->pins)
		return false;
	fit.id = pins_cgroup_id(charge->pins);

	do {
		ret = false;
		fit.room = pins_cgroup_room(charge, &settled);
		if (likely(nr_pages <= fit.room) || (gup_flags & FOLL_FORCE))
			break;
		fit.most = fit.room;
#ifdef CONFIG_PINS_REVOKE
		/* To make room for it, one has to know how much that is. */
		if (pins_may_revoke())
			fit.most = max(fit.room, pins_cgroup_least_max(charge->pins));
#endif
		fit.pinned = pins_cgroup_pinned(charge->pins);
		fit.new = 0;
		fit.shared = 0;
		fit.most_shared = 0;
		if (mm && !locked && mmap_read_lock_killable(mm))
			break;
		ret = fit_exceeds(&fit, mm, start, nr_pages);
		if (mm && !locked)
			mmap_read_unlock(mm);
		charge->needed = fit_needed(&fit);
		charge->worst = fit.new + max(fit.shared, fit.most_shared);
		/* What was released while it looked is room now, or pinned again. */
		ret &= charge->needed > pins_cgroup_room(charge, &now) && now == settled;
	} while (ret && pins_wait_released(charge, &until));

	if (ret) {
		trace_pins_refuse(pins_cgroup_ino(pins_cgroup_id(charge->limit)), 0, 0,
				  charge->needed);
		pins_cgroup_refused(charge);
	}
	put_pins_cgroup(charge->pins);
	return ret;
}
